//! The threads that run served models, around the scheduler.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::engine::Session;

use super::batch;
use super::entry::{Bucket, Entry, Work};
use super::job::Job;
use super::request::Call;
use super::served::Served;
use crate::failure::Failure;
use crate::scheduling::{Batch, Curve, Limits, ModelId, Offer, Profile, Refusal, Scheduler};

/// Inputs that may wait, in bytes.
const WAITING_BYTES: usize = 1 << 30;
/// Compute that may wait, for each thread.
const WAITING_WORK: Duration = Duration::from_secs(30);
/// A batch of several rows holds a thread no longer than this, by estimate.
const LONGEST_BATCH: Duration = Duration::from_millis(20);
/// The niceness of model threads, on the scale from -20 to 19.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;
/// What a job is thought to take until some were seen.
const TYPICAL_JOB: Duration = Duration::from_micros(200);

#[derive(Debug)]
struct State {
    scheduler: Scheduler<Bucket, Work>,
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

/// Dropping it ends the threads; what waits is refused.
#[derive(Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
    /// Stands for all jobs, as a model does for its rows.
    jobs: ModelId,
    count: usize,
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
        let mut scheduler = Scheduler::new(limits);
        let jobs = scheduler.add_model(Profile::alone(Curve::new([(1, TYPICAL_JOB)])));
        let state = Mutex::new(State { scheduler, is_stopped: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new() });
        for number in 0..workers {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("model-{number}"));
            if let Err(error) = thread.spawn(move || serve(&shared)) {
                tracing::error!(%error, number, "a model thread could not be started");
            }
        }
        Self { shared, jobs, count: workers }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What waits, rows and jobs.
    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().scheduler.queued()
    }

    /// What a row of a model takes alone, as far as is known now.
    pub(crate) fn expected(&self, model: ModelId) -> Duration {
        self.shared.lock().scheduler.curve(model).map_or(Duration::ZERO, |curve| curve.expected(1))
    }

    /// Makes a model known here, until the registration is dropped.
    pub(crate) fn register(&self, name: &str, profile: Profile) -> Registered {
        let id = self.shared.lock().scheduler.add_model(profile);
        Registered { shared: Arc::clone(&self.shared), id, name: name.to_owned() }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let state = self.shared.lock();
        Pressure { pending: state.scheduler.queued_by_model(), backlog: state.scheduler.backlog() }
    }

    /// Rows for the model with this number.
    pub(crate) fn submit(
        &self,
        model: ModelId,
        call: &Call,
        bucket: Bucket,
        entry: Entry,
    ) -> Result<(), Failure> {
        let bytes = entry.inputs.iter().map(|input| input.values().size()).sum();
        let rows = entry.layout.rows();
        let (priority, deadline) = (call.priority, call.due());
        let name = Arc::clone(&entry.served);
        let offer = Offer { model, bucket, rows, bytes, priority, deadline };
        self.offer(offer, Work::Rows(entry), &name.name)
    }

    /// `bytes` is what it holds while it waits.
    pub(crate) fn submit_job(&self, call: &Call, bytes: usize, job: Box<dyn Job>) -> Result<(), Failure> {
        let (priority, deadline) = (call.priority, call.due());
        let bucket = Bucket { shapes: Vec::new(), parameters: String::new(), alone: None };
        let offer = Offer { model: self.jobs, bucket, rows: 1, bytes, priority, deadline };
        self.offer(offer, Work::Job(job), "")
    }

    fn offer(&self, offer: Offer<Bucket>, work: Work, name: &str) -> Result<(), Failure> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let (admitted, gone) = match state.scheduler.offer(now, offer.clone(), work) {
            // What callers have given up may have taken the room.
            Err(refused) if refused.why.is_for_now() => {
                let gone = state.scheduler.sweep(now, Work::is_gone);
                let again = !gone.is_empty();
                (if again { state.scheduler.offer(now, offer, refused.payload) } else { Err(refused) }, gone)
            }
            admitted => (admitted, Vec::new()),
        };
        drop(state);
        drop(gone);
        match admitted {
            Ok(admitted) => {
                self.shared.wake.notify_one();
                for shed in admitted.shed {
                    let what = "something more urgent came";
                    shed.refuse(Failure::Refused { what, retry_after: admitted.retry_after });
                }
                Ok(())
            }
            Err(refused) => Err(match refused.why {
                Refusal::TooShort => Failure::Deadline,
                Refusal::UnknownModel => Failure::UnknownModel(name.to_owned()),
                why => Failure::Refused { what: why.as_str(), retry_after: refused.retry_after },
            }),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopped = true;
        let left = state.scheduler.drain();
        drop(state);
        self.shared.wake.notify_all();
        for work in left {
            work.refuse(Failure::Stopped);
        }
    }
}

/// A model that is known to the threads. Dropping it takes the model out, and the threads' sessions of it with it: nobody
/// holds the model any more, so nothing waits for it; if something did, it would be refused.
#[derive(Debug)]
pub(crate) struct Registered {
    shared: Arc<Shared>,
    id: ModelId,
    name: String,
}

impl Registered {
    pub(crate) fn id(&self) -> ModelId {
        self.id
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let left = self.shared.lock().scheduler.remove_model(self.id);
        self.shared.wake.notify_all();
        for work in left {
            work.refuse(Failure::UnknownModel(self.name.clone()));
        }
    }
}

/// Threads that talk go before threads that compute, where they share a core: a request that is read at once can share
/// a batch with those before it, and one whose answer is ready is not kept waiting by the next batch.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a model thread keeps the usual priority");
    }
}

fn serve(shared: &Shared) {
    give_way();
    let mut sessions: HashMap<ModelId, Box<dyn Session>> = HashMap::new();
    let mut state = shared.lock();
    while !state.is_stopped {
        let taken = state.scheduler.take(Instant::now(), Work::is_gone);
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
        // Nor does one that never waits while models come and go: it looks when it gets a new one.
        let is_new = taken.batch.as_ref().is_some_and(|batch| !sessions.contains_key(&batch.started.model));
        let is_gone = |model: &&ModelId| is_new && state.scheduler.curve(**model).is_none();
        let gone: Vec<ModelId> = sessions.keys().filter(is_gone).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|model| sessions.remove(model)).collect();
        drop(state);
        drop(gone);
        for work in taken.expired {
            work.refuse(Failure::Deadline);
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

/// All of one model, or jobs. True if all went well.
fn run(sessions: &mut HashMap<ModelId, Box<dyn Session>>, model: ModelId, taken: Vec<Work>) -> bool {
    let (mut entries, mut well) = (Vec::with_capacity(taken.len()), true);
    for work in taken {
        match work {
            Work::Rows(entry) => entries.push(entry),
            Work::Job(job) => {
                if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
                    tracing::error!("a job panicked; its caller gets an error");
                    well = false;
                }
            }
        }
    }
    let Some(served) = entries.first().map(|entry| Arc::clone(&entry.served)) else { return well };
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
