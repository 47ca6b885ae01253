//! What a model thread does: it takes a batch, runs it, and says that it is over; until the threads are stopped, or
//! another one has taken its place.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use millgate_shared::engine::{Ender, Session};

use super::super::batch;
use super::super::entry::{Entry, Work};
use super::super::served::Served;
use super::watch::RunId;
use super::watchdog::Handle;
use super::{Shared, State};
use crate::failure::Failure;
use crate::scheduling::{Batch, ModelId, Started};

/// The niceness of model threads, on the scale from -20 to 19.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// A model's session on this thread, and what ends a run of it.
struct Lane {
    session: Box<dyn Session>,
    ender: Option<Arc<dyn Ender>>,
}

type Lanes = HashMap<ModelId, Lane>;

/// Starts a thread; false if that cannot be.
pub(super) fn start(shared: &Arc<Shared>) -> bool {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("model".to_owned());
    let started = thread.spawn(move || serve(&shared));
    if let Err(error) = &started {
        tracing::error!(%error, "a model thread could not be started");
    }
    started.is_ok()
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
    let mut lanes = Lanes::new();
    let mut state = shared.lock();
    while !state.is_stopped {
        let taken = state.scheduler.take(Instant::now(), Work::is_gone);
        if taken.batch.is_none() && taken.expired.is_empty() && taken.gone.is_empty() {
            // Whoever waits holds nothing of a model that is gone.
            let gone = take_gone(&mut lanes, &state);
            if !gone.is_empty() {
                // Not under the lock: a process may end with it.
                drop(state);
                drop(gone);
                state = shared.lock();
                continue;
            }
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
        let is_new = taken.batch.as_ref().is_some_and(|batch| !lanes.contains_key(&batch.started.model));
        let gone = if is_new { take_gone(&mut lanes, &state) } else { Vec::new() };
        let run = taken.batch.as_ref().map(|batch| begin(shared, &mut state, &lanes, batch));
        drop(state);
        drop(gone);
        for work in taken.expired {
            work.refuse(Failure::Deadline);
        }
        drop(taken.gone);
        let (Some(Batch { started, entries }), Some(run)) = (taken.batch, run) else {
            state = shared.lock();
            continue;
        };
        let begun = Instant::now();
        let ok = compute(shared, &mut lanes, (run, started.model), entries);
        let took = begun.elapsed();
        state = shared.lock();
        state.scheduler.finished(&started, took, ok);
        if !end(shared, &mut state, run, &started, ok) {
            return;
        }
    }
}

/// Takes out what belongs to models that are gone.
fn take_gone(lanes: &mut Lanes, state: &State) -> Vec<Lane> {
    let gone = lanes.extract_if(|model, _| state.scheduler.curve(*model).is_none());
    gone.map(|(_, lane)| lane).collect()
}

/// Notes that a batch is under way.
fn begin(shared: &Shared, state: &mut State, lanes: &Lanes, batch: &Batch<Work>) -> RunId {
    let Batch { started, entries } = batch;
    let run = state.watch.begin(Instant::now(), started.model, started.rows);
    let replies = entries.iter().filter_map(Work::reply).cloned().collect();
    let ender = lanes.get(&started.model).and_then(|lane| lane.ender.clone());
    state.handles.insert(run, Handle { started: *started, replies, ender });
    if state.watchdog_rests {
        shared.begun.notify_one();
    }
    run
}

/// Notes that a batch is over. False: another thread has taken the place of this one.
fn end(shared: &Shared, state: &mut MutexGuard<'_, State>, run: RunId, started: &Started, ok: bool) -> bool {
    let over = state.watch.over(Instant::now(), run, ok);
    state.handles.remove(&run);
    state.done += u64::from(ok);
    if over.is_released {
        state.scheduler.release(started.model);
        shared.wake.notify_all();
    }
    over.stays
}

/// All of one model, or jobs. True if all went well.
fn compute(shared: &Shared, lanes: &mut Lanes, (run, model): (RunId, ModelId), taken: Vec<Work>) -> bool {
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
    let Some(served) = entries.first().map(|entry: &Entry| Arc::clone(&entry.served)) else { return well };
    if let Some(failure) = served.set_aside() {
        entries.into_iter().for_each(|entry: Entry| entry.answer(Err(failure.clone())));
        lanes.remove(&model);
        return false;
    }
    let mut lane = match lanes.remove(&model).map_or_else(|| open(shared, run, &served), Ok) {
        Ok(lane) => lane,
        Err(failure) => {
            for entry in entries {
                entry.answer(Err(failure.clone()));
            }
            return false;
        }
    };
    let ran = catch_unwind(AssertUnwindSafe(|| batch::run(&served, lane.session.as_mut(), entries)));
    match ran {
        Ok(ok) => {
            if ok {
                served.record.went_well();
            }
            lanes.insert(model, lane);
            ok
        }
        Err(_) => {
            tracing::error!(model = served.name, "a batch panicked; its callers get an error");
            false
        }
    }
}

fn open(shared: &Shared, run: RunId, served: &Served) -> Result<Lane, Failure> {
    let session = Arc::clone(&served.model).session();
    let session = session.map_err(|error| batch::failed(served, &error))?;
    let ender = session.ender();
    if let Some(ender) = &ender
        && let Some(handle) = shared.lock().handles.get_mut(&run)
    {
        handle.ender = Some(Arc::clone(ender));
    }
    Ok(Lane { session, ender })
}
