//! The engines that this pool has, and which one runs a model: the one that is asked for, or the faster one, measured
//! when the model is loaded.
//!
//! * `config`: what an operator and a model's own configuration can say.
//! * `trial`: a model's first runs with one engine. `choice`: from these to a decision. `closeness`: the same answer?
//! * `onnxruntime`: the second engine; `providers`: what it computes with.

use std::sync::Arc;

use millgate_shared::array::Array;
use millgate_shared::engine::{Engine, EngineError, Model, OnnxFile, Shapes, Tract};
use millgate_shared::proto::inference::ModelConfig;

use choice::{Choice, Measured};
use config::Wanted;
pub use config::{EnginesConfig, ModelEngine, Preference};
use onnxruntime::{LibraryError, OnnxRuntime, Tuning};
pub use providers::Provider;
use trial::Trial;

pub(crate) mod choice;
mod closeness;
mod config;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(not(feature = "onnxruntime"))]
#[expect(dead_code, reason = "there is no engine to be told")]
#[path = "engines/without.rs"]
mod onnxruntime;
#[cfg_attr(not(feature = "onnxruntime"), expect(dead_code, reason = "only ONNX Runtime has them"))]
mod providers;
pub(crate) mod trial;

#[cfg(test)]
mod tests;

/// Why the engines that the configuration asks for are not there.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct EnginesError {
    key: &'static str,
    message: String,
}

/// The engines of a pool.
#[derive(Debug)]
pub struct Engines {
    config: EnginesConfig,
    /// Threads that will run models.
    threads: usize,
    onnxruntime: Option<OnnxRuntime>,
}

/// A model that an engine has loaded and run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) trial: Trial,
    pub(crate) choice: Choice,
}

/// One engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tract,
    OnnxRuntime,
}

impl Engines {
    /// Loads ONNX Runtime, if the configuration names it. `threads` will run models.
    pub fn start(config: &EnginesConfig, threads: usize) -> Result<Self, EnginesError> {
        let onnxruntime = match &config.onnxruntime_library {
            None => None,
            Some(path) => {
                let opened = OnnxRuntime::open(path).map_err(|error: LibraryError| EnginesError {
                    key: "engines.onnxruntime_library",
                    message: error.to_string(),
                })?;
                check_providers(&opened, config)?;
                Some(opened)
            }
        };
        Ok(Self { config: config.clone(), threads: threads.max(1), onnxruntime })
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Tract => true,
            Kind::OnnxRuntime => self.onnxruntime.is_some(),
        }
    }

    /// The ONNX Runtime library that is loaded.
    pub fn onnxruntime_library(&self) -> Option<&std::path::Path> {
        self.onnxruntime.as_ref().map(OnnxRuntime::path)
    }

    /// Loads and tries a model with the engine that its `config` or this pool's configuration asks for.
    pub(crate) fn load(&self, name: &str, file: &OnnxFile, config: &ModelConfig) -> Result<Loaded, String> {
        let wanted = self.config.of(name, config)?;
        let asked_for = || format!("asked for by {}", wanted.asked_by);
        let loaded = match wanted.engine {
            Preference::Auto => self.best(file, &wanted)?,
            Preference::Tract => return self.load_with(Kind::Tract, name, file, config, asked_for()),
            Preference::Onnxruntime => {
                return self.load_with(Kind::OnnxRuntime, name, file, config, asked_for());
            }
        };
        Ok(self.prepared(name, loaded))
    }

    /// Loads and tries it with this engine, whatever is asked for; threads and execution providers are as for `load`.
    pub(crate) fn load_with(
        &self,
        kind: Kind,
        name: &str,
        file: &OnnxFile,
        config: &ModelConfig,
        why: String,
    ) -> Result<Loaded, String> {
        let wanted = self.config.of(name, config)?;
        Ok(self.prepared(name, of(self.tried(kind, file, &wanted, None)?, why)))
    }

    /// Makes ready what the threads will want.
    fn prepared(&self, name: &str, loaded: Loaded) -> Loaded {
        let Choice { engine, why, .. } = &loaded.choice;
        tracing::info!(model = name, engine, why, "loaded");
        if let Err(error) = loaded.model.prepare(self.threads) {
            tracing::warn!(model = name, engine, %error, "could not be made ready for every thread");
        }
        loaded
    }

    /// Loads and tries it with every engine, and keeps the best.
    fn best(&self, file: &OnnxFile, wanted: &Wanted) -> Result<Loaded, String> {
        if self.onnxruntime.is_none() {
            let why = "the only engine of this pool".to_owned();
            return Ok(of(self.tried(Kind::Tract, file, wanted, None)?, why));
        }
        let reference = self.tried(Kind::OnnxRuntime, file, wanted, None);
        let length = reference.as_ref().ok().map(|(_, trial)| trial.length);
        let usual = self.tried(Kind::Tract, file, wanted, length);
        let difference = match (&usual, &reference) {
            (Ok((_, usual)), Ok((model, reference))) => {
                let names = model.signature().outputs.iter().map(|port| port.name.as_str());
                between(&names.collect::<Vec<_>>(), &usual.samples, &reference.samples)
            }
            _ => None,
        };
        if let Some(difference) = &difference {
            tracing::warn!(
                difference,
                "tract and ONNX Runtime give different answers; ONNX Runtime is believed"
            );
        }
        let outcome = |tried: &Result<Tried, String>| match tried {
            Ok((_, trial)) => Ok(trial.measured()),
            Err(reason) => Err(reason.clone()),
        };
        let usual_outcome = (Tract::NAME, outcome(&usual));
        let choice = choice::decide(usual_outcome, (OnnxRuntime::NAME, outcome(&reference)), difference)?;
        // The other one is dropped here, and its memory with it.
        let (model, trial) = if choice.engine == OnnxRuntime::NAME { reference? } else { usual? };
        Ok(Loaded { model, trial, choice })
    }

    /// `length`: of axes that are free, if it is known to work.
    fn tried(
        &self,
        kind: Kind,
        file: &OnnxFile,
        wanted: &Wanted,
        length: Option<usize>,
    ) -> Result<Tried, String> {
        let model = match kind {
            Kind::Tract => Tract.load(file, Shapes::Any),
            Kind::OnnxRuntime => {
                let engine = self.onnxruntime.as_ref();
                let engine = engine.ok_or("`engines.onnxruntime_library` names no ONNX Runtime")?;
                let (threads, providers) = (wanted.threads, wanted.providers.clone());
                engine.tuned(Tuning { threads, providers, may_lack: wanted.may_lack }).load(file, Shapes::Any)
            }
        };
        let model = model.map_err(|error: EngineError| error.to_string())?;
        let trial = trial::run(&model, length).map_err(|error| format!("its self-test failed: {error}"))?;
        Ok((model, trial))
    }
}

/// A model and how its trial went.
type Tried = (Arc<dyn Model>, Trial);

/// What the pool's own configuration asks for must be in the library, or have the CPU after it.
fn check_providers(onnxruntime: &OnnxRuntime, config: &EnginesConfig) -> Result<(), EnginesError> {
    let of_models = config.models.values().filter_map(|model| model.execution_providers.as_ref());
    for list in std::iter::once(&config.execution_providers).chain(of_models) {
        for provider in onnxruntime.lacks(list) {
            let why = format!("{} was built without it", onnxruntime.path().display());
            if !list.contains(&Provider::Cpu) {
                let message = providers::lacking(provider, &why);
                return Err(EnginesError { key: "engines.execution_providers", message });
            }
            tracing::warn!(%provider, why, "this execution provider is passed over");
        }
    }
    Ok(())
}

fn of((model, trial): Tried, why: String) -> Loaded {
    let (engine, measured) = (model.engine(), trial.measured());
    Loaded {
        model,
        trial,
        choice: Choice { engine, precision: None, why, measured, alternatives: Vec::new() },
    }
}

/// How the answers of two engines to the same inputs differ, if they do. Both have answered one row; more rows only
/// count where both have answered as many.
fn between(
    names: &[&str],
    usual: &[(usize, Vec<Array>)],
    reference: &[(usize, Vec<Array>)],
) -> Option<String> {
    for (rows, usual) in usual {
        let Some((_, reference)) = reference.iter().find(|(as_many, _)| as_many == rows) else { continue };
        for (at, (usual, reference)) in usual.iter().zip(reference).enumerate() {
            if let Some(how) = closeness::difference(usual, reference, closeness::OF_ENGINES) {
                return Some(format!("`{}` {how}", names.get(at).copied().unwrap_or_default()));
            }
        }
    }
    None
}

impl Trial {
    fn measured(&self) -> Measured {
        let per_row =
            self.times.iter().filter(|(rows, _)| *rows > 0).map(|(rows, time)| *time / *rows as u32);
        let alone = self.times.first().map(|(_, time)| *time).unwrap_or_default();
        Measured { alone, best: per_row.min().unwrap_or(alone) }
    }
}
