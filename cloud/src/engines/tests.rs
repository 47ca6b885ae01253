use std::path::PathBuf;

use bytes::Bytes;

use super::*;

fn gate() -> OnnxFile {
    let bytes = std::fs::read("../models/factory/gate/1/model.onnx").unwrap();
    OnnxFile::read(Bytes::from(bytes), None).unwrap()
}

#[test]
fn without_a_library_there_is_one_engine_and_it_says_so() {
    let engines = Engines::start(&EnginesConfig::default(), 2).unwrap();
    assert_eq!(engines.onnxruntime_library(), None);
    let loaded = engines.load("gate", &gate(), &ModelConfig::default()).unwrap();
    assert_eq!((loaded.choice.engine, loaded.model.engine()), ("tract", "tract"));
    assert_eq!(loaded.choice.why, "the only engine of this pool");
    assert!(loaded.trial.rows_are_independent && loaded.choice.measured.best <= loaded.choice.measured.alone);
    let error = engines.load_with(Kind::OnnxRuntime, "gate", &gate(), &ModelConfig::default(), String::new());
    let error = error.unwrap_err();
    assert!(error.contains("engines.onnxruntime_library"), "{error}");
}

#[test]
fn a_library_that_cannot_be_loaded_is_an_error_with_its_key() {
    let config =
        EnginesConfig { onnxruntime_library: Some(PathBuf::from("/nowhere.so")), ..EnginesConfig::default() };
    let error = Engines::start(&config, 1).unwrap_err().to_string();
    assert!(error.contains("`engines.onnxruntime_library`: /nowhere.so"), "{error}");
}

#[test]
fn a_difference_names_the_output() {
    let of = |rows: usize, value: f32| {
        vec![(rows, vec![Array::new(vec![rows], vec![value; rows].into()).unwrap()])]
    };
    let outputs = |value: f32| of(1, value);
    assert_eq!(between(&["y"], &outputs(1.0), &outputs(1.000_1)), None);
    assert_eq!(between(&["y"], &outputs(1.0), &outputs(2.0)).unwrap(), "`y` is 1 at 0, not 2");
    assert_eq!(between(&["y"], &of(2, 1.0), &of(4, 1.0)), None, "nothing to compare");
}
