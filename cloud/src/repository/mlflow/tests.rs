use std::sync::Arc;

use millgate_shared::engine::{Axis, Port};

use super::*;

/// A page as MLflow 2 writes it, with all that is not read.
const PAGE: &str = r#"artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.16.1
    onnx_session_options: null
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: 3.11.9
is_signature_from_type_hint: false
mlflow_version: 2.20
model_size_bytes: 98523
model_uuid: 55e1070ae2d84d4390ab9aa9f4e4e5e1
prompts: null
run_id: 12e45678901234567890123456789012
saved_input_example_info:
  artifact_path: input_example.json
  type: ndarray
signature:
  inputs: '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape":
    [-1, 4]}}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
type_hint_from_example: false
utc_time_created: '2025-02-03 10:11:12.345678'
"#;

fn signature() -> Signature {
    let port =
        |name: &str, datatype, shape: Vec<Axis>| Port { name: name.to_owned(), datatype, shape: Some(shape) };
    Signature {
        inputs: vec![port("x", Datatype::Fp32, vec![Axis::Named("N".to_owned()), Axis::Fixed(4)])],
        outputs: vec![port("y", Datatype::Int64, vec![Axis::Any])],
        ..Signature::default()
    }
}

#[test]
fn what_is_wanted_is_read_and_the_rest_passed_over() {
    let page = parse(PAGE).unwrap();
    assert_eq!(page.data, "model.onnx");
    let origin: Vec<(&str, &str)> = page.origin.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        origin,
        [
            ("mlflow.model_uuid", "55e1070ae2d84d4390ab9aa9f4e4e5e1"),
            ("mlflow.run_id", "12e45678901234567890123456789012"),
            ("mlflow.utc_time_created", "2025-02-03 10:11:12.345678"),
            ("mlflow.mlflow_version", "2.20"),
        ]
    );
    page.check(&signature()).unwrap();
    // The least that is a model.
    assert_eq!(parse("flavors: {onnx: {data: m}}").unwrap().data, "m");
}

#[test]
fn what_it_says_of_tensors_must_be_so() {
    for (from, to, words) in [
        (r#""x""#, r#""z""#, "signature.inputs: the model has no `z`"),
        ("float32", "int32", "signature.inputs `x`.dtype: is `int32`, the model's is FP32"),
        ("[-1, 4]", "[-1, 5]", "signature.inputs `x`.shape: is [-1, 5], the model's [-1, 4]"),
        ("[-1, 4]", "[-1]", "signature.inputs `x`.shape"),
        ("int64", "datetime64[ns]", "signature.outputs `y`.dtype"),
    ] {
        let error = parse(&PAGE.replace(from, to)).unwrap().check(&signature()).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    // What a table held is narrowed by MLflow too; columns say nothing of tensors.
    parse(&PAGE.replace("float32", "float64")).unwrap().check(&signature()).unwrap();
    let columns = r#"[{"type": "double", "name": "a", "required": true}, {"type": "long", "name": "b"}]"#;
    let page = format!("flavors: {{onnx: {{data: m}}}}\nsignature: {{inputs: '{columns}', outputs: 'null'}}");
    parse(&page).unwrap().check(&signature()).unwrap();
}

#[test]
fn what_cannot_be_served_says_why() {
    for (page, words) in [
        (
            "flavors: {python_function: {model_path: model.pkl}, sklearn: {pickled_model: model.pkl}}",
            "no `onnx`",
        ),
        ("flavors: {python_function: {model_path: model.pkl}}", "python_function"),
        ("flavors: {onnx: null}", "flavors.onnx.data"),
        ("flavors: {onnx: {data: [1]}}", "flavors.onnx.data"),
        ("artifact_path: model", "flavors"),
        ("flavors: {onnx: {data: m}}\nsignature: {inputs: '[{'}", "signature.inputs"),
        ("flavors: {onnx: {data: m}}\nsignature: {inputs: '[{\"tensor-spec\": {}}]'}", "dtype"),
        ("flavors: [", "line"),
        ("a: 1\n---\nb: 2", ""),
        ("", ""),
    ] {
        let error = parse(page).unwrap_err();
        assert!(error.contains(words), "{page}: {error}");
    }
}

#[test]
fn a_page_made_to_grow_or_to_nest_is_an_error_not_a_crash() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = format!("*a{}, ", level - 1).repeat(9);
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    bomb += "flavors: {onnx: {data: *a11}}\n";
    let indented: String = (0..20_000).map(|depth| " ".repeat(depth % 600) + "a:\n").collect();
    for page in [
        bomb,
        "[".repeat(100_000),
        "flavors: ".to_owned() + &"{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        indented,
        "flavors: {onnx: {data: ".to_owned() + &"[".repeat(10_000) + &"]".repeat(10_000) + "}}",
        "signature: {inputs: '".to_owned() + &"[".repeat(100_000) + "'}\nflavors: {onnx: {data: m}}",
    ] {
        let page: Arc<str> = page.into();
        let start = page.chars().take(24).collect::<String>();
        // As small as the stacks that models are loaded on.
        let outcome = std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(&page).is_err());
        assert!(outcome.unwrap().join().unwrap(), "{start}");
    }
}
