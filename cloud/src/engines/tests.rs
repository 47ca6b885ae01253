use std::path::PathBuf;

use bytes::Bytes;

use super::*;

fn gate() -> OnnxFile {
    let bytes = std::fs::read("../models/factory/gate/1/model.onnx").unwrap();
    OnnxFile::read(Bytes::from(bytes), None).unwrap()
}

#[test]
fn without_a_library_there_is_one_engine_and_it_says_so() {
    let state = tempfile::tempdir().unwrap();
    let nothing = EnginesConfig { onnxruntime_library: Some(PathBuf::new()), ..EnginesConfig::default() };
    let engines = Engines::start(&nothing, state.path(), 2).unwrap();
    assert_eq!((engines.onnxruntime_library(), engines.found()), (None, &Found::SwitchedOff));
    let loaded = engines.load("gate", &gate(), &ModelConfig::default(), &[]).unwrap();
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
    let state = tempfile::tempdir().unwrap();
    let error = Engines::start(&config, state.path(), 1).unwrap_err().to_string();
    assert!(error.contains("`engines.onnxruntime_library`: /nowhere.so"), "{error}");
}

#[test]
fn a_configuration_that_asks_for_what_is_not_here_is_an_error_that_says_who_asks() {
    let (default, nothing) = (Preference::Onnxruntime, Some(PathBuf::new()));
    let config = EnginesConfig { default, onnxruntime_library: nothing, ..EnginesConfig::default() };
    let error = Engines::start(&config, Path::new("nowhere"), 1).unwrap_err().to_string();
    assert!(
        error.starts_with("`engines.onnxruntime_library`: ") && error.contains("`engines.default`"),
        "{error}"
    );
}
