use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use millgate_shared::array::Array;
use tempfile::TempDir;

use super::*;
use crate::engines::{Engines, EnginesConfig};
use crate::guests::{Guests, GuestsConfig};
use crate::principal::Standing;
use crate::serving::catalogue::Listed;
use crate::serving::config::CacheConfig;
use crate::serving::request::{Call, InferRequest, Named};

const GATE: &str = "../models/factory/gate/1/model.onnx";
const ENCODER: &str = "../models/factory/image-encoder/1/model.onnx";

fn put(root: &Path, path: &str, from: &str) {
    let to = root.join(path);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

fn write(root: &Path, path: &str, text: &str) {
    let to = root.join(path);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::write(to, text).unwrap();
}

/// `gate` with versions 1 and 3 and a configuration.
fn repository(config: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "gate/1/model.onnx", GATE);
    put(root.path(), "gate/3/model.onnx", GATE);
    std::fs::create_dir(root.path().join("gate/notes")).unwrap();
    std::fs::create_dir(root.path().join(".git")).unwrap();
    if !config.is_empty() {
        write(root.path(), "gate/config.pbtxt", config);
    }
    root
}

struct House {
    serving: Serving,
    repositories: Repositories,
}

impl House {
    fn of(root: &Path) -> Self {
        let nothing = EnginesConfig { onnxruntime_library: Some(PathBuf::new()), ..EnginesConfig::default() };
        let guests = Guests::new(None, &GuestsConfig::default());
        let engines = Engines::start(&nothing, Path::new("nowhere"), 1, &guests).unwrap();
        let serving =
            Serving::start((1, 16), engines, &CacheConfig::default(), Duration::ZERO, Strikes::default());
        let repositories = Repositories::new(&[root.to_path_buf()]);
        repositories.load_all(&serving).unwrap();
        Self { serving, repositories }
    }

    fn load(&self, name: &str) -> Result<(), String> {
        self.repositories.load(&self.serving, name).map_err(|failure| failure.to_string())
    }

    fn index(&self) -> Vec<(String, String, String)> {
        let listed = |Listed { name, version, reason, .. }| (name, version, reason.unwrap_or_default());
        self.serving.index().into_iter().map(listed).collect()
    }

    fn versions(&self, name: &str) -> Vec<u64> {
        self.serving.versions(name).iter().map(|served| served.version).collect()
    }
}

#[test]
fn the_policy_says_which_versions_are_served() {
    for (config, versions) in [
        ("", &[3][..]),
        ("version_policy { all {} }", &[1, 3]),
        ("version_policy { latest { num_versions: 2 } }", &[1, 3]),
        ("version_policy { specific { versions: [1] } }", &[1]),
    ] {
        let root = repository(config);
        let house = House::of(root.path());
        assert_eq!(house.versions("gate"), versions, "{config}");
        assert_eq!(house.serving.find("gate", "").unwrap().version, *versions.last().unwrap());
        assert!(matches!(house.serving.find("gate", "2"), Err(Failure::UnknownVersion { .. })));
        assert!(matches!(house.serving.find("gate", "01"), Err(Failure::UnknownVersion { .. })));
    }
    let house = House::of(repository("version_policy { specific { versions: [1, 9] } }").path());
    let reason = "version_policy names it, and it is not there".to_owned();
    let row = |version: &str, reason: String| ("gate".to_owned(), version.to_owned(), reason);
    assert_eq!(house.index(), [row("1", String::new()), row("9", reason)]);
}

#[test]
fn a_reload_keeps_what_is_the_same_and_drops_what_is_gone() {
    let root = repository("version_policy { all {} }");
    let house = House::of(root.path());
    let before = house.serving.versions("gate");
    std::fs::remove_dir_all(root.path().join("gate/1")).unwrap();
    put(root.path(), "gate/4/model.onnx", ENCODER);
    house.load("gate").unwrap();
    assert_eq!(house.versions("gate"), [3, 4]);
    assert!(Arc::ptr_eq(&before[1], &house.serving.find("gate", "3").unwrap()));
    // The same version with another file is another model; so it is with another configuration.
    put(root.path(), "gate/4/model.onnx", GATE);
    let encoder = house.serving.find("gate", "4").unwrap();
    house.load("gate").unwrap();
    assert!(!Arc::ptr_eq(&encoder, &house.serving.find("gate", "4").unwrap()));
    write(root.path(), "gate/config.pbtxt", "version_policy { all {} } max_batch_size: 4");
    house.load("gate").unwrap();
    assert!(!Arc::ptr_eq(&before[1], &house.serving.find("gate", "3").unwrap()));
    assert_eq!(house.serving.find("gate", "3").unwrap().most_rows(), 4);
}

#[test]
fn a_reload_that_fails_changes_nothing_and_says_why() {
    let root = repository("version_policy { all {} }");
    let house = House::of(root.path());
    let (before, index) = (house.serving.versions("gate"), house.index());
    write(root.path(), "gate/5/model.onnx", "no model");
    let error = house.load("gate").unwrap_err();
    assert!(error.contains("version 5: model.onnx: ") && error.contains("not an ONNX file"), "{error}");
    write(root.path(), "gate/config.pbtxt", "max_batch: 8");
    assert!(house.load("gate").unwrap_err().contains("config.pbtxt: line 1"));
    std::fs::remove_dir_all(root.path().join("gate")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("not here"));
    assert_eq!(house.index(), index);
    for (before, now) in before.iter().zip(house.serving.versions("gate")) {
        assert!(Arc::ptr_eq(before, &now));
    }
    // At first, nothing of a model is served unless all of it is.
    write(root.path(), "half/1/model.onnx", "no model");
    put(root.path(), "half/2/model.onnx", GATE);
    write(root.path(), "half/config.pbtxt", "version_policy { all {} }");
    let house = House::of(root.path());
    let reasons: Vec<(String, String)> =
        house.index().into_iter().map(|(_, version, reason)| (version, reason)).collect();
    assert!(reasons[0].0 == "1" && reasons[0].1.contains("not an ONNX file"), "{reasons:?}");
    assert_eq!(reasons[1], ("2".to_owned(), "another version cannot be served".to_owned()));
    assert!(matches!(house.serving.find("half", ""), Err(Failure::Unservable { .. })));
    std::fs::remove_dir_all(root.path().join("half/1")).unwrap();
    house.load("half").unwrap();
    assert_eq!(house.versions("half"), [2]);
}

#[test]
fn an_unloaded_model_is_gone_until_it_is_loaded() {
    let root = repository("version_policy { all {} }");
    let house = House::of(root.path());
    house.repositories.unload(&house.serving, "gate").unwrap();
    house.repositories.unload(&house.serving, "gate").unwrap();
    assert!(house.serving.find("gate", "").unwrap_err().to_string().contains("unloaded"));
    assert!(house.index().iter().all(|(_, _, reason)| reason == "unloaded"));
    assert!(house.repositories.unload(&house.serving, "nobody").is_err());
    house.load("gate").unwrap();
    assert_eq!(house.versions("gate"), [1, 3]);
}

#[tokio::test]
async fn what_was_asked_before_a_model_went_is_answered() {
    // Whoever asks waits for company, so that it stands in the queue when its model goes.
    let delay = |micros: u32| format!("dynamic_batching {{ max_queue_delay_microseconds: {micros} }}");
    let root = repository(&delay(200_000));
    let house = House::of(root.path());
    let request = || {
        let served = house.serving.find("gate", "").unwrap();
        let named = |port: &millgate_shared::engine::Port| {
            let shape: Vec<usize> = port.wire_shape().iter().map(|axis| *axis.max(&1) as usize).collect();
            let values = vec![0.5_f32; shape.iter().product()].into();
            Named { name: port.name.clone(), array: Array::new(shape, values).unwrap() }
        };
        let inputs = served.signature().inputs.iter().map(named).collect();
        InferRequest { model: "gate".to_owned(), inputs, ..InferRequest::default() }
    };
    let ask = || {
        let now = Instant::now();
        let standing = Arc::new(Standing::local());
        Box::pin(house.serving.infer(request(), Call::new(standing, now, now + Duration::from_secs(60))))
    };
    let before = Arc::downgrade(&house.serving.find("gate", "").unwrap());
    let mut replaced = ask();
    assert!((&mut replaced).now_or_never().is_none());
    write(root.path(), "gate/config.pbtxt", &delay(200_001));
    house.load("gate").unwrap();
    let mut unloaded = ask();
    assert!((&mut unloaded).now_or_never().is_none());
    house.repositories.unload(&house.serving, "gate").unwrap();
    assert_eq!(replaced.await.unwrap().version, "3");
    assert_eq!(unloaded.await.unwrap().version, "3");
    assert!(house.serving.find("gate", "").is_err());
    // And then it is gone for good, as soon as the thread that answered lets go of it.
    while before.upgrade().is_some() {
        std::thread::yield_now();
    }
}

const MLMODEL: &str = "flavors:\n  onnx: {data: DATA, onnx_version: 1.16.0}\n  python_function: {loader_module: x}\n\
                       mlflow_version: 2.14.1\nrun_id: 0123\n";

#[test]
fn a_folder_as_mlflow_writes_it_is_served() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "plain/model.onnx", GATE);
    put(root.path(), "single/model.onnx", GATE);
    write(root.path(), "single/MLmodel", &MLMODEL.replace("DATA", "model.onnx"));
    put(root.path(), "folder/data/only.onnx", GATE);
    write(root.path(), "folder/MLmodel", &MLMODEL.replace("DATA", "data"));
    write(root.path(), "folder/config.pbtxt", "max_batch_size: 2");
    put(root.path(), "versions/7/model.onnx", GATE);
    write(root.path(), "versions/7/MLmodel", &MLMODEL.replace("DATA", "model.onnx"));
    let house = House::of(root.path());
    for (name, version) in [("plain", 1), ("single", 1), ("folder", 1), ("versions", 7)] {
        assert_eq!(house.versions(name), [version], "{:?}", house.index());
    }
    let config = crate::oip::describe::config(&house.serving.find("folder", "").unwrap());
    assert_eq!(config.parameters["mlflow.run_id"].string_value, "0123");
    assert_eq!(
        (config.max_batch_size, config.parameters["mlflow.mlflow_version"].string_value.as_str()),
        (2, "2.14.1")
    );
    let before = house.serving.find("single", "").unwrap();
    house.load("single").unwrap();
    assert!(Arc::ptr_eq(&before, &house.serving.find("single", "").unwrap()));
}

#[test]
fn a_folder_that_says_two_things_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mlmodel = |name: &str, data: &str| {
        write(root.path(), &format!("{name}/MLmodel"), &MLMODEL.replace("DATA", data));
    };
    mlmodel("both", "model.onnx");
    put(root.path(), "both/1/model.onnx", GATE);
    mlmodel("out", "../both/1/model.onnx");
    mlmodel("absolute", "/etc/passwd");
    mlmodel("none", "model.onnx");
    mlmodel("two", "data");
    put(root.path(), "two/data/a.onnx", GATE);
    put(root.path(), "two/data/b.onnx", GATE);
    mlmodel("other", "model.onnx");
    put(root.path(), "other/model.onnx", GATE);
    write(root.path(), "other/config.pbtxt", "default_model_filename: \"x.onnx\"");
    write(root.path(), "pickle/MLmodel", "flavors: {sklearn: {pickled_model: model.pkl}}");
    put(root.path(), "wrong/model.onnx", GATE);
    let signature =
        "signature: {inputs: '[{\"name\": \"q\", \"tensor-spec\": {\"dtype\": \"int8\", \"shape\": []}}]'}\n";
    write(root.path(), "wrong/MLmodel", &(MLMODEL.replace("DATA", "model.onnx") + signature));
    put(root.path(), "a b/1/model.onnx", GATE);
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let house = House::of(root.path());
    let index = house.index();
    for (name, words) in [
        ("both", "holds both"),
        ("out", "flavors.onnx.data"),
        ("absolute", "flavors.onnx.data"),
        ("none", "model.onnx: No such file"),
        ("two", "2 .onnx files"),
        ("other", "x.onnx"),
        ("pickle", "run Python"),
        ("wrong", "MLmodel: signature.inputs: the model has no `q`"),
        ("a b", "letters, digits"),
        ("empty", "no folder named by a version number"),
    ] {
        let (_, _, reason) = index.iter().find(|(of, _, _)| of == name).unwrap();
        assert!(reason.contains(words), "{name}: {reason}");
    }
}

#[test]
fn a_models_own_folder_may_be_given() {
    let parent = tempfile::tempdir().unwrap();
    put(parent.path(), "triton/1/model.onnx", GATE);
    put(parent.path(), "triton/2/model.onnx", GATE);
    put(parent.path(), "mlflow/model.onnx", GATE);
    write(parent.path(), "mlflow/MLmodel", &MLMODEL.replace("DATA", "model.onnx"));
    // A model that is called by a number, in Triton's shape.
    put(parent.path(), "numbers/7/1/model.onnx", GATE);
    for (folder, name, version) in [("triton", "triton", 2), ("mlflow", "mlflow", 1), ("numbers", "7", 1)] {
        let house = House::of(&parent.path().join(folder));
        assert_eq!(house.versions(name), [version], "{:?}", house.index());
        house.load(name).unwrap();
        assert!(house.load("nobody").is_err());
    }
}

#[test]
fn what_cannot_be_served_says_which_field() {
    for (config, words) in [
        ("max_batch_size: -1", "max_batch_size"),
        ("max_batch: 8", "max_batch"),
        ("name: \"other\"", "`other`"),
        ("version_policy { specific { versions: [2] } }", "version_policy"),
        ("input [{ name: \"nobody\" data_type: TYPE_FP32 dims: [4] }]", "`nobody`"),
        ("output [{ name: \"scores\" data_type: TYPE_INT8 dims: [-1] }]", "TYPE_INT8"),
        ("output [{ name: \"scores\" data_type: TYPE_FP32 dims: [99] }]", "dims"),
        ("backend: \"python\"", "backend"),
        ("platform: \"tensorrt_plan\"", "platform"),
        ("sequence_batching {}", "sequence_batching"),
        ("ensemble_scheduling {}", "ensemble_scheduling"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ("default_model_filename: \"../x\"", "default_model_filename"),
        ("input [{ allow_ragged_batch: true }]", "allow_ragged_batch"),
        ("dynamic_batching { priority_levels: 2 }", "default_priority_level"),
        ("model_warmup { name: \"w\" }", "model_warmup `w`.inputs"),
        ("{{{{", "config.pbtxt"),
    ] {
        let house = House::of(repository(config).path());
        let reason = house.serving.find("gate", "").unwrap_err().to_string();
        assert!(reason.contains(words), "{config}: {reason}");
    }
}

#[test]
fn a_model_is_warmed_up_as_it_asks() {
    let root = repository("");
    let house = House::of(root.path());
    let gate = house.serving.find("gate", "").unwrap();
    let known = |axis: &i64| if *axis < 0 { 2 } else { *axis };
    let mut warmup = String::new();
    for (at, port) in gate.signature().inputs.iter().enumerate() {
        let dims: Vec<String> = port.wire_shape()[1..].iter().map(|axis| known(axis).to_string()).collect();
        let kind = crate::oip::describe::data_type(port.datatype).as_str_name();
        let data = if at % 2 == 0 { "random_data" } else { "zero_data" };
        warmup += &format!(
            "inputs {{ key: \"{}\" value {{ data_type: {kind} dims: [{}] {data}: true }} }}\n",
            port.name,
            dims.join(", ")
        );
    }
    let config = |more: &str| {
        let text = format!("max_batch_size: 4\nmodel_warmup [{{ name: \"w\" {more}\n{warmup} }}]");
        write(root.path(), "gate/config.pbtxt", &text);
    };
    config("batch_size: 3 count: 2");
    house.load("gate").unwrap();
    for (more, words) in [
        ("batch_size: 9", "batch_size: 9"),
        ("count: 100000", "count"),
        ("inputs { key: \"q\" value {} }", "`q`"),
    ] {
        config(more);
        let error = house.load("gate").unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let file = warmup.replacen("random_data: true", "input_data_file: \"x.bin\"", 1);
    let text = format!("max_batch_size: 4\nmodel_warmup [{{ name: \"w\" {file} }}]");
    write(root.path(), "gate/config.pbtxt", &text);
    assert!(house.load("gate").unwrap_err().contains("input_data_file: x.bin: "));
    write(root.path(), "gate/warmup/x.bin", "short");
    assert!(house.load("gate").unwrap_err().contains("bytes, got 5"));
    let axes = gate.signature().inputs[0].wire_shape();
    let count: usize = axes[1..].iter().map(|axis| usize::try_from(known(axis)).unwrap()).product();
    std::fs::write(root.path().join("gate/warmup/x.bin"), vec![0; 4 * count]).unwrap();
    house.load("gate").unwrap();
}

#[cfg(unix)]
#[test]
fn what_leads_out_or_is_no_file_is_refused() {
    use std::os::unix::fs::symlink;
    let (root, outside) = (repository(""), tempfile::tempdir().unwrap());
    let gate = |path: &str| root.path().join("gate").join(path);
    put(outside.path(), "model.onnx", GATE);
    let house = House::of(root.path());
    symlink(outside.path(), gate("7")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("leads out of the repository"));
    std::fs::remove_file(gate("7")).unwrap();
    symlink("3", gate("8")).unwrap();
    std::fs::create_dir(gate("09")).unwrap();
    house.load("gate").unwrap();
    assert_eq!(house.versions("gate"), [8]);
    std::fs::remove_file(gate("3/model.onnx")).unwrap();
    symlink("nowhere", gate("3/model.onnx")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("version 8: model.onnx: "));
    symlink("nowhere", gate("10")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("version 10: model.onnx: "));
    std::fs::remove_file(gate("10")).unwrap();
    symlink("nowhere", gate("config.pbtxt")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("config.pbtxt"));
    std::fs::remove_file(gate("config.pbtxt")).unwrap();
    std::fs::create_dir(gate("config.pbtxt")).unwrap();
    assert!(house.load("gate").unwrap_err().contains("is no plain file"));
    assert_eq!(house.versions("gate"), [8]);
    symlink("nowhere", root.path().join("dangling")).unwrap();
    let house = House::of(root.path());
    let index = house.index();
    let (_, _, reason) = index.iter().find(|(name, _, _)| name == "dangling").unwrap();
    assert!(reason.contains("dangling"), "{reason}");
    assert!(Repositories::new(&[root.path().join("nobody")]).load_all(&house.serving).is_err());
}

#[test]
fn ten_thousand_folders_are_listed_each_with_its_reason() {
    let root = tempfile::tempdir().unwrap();
    for model in 0..10_000 {
        std::fs::create_dir(root.path().join(format!("m{model}"))).unwrap();
    }
    put(root.path(), "good/1/model.onnx", GATE);
    let house = House::of(root.path());
    assert_eq!(house.index().len(), 10_001);
    assert_eq!(house.versions("good"), [1]);
}

/// A file that is written over and over while it is loaded: what is served was whole.
#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_or_whole() {
    let root = repository("");
    let house = House::of(root.path());
    let path = root.path().join("gate/3/model.onnx");
    let (gate, encoder) = (std::fs::read(GATE).unwrap(), std::fs::read(ENCODER).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [&gate, &encoder].into_iter().cycle();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(&path, bytes.next().unwrap()).unwrap();
            }
        });
        for _ in 0..20 {
            // Either is an answer; what is served is never half a file.
            let _either = house.load("gate");
            let digest = house.serving.find("gate", "").unwrap().traits.digest.unwrap();
            assert!(digest == file_digest(&gate) || digest == file_digest(&encoder));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn file_digest(bytes: &[u8]) -> [u8; 32] {
    digest([bytes])
}
