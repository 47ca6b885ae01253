//! The threads that run served models, around the scheduler.
//!
//! * [`worker`]: what a thread does. [`watch`]: which runs take too long, a pure rule. [`watchdog`]: the thread that
//!   follows it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::entry::{Bucket, Entry, Work};
use super::job::Job;
use super::request::Call;
use crate::failure::Failure;
use crate::principal::Tenant;
use crate::readiness::{Readiness, Stall, Unready};
use crate::scheduling::{Curve, Limits, ModelId, Offer, Profile, Refusal, Scheduler, Shed, Tally};
use watch::{RunId, Watch};
use watchdog::Handle;

#[cfg(test)]
mod tests;
mod watch;
mod watchdog;
mod worker;

/// Inputs that may wait, in bytes.
const WAITING_BYTES: usize = 1 << 30;
/// Compute that may wait, for each thread.
const WAITING_WORK: Duration = Duration::from_secs(30);
/// A batch of several rows holds a thread no longer than this, by estimate.
const LONGEST_BATCH: Duration = Duration::from_millis(20);
/// What a job is thought to take until some were seen.
const TYPICAL_JOB: Duration = Duration::from_micros(200);

/// How long the threads have patience.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// No run may take longer, where it can be ended.
    pub(crate) longest_run: Duration,
    /// So long work may wait while none gets finished, until no more is wanted.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler<Bucket, Work>,
    watch: Watch,
    /// What is known of each run under way.
    handles: HashMap<RunId, Handle>,
    /// True: the watchdog waits to be told of the next run.
    watchdog_rests: bool,
    stall: Stall,
    /// Batches and jobs that were done and not ended.
    done: u64,
    is_stopped: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Wakes the watchdog.
    begun: Condvar,
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
    /// By tenant, as [`Scheduler::tenants`] gives it.
    pub(crate) tenants: Vec<(Option<Tenant>, usize, Tally)>,
}

/// Dropping it ends the threads; what waits is refused.
#[derive(Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
    /// Stands for all jobs, as a model does for its rows.
    jobs: ModelId,
    count: usize,
    readiness: Readiness,
}

impl Threads {
    /// `entries` bounds what may wait. `readiness` hears of it when work waits and none gets finished.
    pub(crate) fn start(threads: usize, entries: usize, times: Times, readiness: &Readiness) -> Self {
        let Times { longest_run, patience } = times;
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
        let state = Mutex::new(State {
            scheduler,
            watch: Watch::new(workers, longest_run),
            handles: HashMap::new(),
            watchdog_rests: false,
            stall: Stall::new(patience),
            done: 0,
            is_stopped: false,
        });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), begun: Condvar::new() });
        for _ in 0..workers {
            worker::start(&shared);
        }
        watchdog::start(&shared, readiness.clone());
        Self { shared, jobs, count: workers, readiness: readiness.clone() }
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
        let mut state = self.shared.lock();
        let tried: Vec<_> = profile.curve.measured().collect();
        let id = state.scheduler.add_model(profile);
        state.watch.add_model(id, tried);
        drop(state);
        Registered { shared: Arc::clone(&self.shared), id, name: name.to_owned() }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        let state = self.shared.lock();
        let (pending, backlog) = (state.scheduler.queued_by_model(), state.scheduler.backlog());
        Pressure { pending, backlog, tenants: state.scheduler.tenants() }
    }

    /// A request asked for a better rank than its caller has a right to.
    pub(crate) fn outranked(&self, call: &Call) {
        self.shared.lock().scheduler.outranked(call.standing.principal.tenant());
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
        let (priority, deadline, standing) = (call.priority, call.due(), Arc::clone(&call.standing));
        let name = Arc::clone(&entry.served);
        let offer = Offer { model, bucket, rows, bytes, priority, deadline, standing };
        self.offer(offer, Work::Rows(entry), &name.name)
    }

    /// `bytes` is what it holds while it waits.
    pub(crate) fn submit_job(&self, call: &Call, bytes: usize, job: Box<dyn Job>) -> Result<(), Failure> {
        let (priority, deadline, standing) = (call.priority, call.due(), Arc::clone(&call.standing));
        let bucket = Bucket { shapes: Vec::new(), parameters: String::new(), alone: None };
        let offer = Offer { model: self.jobs, bucket, rows: 1, bytes, priority, deadline, standing };
        self.offer(offer, Work::Job(job), "")
    }

    fn offer(&self, offer: Offer<Bucket>, work: Work, name: &str) -> Result<(), Failure> {
        if self.readiness.why_not() == Some(Unready::Stalled) {
            return Err(Failure::Stalled);
        }
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
                for Shed { payload, retry_after } in admitted.shed {
                    let what = "what is more urgent, or within its share, took the room";
                    payload.refuse(Failure::Refused { what, retry_after });
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
        self.shared.begun.notify_all();
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
        let mut state = self.shared.lock();
        let left = state.scheduler.remove_model(self.id);
        state.watch.remove_model(self.id);
        drop(state);
        self.shared.wake.notify_all();
        for work in left {
            work.refuse(Failure::UnknownModel(self.name.clone()));
        }
    }
}
