//! A model run is a guest: code that can crash, hang or eat memory runs in worker processes, and takes nothing but itself
//! with it. This is the pool's side; the worker's is `crate::worker`.
//!
//! A *household* is one process: a model of a repository has its own, so that its memory goes back to the system with it;
//! all models of a bundle on ONNX Runtime share one. A *lane* is a socket between one thread of the pool and one of the worker. Small
//! messages go through it, tensors through memory that both see. A worker that ends costs the runs inside; the next run
//! finds a new one.
//!
//! * `config`: limits. `counts`: how many there are, and how they ended. `backoff`: when one is started again.
//! * `message`: what is said. `channel`: how it travels. `shared`: memory that both see. `said`: standard error.
//! * `process`: one process. `lane`: a line to it. `house`: who lives in it. `model`: engines' traits, on this side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millgate_shared::engine::{Doing, Engine, EngineError};

pub use config::GuestsConfig;
use config::Limits;
pub(crate) use counts::Count;
use counts::Counts;
use house::House;
pub(crate) use house::Household;
use lane::Lane;
use message::{Answer, Ask};
use model::GuestEngine;
pub(crate) use process::{ARGUMENT, MEMORY};

mod backoff;
pub(crate) mod channel;
pub(crate) mod config;
mod counts;
mod house;
mod lane;
pub(crate) mod message;
mod model;
mod process;
mod said;
pub(crate) mod shared;

/// The worker processes of a pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: Option<PathBuf>,
    limits: Limits,
    counts: Arc<Counts>,
    number: AtomicU64,
}

impl Inner {
    /// A number that nothing else here has.
    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

/// An engine, as a worker opens it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Name of the engine.
    pub(crate) engine: &'static str,
    /// What the worker's side of that engine understands.
    pub(crate) settings: String,
    pub(crate) facts: Facts,
}

/// What is true of an engine's models until the worker says better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) plans_by_shape: bool,
    pub(crate) takes_zero_bytes: bool,
}

impl Guests {
    /// `program`: what a worker is started as, which must call `worker::asked` before all else; `None`: there are no
    /// workers, as in a pool inside another program, and models run in this process.
    pub fn new(program: Option<PathBuf>, config: &GuestsConfig) -> Self {
        let (limits, counts) = (config.limits(), Arc::default());
        Self(Arc::new(Inner { program, limits, counts, number: AtomicU64::new(1) }))
    }

    /// True if models run in processes of their own.
    pub(crate) fn are_apart(&self) -> bool {
        self.0.program.is_some()
    }

    /// What a worker is started as.
    pub(crate) fn program(&self) -> Option<&Path> {
        self.0.program.as_deref()
    }

    /// Bytes of memory that one worker may take.
    pub(crate) fn memory_per_worker(&self) -> u64 {
        self.0.limits.memory
    }

    /// Bytes of memory that all workers may take together.
    pub(crate) fn memory_for_all(&self) -> u64 {
        self.0.limits.memory_for_all
    }

    /// How long one run may take in any case.
    pub(crate) fn longest_run(&self) -> Duration {
        self.0.limits.run
    }

    /// How long a model may take to load.
    pub(crate) fn load_limit(&self) -> Duration {
        self.0.limits.load
    }

    /// Makes a household of this name, which the log and the metrics show. Its process is started when it is first needed,
    /// and ends when the household and every model and session of it are dropped.
    pub(crate) fn household(&self, name: &str) -> Household {
        Household(Arc::new(House::new(name, &self.0)))
    }

    /// An engine whose models live in this household.
    pub(crate) fn engine(&self, spec: Spec, household: &Household) -> Box<dyn Engine> {
        Box::new(GuestEngine { spec, household: household.clone() })
    }

    /// Opens an engine in a worker that ends afterwards, and gives what it says of itself.
    pub(crate) fn look(&self, engine: &str, settings: String) -> Result<String, EngineError> {
        let household = self.household(engine);
        let process = household.0.process(Duration::ZERO)?;
        let mut lane = Lane::open(&process, self.0.limits, Doing::Loading)?;
        let look = Ask::Look { engine: engine.to_owned(), settings };
        match lane.ask(&look, None, self.0.limits.load, Doing::Loading)? {
            Answer::Seen(seen) => Ok(seen),
            _ => Err(lane.nonsense("said nothing of its engine".to_owned(), Doing::Loading)),
        }
    }

    /// How many workers were ever started.
    pub fn started(&self) -> u64 {
        self.counts().values().map(|count| count.started).sum()
    }

    /// Counts of processes, by the name of their household.
    pub(crate) fn counts(&self) -> BTreeMap<String, Count> {
        self.0.counts.all()
    }
}

/// Reads what a worker says, and tensors from where it says that they lie; for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_for_fuzzing(said: &[u8], content: &[u8]) -> Result<usize, String> {
    let answer: Answer = serde_json::from_slice(said).map_err(|error| error.to_string())?;
    match answer {
        Answer::Ran { outputs, .. } => {
            let (memory, _file) = shared::Memory::of_content(content).map_err(|error| error.to_string())?;
            Ok(memory.read(outputs).map_err(|error| error.to_string())?.len())
        }
        Answer::Loaded(loaded) => {
            let ports = loaded.inputs.into_iter().chain(loaded.outputs).map(message::Named::port);
            Ok(ports.collect::<Result<Vec<_>, _>>()?.len())
        }
        Answer::Failed(failed) => Err(EngineError::from(failed).to_string()),
        Answer::Done | Answer::Seen(_) | Answer::NeedsMemory { .. } => Ok(0),
    }
}
