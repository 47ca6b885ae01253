use millgate_shared::proto::inference::{
    ModelInstanceGroup, ModelOptimizationPolicy, ModelParameter,
    model_optimization_policy::{ExecutionAccelerators, execution_accelerators::Accelerator},
};
use millgate_shared::toml_file;

use super::*;

fn parse(text: &str) -> EnginesConfig {
    toml_file::parse("engines", text).unwrap()
}

fn with_parameter(name: &str, value: &str) -> ModelConfig {
    let value = ModelParameter { string_value: value.to_owned() };
    ModelConfig { parameters: [(name.to_owned(), value)].into(), ..ModelConfig::default() }
}

fn on_gpu(gpus: Vec<i32>) -> ModelConfig {
    let group = ModelInstanceGroup {
        kind: model_instance_group::Kind::Gpu.into(),
        gpus,
        ..ModelInstanceGroup::default()
    };
    ModelConfig { instance_group: vec![group], ..ModelConfig::default() }
}

fn accelerated(mut config: ModelConfig, name: &str) -> ModelConfig {
    let accelerator = Accelerator { name: name.to_owned(), ..Accelerator::default() };
    let all = ExecutionAccelerators {
        gpu_execution_accelerator: vec![accelerator],
        ..ExecutionAccelerators::default()
    };
    config.optimization = Some(ModelOptimizationPolicy {
        execution_accelerators: Some(all),
        ..ModelOptimizationPolicy::default()
    });
    config
}

#[test]
fn what_is_nearer_to_the_model_counts_and_the_operator_has_the_last_word() {
    let config = parse(
        "default = \"tract\"\nonnxruntime_library = \"x\"\n[models.a]\nengine = \"onnxruntime\"\nthreads = 3\n",
    );
    config.check().unwrap();
    let own = with_parameter("engine", "auto");
    let of = |name: &str, own: &ModelConfig| config.of(name, own).unwrap();
    let a = of("a", &own);
    assert_eq!((a.engine, a.threads), (Preference::Only(Kind::ONNX_RUNTIME), 3));
    assert!(a.asked_by.contains("pool"));
    let b = of("b", &own);
    assert_eq!((b.engine, b.threads), (Preference::Auto, 1));
    assert!(b.asked_by.contains("config.pbtxt"));
    let c = of("c", &ModelConfig::default());
    assert_eq!((c.engine, c.asked_by), (Preference::Only(Kind::TRACT), "`engines.default`"));
    assert_eq!((c.providers, c.may_lack), (vec![Provider::Cpu], false));
}

#[test]
fn tritons_ways_of_asking_for_a_gpu_are_understood() {
    let config = EnginesConfig::default();
    let of = |own: &ModelConfig| config.of("m", own).unwrap();
    let wanted = of(&on_gpu(vec![2]));
    assert_eq!(wanted.providers, [Provider::Cuda(2), Provider::Cpu]);
    assert!(wanted.may_lack, "such a repository may have come from another machine");
    let wanted = of(&accelerated(on_gpu(vec![]), "tensorrt"));
    assert_eq!(wanted.providers, [Provider::TensorRt(0), Provider::Cuda(0), Provider::Cpu]);
    assert_eq!(of(&with_parameter("intra_op_thread_count", "4")).threads, 4);
    assert_eq!(of(&with_parameter("intra_op_thread_count", "0")).threads, 1);
    for (own, words) in [
        (with_parameter("engine", "fast"), "`fast`"),
        (with_parameter("intra_op_thread_count", "many"), "`many`"),
        (accelerated(ModelConfig::default(), "magic"), "`magic`"),
        (on_gpu(vec![-1]), "gpus"),
    ] {
        let error = config.of("m", &own).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_key_that_asks_for_onnx_runtime_is_named() {
    assert_eq!(EnginesConfig::default().wants_onnxruntime(), None);
    for (text, key) in [
        ("default = \"onnxruntime\"", "engines.default"),
        ("execution_providers = [\"cuda\", \"cpu\"]", "execution_providers"),
        ("[models.m]\nexecution_providers = [\"cuda\"]", "execution_providers"),
        ("[models.m]\nengine = \"onnxruntime\"", "engines.models.m.engine"),
    ] {
        assert_eq!(parse(text).wants_onnxruntime().unwrap(), key, "{text}");
    }
    assert_eq!(parse("default = \"tract\"\n[models.m]\nengine = \"auto\"").wants_onnxruntime(), None);
}

#[test]
fn what_cannot_be_used_is_named() {
    EnginesConfig::default().check().unwrap();
    for (text, key, words) in [
        ("execution_providers = []", "engines.execution_providers", "at least one"),
        ("[models.m]\nthreads = 0", "engines.models", "`m`: threads"),
        ("[models.m]\nexecution_providers = [\"cpu\", \"cuda\"]", "engines.models", "after `cpu`"),
    ] {
        let (found, message) = parse(text).check().unwrap_err();
        assert_eq!(found, key, "{text}");
        assert!(message.contains(words), "{text}: {message}");
    }
    let refused = |text: &str| toml_file::parse::<EnginesConfig>("x", text).unwrap_err().to_string();
    assert!(refused("default = \"fast\"").contains("default"));
    assert!(refused("execution_providers = [\"gpu\"]").contains("`gpu`"));
    assert!(refused("[models.m]\nengin = \"tract\"").contains("engin"));
}
