use std::path::PathBuf;

use bytes::Bytes;
use millgate_shared::engine::{Session, Signature};

use super::table::Entry;
use super::*;
use crate::guests::GuestsConfig;

/// Another engine, as far as anyone can see: here where a configuration asks for it.
pub(super) const RENAMED: Entry = Entry {
    name: "renamed",
    is_here: |engines| Preference::from_name("renamed") == Ok(engines.config.default),
    open: |_, _, _| Ok(Box::new(Renamed)),
};

#[derive(Debug)]
struct Renamed;

#[derive(Debug)]
struct RenamedModel(Arc<dyn Model>);

impl Engine for Renamed {
    fn name(&self) -> &'static str {
        RENAMED.name
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        Ok(Arc::new(RenamedModel(Tract.load(file, shapes)?)))
    }
}

impl Model for RenamedModel {
    fn engine(&self) -> &'static str {
        RENAMED.name
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Arc::clone(&self.0).session()
    }
}

fn nobody() -> Guests {
    Guests::new(None, &GuestsConfig::default())
}

fn gate() -> OnnxFile {
    let bytes = std::fs::read("../models/factory/gate/1/model.onnx").unwrap();
    OnnxFile::read(Bytes::from(bytes), None).unwrap()
}

#[test]
fn without_a_library_there_is_one_engine_and_it_says_so() {
    let state = tempfile::tempdir().unwrap();
    let nothing = EnginesConfig { onnxruntime_library: Some(PathBuf::new()), ..EnginesConfig::default() };
    let engines = Engines::start(&nothing, state.path(), 2, &nobody()).unwrap();
    assert_eq!((engines.onnxruntime_library(), engines.found()), (None, &Found::SwitchedOff));
    let loaded = engines.load("gate", &gate(), &ModelConfig::default(), &[], &Home::own("gate")).unwrap();
    assert_eq!((loaded.choice.engine, loaded.model.engine()), ("tract", "tract"));
    assert_eq!(loaded.choice.why, "the only engine of this pool");
    assert!(loaded.trial.rows_are_independent && loaded.choice.measured.best <= loaded.choice.measured.alone);
    let error = engines.load_with(Kind::ONNX_RUNTIME, "gate", &gate(), &Home::own("gate"), String::new());
    let error = error.unwrap_err();
    assert!(error.reason.contains("engines.onnxruntime_library") && !error.has_ended, "{error:?}");
}

#[test]
fn a_library_that_cannot_be_loaded_is_an_error_with_its_key() {
    let config =
        EnginesConfig { onnxruntime_library: Some(PathBuf::from("/nowhere.so")), ..EnginesConfig::default() };
    let state = tempfile::tempdir().unwrap();
    let error = Engines::start(&config, state.path(), 1, &nobody()).unwrap_err().to_string();
    assert!(error.contains("`engines.onnxruntime_library`: /nowhere.so"), "{error}");
}

#[test]
fn a_configuration_that_asks_for_what_is_not_here_is_an_error_that_says_who_asks() {
    let (default, nothing) = (Preference::Only(Kind::ONNX_RUNTIME), Some(PathBuf::new()));
    let config = EnginesConfig { default, onnxruntime_library: nothing, ..EnginesConfig::default() };
    let error = Engines::start(&config, Path::new("nowhere"), 1, &nobody()).unwrap_err().to_string();
    assert!(
        error.starts_with("`engines.onnxruntime_library`: ") && error.contains("`engines.default`"),
        "{error}"
    );
}

#[test]
fn an_engine_of_the_table_runs_what_asks_for_it_by_name() {
    let state = tempfile::tempdir().unwrap();
    let nothing = Some(PathBuf::new());
    let default = Preference::from_name("renamed").unwrap();
    let config = EnginesConfig { default, onnxruntime_library: nothing, ..EnginesConfig::default() };
    let engines = Engines::start(&config, state.path(), 1, &nobody()).unwrap();
    let loaded = engines.load("gate", &gate(), &ModelConfig::default(), &[], &Home::own("gate")).unwrap();
    assert_eq!((loaded.choice.name().as_str(), loaded.model.engine()), ("renamed", "renamed"));
    let (file, wanted) = (gate(), engines.config.of("gate", &ModelConfig::default()).unwrap());
    let job = Job { file: &file, wanted: &wanted, given: &[], home: &Home::own("gate") };
    let compared = engines.or_faster(loaded, Kind::TRACT, job).choice;
    let [other] = compared.alternatives.as_slice() else { panic!("{compared:?}") };
    assert!(other.outcome.is_ok() && other.engine != compared.engine, "{compared:?}");
    let error = Preference::from_name("fast").unwrap_err();
    assert_eq!(error, "`fast` is none of auto, tract, onnxruntime, renamed");
}
