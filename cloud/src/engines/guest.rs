//! Engines whose models live in worker processes: how the pool asks for one, and how the worker opens it.

use std::path::{Path, PathBuf};

use millgate_shared::engine::{Engine, EngineError, Tract};
use serde::{Deserialize, Serialize};

use super::onnxruntime::{OnnxRuntime, Tuning};
use super::providers::Provider;
use crate::guests::{Facts, Guests, Household, Spec};

/// What a worker is told of ONNX Runtime.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    library: PathBuf,
    threads: usize,
    providers: Vec<Provider>,
    may_lack: bool,
    plain: bool,
}

/// What a worker has seen of an ONNX Runtime library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// What the library says of its own build, version first.
    pub(crate) build: String,
    /// Those that it was built with, on their first device.
    pub(crate) providers: Vec<Provider>,
}

impl Seen {
    /// True if the library was built with it, whatever its device.
    pub(crate) fn has(&self, provider: Provider) -> bool {
        self.providers.iter().any(|seen| std::mem::discriminant(seen) == std::mem::discriminant(&provider))
    }
}

/// Gives an engine twice, for whoever compares: in this process, and in a worker that ends with the engine and its
/// models. `library`: of ONNX Runtime; `None`: tract.
pub fn both(guests: &Guests, library: Option<&Path>) -> Result<[Box<dyn Engine>; 2], EngineError> {
    let household = guests.household("both");
    Ok(match library {
        None => [Box::new(Tract), tract(guests, &household)],
        Some(library) => {
            let usual = Tuning::default();
            let here = open_here(OnnxRuntime::NAME, &settings(library, &usual)?)?;
            [here, onnxruntime(guests, &household, library, &usual)?]
        }
    })
}

/// tract, in a worker.
pub(crate) fn tract(guests: &Guests, household: &Household) -> Box<dyn Engine> {
    let facts = Facts { plans_by_shape: true, takes_zero_bytes: true };
    guests.engine(Spec { engine: Tract::NAME, settings: String::new(), facts }, household)
}

/// ONNX Runtime, in a worker that loads this library.
pub(crate) fn onnxruntime(
    guests: &Guests,
    household: &Household,
    library: &Path,
    tuning: &Tuning,
) -> Result<Box<dyn Engine>, EngineError> {
    let facts = Facts { plans_by_shape: false, takes_zero_bytes: false };
    let settings = settings(library, tuning)?;
    Ok(guests.engine(Spec { engine: OnnxRuntime::NAME, settings, facts }, household))
}

/// Loads an ONNX Runtime library in a worker that ends afterwards: one that is broken ends only that.
pub(crate) fn look(guests: &Guests, library: &Path) -> Result<Seen, EngineError> {
    let seen = guests.look(OnnxRuntime::NAME, settings(library, &Tuning::default())?)?;
    serde_json::from_str(&seen).map_err(|error| EngineError::Prepare(error.to_string()))
}

fn settings(library: &Path, tuning: &Tuning) -> Result<String, EngineError> {
    let refuse = |what: String| EngineError::Prepare(format!("{}: {what}", library.display()));
    // The worker may have another idea of where it is.
    let library = library.canonicalize().map_err(|error| refuse(error.to_string()))?;
    let Tuning { threads, providers, may_lack, plain } = tuning.clone();
    let settings = Settings { library, threads, providers, may_lack, plain };
    serde_json::to_string(&settings).map_err(|error| refuse(error.to_string()))
}

/// Opens an engine in this process, which is a worker.
pub(crate) fn open_here(engine: &str, settings: &str) -> Result<Box<dyn Engine>, EngineError> {
    match engine {
        Tract::NAME => Ok(Box::new(Tract)),
        OnnxRuntime::NAME => Ok(Box::new(opened(settings)?)),
        other => Err(EngineError::Prepare(format!("a worker has no engine `{other}`"))),
    }
}

/// Opens an engine in this process, which is a worker, and says what it is.
pub(crate) fn look_here(engine: &str, settings: &str) -> Result<String, EngineError> {
    if engine != OnnxRuntime::NAME {
        return Err(EngineError::Prepare(format!("there is nothing to be seen of `{engine}`")));
    }
    let opened = opened(settings)?;
    let all = [Provider::Cpu, Provider::Cuda(0), Provider::TensorRt(0)];
    let lacking = opened.lacks(&all);
    let providers = all.into_iter().filter(|provider| !lacking.contains(provider)).collect();
    let seen = Seen { build: opened.build().to_owned(), providers };
    serde_json::to_string(&seen).map_err(|error| EngineError::Prepare(error.to_string()))
}

fn opened(settings: &str) -> Result<OnnxRuntime, EngineError> {
    let settings: Settings =
        serde_json::from_str(settings).map_err(|error| EngineError::Prepare(error.to_string()))?;
    let Settings { library, threads, providers, may_lack, plain } = settings;
    let opened = OnnxRuntime::open(&library).map_err(|error| EngineError::Prepare(error.to_string()))?;
    Ok(opened.tuned(Tuning { threads, providers, may_lack, plain }))
}
