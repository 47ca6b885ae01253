//! A household: models that share one process. It is started when it is first needed, and again when it has ended while
//! models lived in it; it ends with the last that holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use millgate_shared::engine::{Cause, Doing, Ending, EngineError};

use super::Inner;
use super::backoff::Backoff;
use super::config::Limits;
use super::model::GuestModel;
use super::process::{Process, Start};

/// Whoever asks for a run waits so long for the next start; who is to wait longer gets an error at once.
const SHORT: Duration = Duration::from_millis(500);

/// The handle of a household. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Household(pub(super) Arc<House>);

#[derive(Debug)]
pub(super) struct House {
    pub(super) name: String,
    pub(super) inner: Arc<Inner>,
    state: Mutex<State>,
    models: Mutex<Vec<Weak<GuestModel>>>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Arc<Process>>,
    backoff: Backoff,
}

impl State {
    /// The process, if it lives. One that has ended is taken out, and its death noted, once.
    fn alive(&mut self) -> Option<&Arc<Process>> {
        if let Some((at, lived)) = self.process.as_ref().and_then(|process| process.has_ended()) {
            self.backoff.died(at, lived);
            self.process = None;
        }
        self.process.as_ref()
    }
}

impl House {
    pub(super) fn new(name: &str, inner: &Arc<Inner>) -> Self {
        Self {
            name: name.to_owned(),
            inner: Arc::clone(inner),
            state: Mutex::new(State::default()),
            models: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.inner.limits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, started if need be. `patience`: how long this may wait until a process that went on dying may be
    /// started again.
    pub(super) fn process(self: &Arc<Self>, patience: Duration) -> Result<Arc<Process>, EngineError> {
        loop {
            let pause = {
                let mut state = self.lock();
                if let Some(process) = state.alive() {
                    return Ok(Arc::clone(process));
                }
                let pause = state.backoff.pause(Instant::now());
                if pause.is_zero() {
                    let process = Arc::new(self.start()?);
                    state.process = Some(Arc::clone(&process));
                    return Ok(process);
                }
                pause
            };
            if pause > patience {
                let ending = Ending::new(Cause::Resting(pause), Doing::Starting, 0);
                return Err(EngineError::Ended(ending));
            }
            std::thread::sleep(pause);
        }
    }

    /// The process for a run: its thread is wanted by others, too.
    pub(super) fn process_for_run(self: &Arc<Self>) -> Result<Arc<Process>, EngineError> {
        self.process(SHORT)
    }

    /// The process, if it lives.
    pub(super) fn living(&self) -> Option<Arc<Process>> {
        self.lock().alive().cloned()
    }

    fn start(self: &Arc<Self>) -> Result<Process, EngineError> {
        let Inner { program, limits, counts, .. } = &*self.inner;
        let program = program.as_deref().ok_or_else(|| {
            let cause = Cause::NotStarted("this program starts no processes".to_owned());
            EngineError::Ended(Ending::new(cause, Doing::Starting, 0))
        })?;
        let number = self.inner.next();
        let start = Start { program, name: &self.name, number, limits: *limits };
        let (house, counts) = (Arc::downgrade(self), Arc::clone(counts));
        let name = self.name.clone();
        counts.started(&name);
        let begun = Process::start(&start, {
            let (counts, name) = (Arc::clone(&counts), name.clone());
            move |cause| Self::ended(&house, cause, &counts, &name)
        });
        if begun.is_err() {
            counts.ended(&name, None);
        }
        begun
    }

    /// What its attendant does once a process has ended.
    fn ended(house: &Weak<Self>, cause: &Cause, counts: &super::counts::Counts, name: &str) {
        let there = house.upgrade();
        counts.ended(name, there.as_ref().map(|_| cause));
        let Some(there) = there else { return };
        tracing::warn!(guest = name, %cause, "a model's process has ended");
        let pause = {
            let mut state = there.lock();
            let _is_alive = state.alive().is_some();
            state.backoff.pause(Instant::now())
        };
        if pause > SHORT {
            // It goes on dying: the next run starts it, and is counted against whoever ends it again.
            return;
        }
        let models = there.weakly();
        // Nobody is kept by this while it waits.
        drop(there);
        std::thread::sleep(pause);
        for model in models.iter().filter_map(Weak::upgrade) {
            if let Err(error) = model.revive() {
                tracing::warn!(guest = name, %error, "a model could not be loaded again");
            }
        }
    }

    pub(super) fn add(&self, model: &Arc<GuestModel>) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.strong_count() > 0);
        models.push(Arc::downgrade(model));
    }

    /// The models that live in it, and keep nobody there.
    fn weakly(&self) -> Vec<Weak<GuestModel>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether models live in it.
    pub(super) fn has_models(&self) -> bool {
        self.weakly().iter().any(|model| model.strong_count() > 0)
    }
}
