//! The thread that looks at runs which take long, and does what the [`watch`](super::watch) says: another thread stands in
//! for one that is held, and what nobody waits for is ended. It tells as well when no work gets finished.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use millgate_shared::engine::Ender;

use super::super::entry::{Reply, Work};
use super::watch::{LOOK, Verdict};
use super::{Shared, worker};
use crate::failure::Failure;
use crate::readiness::Readiness;
use crate::scheduling::Started;

/// A run under way, as others see it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) started: Started,
    /// Those who wait; empty for jobs, which are never ended.
    pub(super) replies: Vec<Reply>,
    /// Ends it; `None` where it runs in this process, or has not begun yet.
    pub(super) ender: Option<Arc<dyn Ender>>,
}

impl Handle {
    fn is_gone(&self) -> bool {
        !self.replies.is_empty() && self.replies.iter().all(Reply::is_gone)
    }
}

pub(super) fn start(shared: &Arc<Shared>, readiness: Readiness) {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("model-watch".to_owned());
    if let Err(error) = thread.spawn(move || watch(&shared, &readiness)) {
        tracing::error!(%error, "the thread that looks after runs could not be started");
    }
}

fn watch(shared: &Arc<Shared>, readiness: &Readiness) {
    let mut state = shared.lock();
    while !state.is_stopped {
        if state.watch.rests() {
            state.watchdog_rests = true;
            state.stall.rest();
            readiness.set_stalled(false);
            state = shared.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.watchdog_rests = false;
            continue;
        }
        state = shared.begun.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        let this = &mut *state;
        let now = Instant::now();
        let (waiting, running) = (this.scheduler.queued_for_workers(), this.watch.running());
        readiness.set_stalled(this.stall.look(now, waiting, running, this.done));
        let gone = |run| this.handles.get(&run).is_some_and(Handle::is_gone);
        let (mut shed, mut stand_ins) = (Vec::<Work>::new(), 0);
        for verdict in this.watch.look(now, gone) {
            match verdict {
                Verdict::Holds { run, stands_in, is_held_back } => {
                    if let Some(handle) = this.handles.get(&run) {
                        this.scheduler.leave(&handle.started);
                        if is_held_back {
                            shed.extend(this.scheduler.hold(handle.started.model));
                        }
                    }
                    stand_ins += usize::from(stands_in);
                }
                Verdict::Ends { run, after } => {
                    // Under the lock, so that the session's next run is not the one that is ended.
                    if let Some(ender) = this.handles.get(&run).and_then(|handle| handle.ender.as_ref()) {
                        ender.end(format!("it took {:.1} s, and was not over", after.as_secs_f64()));
                    }
                }
            }
        }
        if shed.is_empty() && stand_ins == 0 {
            continue;
        }
        let retry_after = this.scheduler.backlog();
        drop(state);
        let what = "a run of the model does not end, and enough wait for that";
        shed.into_iter().for_each(|work| work.refuse(Failure::Refused { what, retry_after }));
        let lacking = (0..stand_ins).filter(|_| !worker::start(shared)).count();
        state = shared.lock();
        (0..lacking).for_each(|_| state.watch.lacks_thread());
    }
}
