//! What a model has done since it was loaded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::entry::Done;
use super::request::Phases;
use crate::failure::Failure;

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

impl Total {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time += time;
    }
}

/// Counted since the model was loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Milliseconds since 1970.
    pub(crate) last: u64,
    /// Rows answered.
    pub(crate) rows: u64,
    /// Batches run.
    pub(crate) batches: u64,
    /// Whole requests, from arrival.
    pub(crate) success: Total,
    pub(crate) fail: Total,
    pub(crate) queue: Total,
    pub(crate) join: Total,
    pub(crate) compute: Total,
    pub(crate) split: Total,
    /// By rows run together.
    pub(crate) by_batch: BTreeMap<usize, Total>,
}

/// Cheap to count; read as a copy.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    counts: Mutex<Counts>,
}

impl Statistics {
    pub(crate) fn read(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A batch of so many rows was computed.
    pub(super) fn ran(&self, rows: usize, compute: Duration) {
        self.with(|counts| {
            counts.batches += 1;
            counts.by_batch.entry(rows).or_default().add(compute);
        });
    }

    /// An entry has left a model thread.
    pub(super) fn answered(&self, done: &Result<Done, Failure>, rows: usize) {
        let Ok(done) = done else { return };
        self.with(|counts| {
            counts.rows += rows as u64;
            counts.queue.add(done.phases.queue);
            counts.join.add(done.phases.join);
            counts.compute.add(done.phases.compute);
            counts.split.add(done.phases.split);
        });
    }

    /// Rows of a composite were answered; its parts count for themselves.
    pub(super) fn composed(&self, rows: usize, phases: &Phases) {
        self.ran(rows, phases.compute);
        self.with(|counts| {
            counts.rows += rows as u64;
            counts.compute.add(phases.compute);
        });
    }

    /// A whole request has its answer, or will have none.
    pub(crate) fn request(&self, took: Duration, is_answered: bool) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.with(|counts| match is_answered {
            true => {
                counts.last = now.as_millis() as u64;
                counts.success.add(took);
            }
            false => counts.fail.add(took),
        });
    }
}
