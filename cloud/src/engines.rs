//! The engines that this pool has, and which one runs a model: the one that is asked for, or the faster one, measured
//! when the model is loaded.
//!
//! * `table`: every engine that there is. `config`: what an operator and a model's own configuration can say.
//! * `search`: where ONNX Runtime is looked for; `installed`: where `engine install` puts it. `install`: how it comes
//!   there, from a `package`. `missing`: what is lost without it.
//! * `trial`: a model's first runs with one engine. `choice`: from these to a decision. `arbiter`: which one to believe
//!   where they differ; `closeness`: do they?
//! * `onnxruntime`: the second engine; `providers`: what it computes with.
//! * `home`: where a model is run, in this process or in a worker's. `guest`: an engine in a worker. `appetite`: how much
//!   memory a run takes. `proofs`: what tract may run in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::array::Array;
use millgate_shared::engine::{Engine, EngineError, Model, OnnxFile, Shapes, Tract};
use millgate_shared::proto::inference::ModelConfig;

use appetite::Appetite;
use arbiter::Verdict;
use choice::{Alternative, Choice, Measured};
use config::Wanted;
pub use config::{EnginesConfig, ModelEngine};
pub(crate) use home::Home;
use home::Library;
use missing::with_remedy;
use onnxruntime::{OnnxRuntime, Tuning};
use proofs::Proofs;
pub use providers::Provider;
use search::Found;
pub use table::{Kind, Preference};
use trial::{Fit, Trial};

use crate::guests::Guests;

pub(crate) mod appetite;
mod arbiter;
pub(crate) mod choice;
mod closeness;
mod config;
pub mod guest;
mod home;
pub(crate) mod install;
pub(crate) mod installed;
pub(crate) mod missing;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(not(feature = "onnxruntime"))]
#[expect(dead_code, reason = "there is no engine to be told")]
#[path = "engines/without.rs"]
mod onnxruntime;
mod package;
pub(crate) mod proofs;
#[cfg_attr(not(feature = "onnxruntime"), expect(dead_code, reason = "only ONNX Runtime has them"))]
mod providers;
pub(crate) mod search;
mod table;
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
    onnxruntime: Option<Library>,
    guests: Guests,
    proofs: Proofs,
    /// Where ONNX Runtime was found, or was looked for.
    found: Found,
}

/// A model that an engine has loaded and run.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) trial: Trial,
    pub(crate) choice: Choice,
    pub(crate) appetite: Appetite,
}

/// Why a model was not loaded.
#[derive(Debug)]
pub(crate) struct LoadError {
    pub(crate) reason: String,
    /// The load has ended its worker.
    pub(crate) has_ended: bool,
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        Self { reason, has_ended: false }
    }
}

impl LoadError {
    fn of(error: EngineError) -> Self {
        let has_ended = matches!(&error, EngineError::Ended(ending) if ending.is_its_own());
        Self { reason: error.to_string(), has_ended }
    }

    fn told(self, tell: impl FnOnce(String) -> String) -> Self {
        Self { reason: tell(self.reason), ..self }
    }
}

/// A model's file, what is asked for it, and inputs that its configuration brings.
#[derive(Clone, Copy)]
struct Job<'a> {
    file: &'a OnnxFile,
    wanted: &'a Wanted,
    given: &'a [Arc<Vec<Array>>],
    home: &'a Home,
}

impl Engines {
    /// Looks for ONNX Runtime and loads it, if it is there. `threads` will run models; what was installed lies in
    /// `state_dir`. What can end a process is done by `guests`, where they are apart.
    pub fn start(
        config: &EnginesConfig,
        state_dir: &Path,
        threads: usize,
        guests: &Guests,
    ) -> Result<Self, EnginesError> {
        let (found, onnxruntime) = search::find(config, state_dir, guests)?;
        match (&onnxruntime, config.wants_onnxruntime()) {
            (Some(opened), _) => check_providers(opened, config)?,
            (None, Some(by)) => {
                let message = format!("must name the library, since `{by}` asks for it: {}", found.text());
                return Err(EnginesError { key: "engines.onnxruntime_library", message });
            }
            (None, None) => {}
        }
        let proofs = Proofs::of(state_dir, guests.program());
        let (config, threads, guests) = (config.clone(), threads.max(1), guests.clone());
        Ok(Self { config, threads, onnxruntime, guests, proofs, found })
    }

    /// How long one run may take in any case.
    pub(crate) fn longest_run(&self) -> Duration {
        self.guests.longest_run()
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        (kind.entry().is_here)(self)
    }

    fn has_onnxruntime(&self) -> bool {
        self.onnxruntime.is_some()
    }

    fn open_tract(&self, _wanted: &Wanted, home: &Home) -> Result<Box<dyn Engine>, String> {
        Ok(home.tract(&self.guests))
    }

    fn open_onnxruntime(&self, wanted: &Wanted, home: &Home) -> Result<Box<dyn Engine>, String> {
        self.engine(wanted, home, false)
    }

    /// What tract has been seen to live through.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// The processes that models run in.
    pub(crate) fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The ONNX Runtime library that is loaded.
    pub fn onnxruntime_library(&self) -> Option<&Path> {
        self.onnxruntime.as_ref().map(Library::path)
    }

    /// Where ONNX Runtime was found, or was looked for.
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// Loads and tries a model with the engine that its `config` or this pool's configuration asks for. `given`: inputs
    /// that its configuration brings, for its trial.
    pub(crate) fn load(
        &self,
        name: &str,
        file: &OnnxFile,
        config: &ModelConfig,
        given: &[Arc<Vec<Array>>],
        home: &Home,
    ) -> Result<Loaded, LoadError> {
        let wanted = self.config.of(name, config)?;
        let why = format!("asked for by {}", wanted.asked_by);
        let job = Job { file, wanted: &wanted, given, home };
        let loaded = match wanted.engine {
            Preference::Auto => {
                let others = Kind::others().filter(|kind| self.has(*kind));
                others.fold(self.best(job)?, |best, kind| self.or_faster(best, kind, job))
            }
            Preference::Only(kind) => of(self.tried(kind, job, None)?, why),
        };
        Ok(self.prepared(name, loaded))
    }

    /// Loads and tries it with this engine, whatever is asked for; threads and execution providers are as for `load`.
    pub(crate) fn load_with(
        &self,
        kind: Kind,
        name: &str,
        file: &OnnxFile,
        home: &Home,
        why: String,
    ) -> Result<Loaded, LoadError> {
        let wanted = self.config.of(name, &ModelConfig::default())?;
        let job = Job { file, wanted: &wanted, given: &[], home };
        Ok(self.prepared(name, of(self.tried(kind, job, None)?, why)))
    }

    /// Makes ready what the threads will want.
    fn prepared(&self, name: &str, mut loaded: Loaded) -> Loaded {
        let Choice { engine, why, .. } = &loaded.choice;
        tracing::info!(model = name, engine, why, "loaded");
        if let Some(reason) = &loaded.trial.unproven {
            tracing::warn!(
                model = name,
                engine,
                reason,
                "no made-up input fits: the model is served unproven, and never batched"
            );
        }
        if let Err(error) = loaded.model.prepare(self.threads) {
            tracing::warn!(model = name, engine, %error, "the model could not be made ready for every thread");
        }
        if self.guests.are_apart() {
            loaded.appetite =
                Appetite::learn(&loaded.model, loaded.trial.fit.as_ref(), self.guests.load_limit());
        }
        loaded
    }

    /// Loads and tries it with tract and ONNX Runtime, and keeps the better one.
    fn best(&self, job: Job<'_>) -> Result<Loaded, LoadError> {
        if self.onnxruntime.is_none() {
            let why = "the only engine of this pool".to_owned();
            return Ok(of(self.tried(Kind::TRACT, job, None)?, why));
        }
        let reference = self.tried(Kind::ONNX_RUNTIME, job, None);
        if let Ok((_, trial)) = &reference
            && let Some(reason) = &trial.unproven
        {
            // There is nothing to compare by, and it is the one to believe.
            let why = format!("no made-up input fits, so that nothing can be compared: {reason}");
            return reference.map(|tried| of(tried, why));
        }
        let fit = reference.as_ref().ok().and_then(|(_, trial)| trial.fit.clone());
        if matches!(fit, Some(Fit::Made { length: 0, .. })) {
            let why = "only empty inputs fit, by which nothing can be compared".to_owned();
            return reference.map(|tried| of(tried, why));
        }
        let usual = self.tried(Kind::TRACT, job, fit.as_ref());
        let verdict = match (&usual, &reference) {
            (Ok((_, usual)), Ok(reference)) => self.compared(job, usual, reference),
            _ => None,
        };
        let outcome = |tried: &Result<Tried, LoadError>| match tried {
            Ok((_, trial)) => Ok(trial.measured()),
            Err(error) => Err(error.reason.clone()),
        };
        let has_ended = [&usual, &reference].iter().any(|it| it.as_ref().is_err_and(|it| it.has_ended));
        let usual_outcome = (Tract::NAME, outcome(&usual));
        let choice = choice::decide(usual_outcome, (OnnxRuntime::NAME, outcome(&reference)), verdict);
        let choice = choice.map_err(|reason| LoadError { reason, has_ended })?;
        // The other one is dropped here, and its memory with it.
        let (model, trial) = if choice.engine == OnnxRuntime::NAME { reference? } else { usual? };
        Ok(Loaded { model, trial, choice, appetite: Appetite::default() })
    }

    /// The model as this engine runs it, if it gives the answers of the one that is `best` so far, clearly faster.
    fn or_faster(&self, mut best: Loaded, kind: Kind, job: Job<'_>) -> Loaded {
        let is_quantised = best.model.signature().graph.is_quantised();
        let names: Vec<&str> = best.model.signature().outputs.iter().map(|port| port.name.as_str()).collect();
        let samples = &best.trial.samples;
        let tried = self.tried(kind, job, best.trial.fit.as_ref()).map_err(|error| error.reason);
        let outcome = tried.and_then(|tried| {
            match arbiter::difference(&names, &tried.1.samples, samples, is_quantised) {
                Some(difference) => Err(format!("gives other answers: {difference}")),
                None if samples.is_empty() => Err("there is nothing to compare by".to_owned()),
                None => Ok(tried),
            }
        });
        let (before, measured) = (best.choice.clone(), best.choice.measured);
        let outcome = match outcome {
            Ok(tried) => match choice::gain(before.engine, measured, tried.1.measured()) {
                Some(why) => {
                    best = of(tried, why);
                    best.choice.alternatives = before.alternatives;
                    let outcome = Ok(measured);
                    best.choice.alternatives.push(Alternative { engine: before.engine, outcome });
                    return best;
                }
                None => Ok(tried.1.measured()),
            },
            Err(reason) => Err(reason),
        };
        best.choice.alternatives.push(Alternative { engine: kind.name(), outcome });
        best
    }

    /// What is to be believed where the two give different answers; `None`: they do not.
    fn compared(&self, job: Job<'_>, usual: &Trial, (model, reference): &Tried) -> Option<Verdict> {
        let is_quantised = model.signature().graph.is_quantised();
        let names = model.signature().outputs.iter().map(|port| port.name.as_str());
        let names: Vec<&str> = names.collect();
        let difference = arbiter::difference(&names, &usual.samples, &reference.samples, is_quantised)?;
        let plain = self.engine(job.wanted, job.home, true).and_then(|engine| {
            let model = engine.load(job.file, Shapes::Any).map_err(|error| error.to_string())?;
            let fit = reference.fit.as_ref().ok_or("it has no inputs")?;
            arbiter::answers(&model, fit, &reference.samples).map_err(|error| error.to_string())
        });
        let verdict = arbiter::judge(difference, plain, &usual.samples, &reference.samples);
        tracing::warn!(
            difference = verdict.difference,
            believed = verdict.believed.as_str(),
            why = verdict.why,
            "tract and ONNX Runtime give different answers"
        );
        Some(verdict)
    }

    /// `plain`: what it computes is not rearranged for speed.
    fn engine(&self, wanted: &Wanted, home: &Home, plain: bool) -> Result<Box<dyn Engine>, String> {
        let engine = self.onnxruntime.as_ref();
        let engine = engine.ok_or_else(|| format!("ONNX Runtime is not here: {}", self.found.text()))?;
        let (threads, providers) = (wanted.threads, wanted.providers.clone());
        let tuning = Tuning { threads, providers, may_lack: wanted.may_lack, plain };
        engine.engine(tuning, &self.guests, home).map_err(|error| error.to_string())
    }

    /// `known`: inputs that another engine takes.
    fn tried(&self, kind: Kind, job: Job<'_>, known: Option<&Fit>) -> Result<Tried, LoadError> {
        let model = (kind.entry().open)(self, job.wanted, job.home)?.load(job.file, Shapes::Any);
        let tried = model.map_err(LoadError::of).and_then(|model| {
            let trial = trial::run(&model, known, job.given, self.guests.load_limit());
            let failed = |reason: String| format!("its self-test failed: {reason}");
            let mut trial = trial.map_err(|error| LoadError::of(error).told(failed))?;
            if kind == Kind::TRACT && !self.has(Kind::ONNX_RUNTIME) {
                trial.unproven = trial.unproven.map(with_remedy);
            }
            Ok((model, trial))
        });
        match (kind, &self.onnxruntime) {
            (Kind::TRACT, None) => tried.map_err(|error| error.told(with_remedy)),
            (Kind::TRACT, Some(_)) if job.wanted.engine == Preference::Only(Kind::TRACT) => {
                tried.map_err(|error| {
                    let by = job.wanted.asked_by;
                    error.told(|reason| {
                        format!("{reason}; tract is asked for by {by}, `auto` would let ONNX Runtime try")
                    })
                })
            }
            _ => tried,
        }
    }
}

/// A model and how its trial went.
type Tried = (Arc<dyn Model>, Trial);

/// What the pool's own configuration asks for must be in the library, or have the CPU after it.
fn check_providers(onnxruntime: &Library, config: &EnginesConfig) -> Result<(), EnginesError> {
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
        appetite: Appetite::default(),
    }
}

impl Trial {
    fn measured(&self) -> Measured {
        let per_row =
            self.times.iter().filter(|(rows, _)| *rows > 0).map(|(rows, time)| *time / *rows as u32);
        let alone = self.times.first().map(|(_, time)| *time).unwrap_or_default();
        Measured { alone, best: per_row.min().unwrap_or(alone) }
    }
}
