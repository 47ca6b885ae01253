//! The threads that run served models, around the scheduler.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::engine::Session;

use super::batch;
use super::entry::{Bucket, Entry};
use super::served::Served;
use crate::failure::Failure;
use crate::scheduling::{Batch, Limits, ModelId, Offer, Profile, Refusal, Scheduler};

/// Inputs that may wait, in bytes.
const WAITING_BYTES: usize = 1 << 30;
/// Compute that may wait, for each thread.
const WAITING_WORK: Duration = Duration::from_secs(30);
/// A batch of several rows holds a thread no longer than this, by estimate.
const LONGEST_BATCH: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct State {
    scheduler: Scheduler<Bucket, Entry>,
    is_stopped: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits, for an operator.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// Entries, by model.
    pub(crate) pending: HashMap<ModelId, usize>,
    /// Compute, by estimate, for one thread's share.
    pub(crate) backlog: Duration,
}

/// Dropping it ends the threads; what waits is not answered.
#[derive(Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

impl Threads {
    /// `entries` bounds what may wait.
    pub(crate) fn start(threads: usize, entries: usize) -> Self {
        let workers = threads.max(1);
        let work = WAITING_WORK * workers as u32;
        let limits = Limits {
            workers,
            entries: entries.max(1),
            bytes: WAITING_BYTES,
            work,
            longest_batch: LONGEST_BATCH,
        };
        let state = Mutex::new(State { scheduler: Scheduler::new(limits), is_stopped: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new() });
        for _ in 0..workers {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || serve(&shared));
        }
        Self { shared }
    }

    pub(crate) fn add(&self, profile: Profile) -> ModelId {
        self.shared.lock().scheduler.add_model(profile)
    }

    /// What waits for it is refused.
    pub(crate) fn remove(&self, model: ModelId, name: &str) {
        let left = self.shared.lock().scheduler.remove_model(model);
        self.shared.wake.notify_all();
        for entry in left {
            entry.answer(Err(Failure::UnknownModel(name.to_owned())));
        }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let state = self.shared.lock();
        Pressure { pending: state.scheduler.queued_by_model(), backlog: state.scheduler.backlog() }
    }

    pub(crate) fn submit(
        &self,
        priority: u8,
        deadline: Instant,
        bucket: Bucket,
        entry: Entry,
    ) -> Result<(), Failure> {
        let bytes = entry.inputs.iter().map(|input| input.values().size()).sum();
        let offer = Offer { model: entry.served.id, bucket, rows: entry.rows, bytes, priority, deadline };
        let name = entry.served.name.clone();
        let admitted = self.shared.lock().scheduler.offer(Instant::now(), offer, entry);
        match admitted {
            Ok(admitted) => {
                self.shared.wake.notify_one();
                for shed in admitted.shed {
                    let what = "something more urgent came";
                    shed.answer(Err(Failure::Refused { what, retry_after: admitted.retry_after }));
                }
                Ok(())
            }
            Err(refused) => Err(match refused.why {
                Refusal::TooShort => Failure::Deadline,
                Refusal::UnknownModel => Failure::UnknownModel(name),
                why => Failure::Refused { what: why.as_str(), retry_after: refused.retry_after },
            }),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.wake.notify_all();
    }
}

fn serve(shared: &Shared) {
    let mut sessions: HashMap<ModelId, Box<dyn Session>> = HashMap::new();
    let mut state = shared.lock();
    while !state.is_stopped {
        let taken = state.scheduler.take(Instant::now(), Entry::is_gone);
        if taken.batch.is_none() && taken.expired.is_empty() && taken.gone.is_empty() {
            // Whoever waits holds nothing of a model that is gone.
            sessions.retain(|model, _| state.scheduler.curve(*model).is_some());
            state = match taken.wake_at {
                None => shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let pause = at.saturating_duration_since(Instant::now());
                    shared.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            continue;
        }
        drop(state);
        for entry in taken.expired {
            entry.answer(Err(Failure::Deadline));
        }
        drop(taken.gone);
        let Some(Batch { started, entries }) = taken.batch else {
            state = shared.lock();
            continue;
        };
        let begun = Instant::now();
        let ok = run(&mut sessions, started.model, entries);
        let took = begun.elapsed();
        state = shared.lock();
        state.scheduler.finished(&started, took, ok);
    }
}

fn run(sessions: &mut HashMap<ModelId, Box<dyn Session>>, model: ModelId, entries: Vec<Entry>) -> bool {
    let Some(served) = entries.first().map(|entry| Arc::clone(&entry.served)) else { return false };
    let mut session = match sessions.remove(&model).map_or_else(|| open(&served), Ok) {
        Ok(session) => session,
        Err(failure) => {
            for entry in entries {
                entry.answer(Err(failure.clone()));
            }
            return false;
        }
    };
    let ran = catch_unwind(AssertUnwindSafe(|| batch::run(&served, session.as_mut(), entries)));
    match ran {
        Ok(ok) => {
            sessions.insert(model, session);
            ok
        }
        Err(_) => {
            tracing::error!(model = served.name, "a batch panicked; its callers get an error");
            false
        }
    }
}

fn open(served: &Served) -> Result<Box<dyn Session>, Failure> {
    Arc::clone(&served.model)
        .session()
        .map_err(|error| Failure::Model(format!("model `{}` {error}", served.name)))
}
