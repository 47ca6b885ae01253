//! What a model has done since it was loaded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::buckets::{Buckets, FIRST_RESPONSE_MS, ROWS, SECONDS};
use super::entry::Done;
use super::request::Phases;
use crate::failure::{Failure, Kind};

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The request was well, and the model or the pool failed.
    Failed,
    /// The request was not one that the model takes.
    Invalid,
    /// There was no room for it, or something more urgent took that.
    Refused,
    /// The request's deadline could not be met, or passed.
    Expired,
    /// The request's caller went away.
    Cancelled,
}

impl Outcome {
    pub(crate) const ALL: [Self; 6] =
        [Self::Ok, Self::Failed, Self::Invalid, Self::Refused, Self::Expired, Self::Cancelled];

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn of(failure: &Failure) -> Self {
        match failure.kind() {
            Kind::Refused => Self::Refused,
            Kind::Deadline => Self::Expired,
            Kind::Invalid | Kind::NotFound | Kind::Precondition | Kind::TooLarge | Kind::Unsupported => {
                Self::Invalid
            }
            Kind::Taken | Kind::Unavailable | Kind::Internal | Kind::Unauthenticated | Kind::Denied => {
                Self::Failed
            }
        }
    }
}

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
#[derive(Debug, Clone)]
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
    /// Batches and their compute time, by the number of rows run together.
    pub(crate) by_batch: BTreeMap<usize, Total>,
    /// Looking in the response cache, with success.
    pub(crate) cache_hit: Total,
    /// Looking in it without, and keeping the answer.
    pub(crate) cache_miss: Total,
    /// Seconds and milliseconds of requests that were answered.
    pub(crate) request_seconds: Buckets,
    pub(crate) first_response_ms: Buckets,
    /// Seconds that answered entries have waited.
    pub(crate) queue_seconds: Buckets,
    /// Seconds of batches that went well; their rows are counted beside.
    pub(crate) compute_seconds: Buckets,
    pub(crate) batch_rows: Buckets,
    /// Requests by what came of them, in the order of [`Outcome::ALL`].
    outcomes: [u64; Outcome::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        let none = Total::default();
        Self {
            last: 0,
            rows: 0,
            batches: 0,
            success: none,
            fail: none,
            queue: none,
            join: none,
            compute: none,
            split: none,
            by_batch: BTreeMap::new(),
            cache_hit: none,
            cache_miss: none,
            request_seconds: Buckets::new(&SECONDS),
            first_response_ms: Buckets::new(&FIRST_RESPONSE_MS),
            queue_seconds: Buckets::new(&SECONDS),
            compute_seconds: Buckets::new(&SECONDS),
            batch_rows: Buckets::new(&ROWS),
            outcomes: [0; Outcome::ALL.len()],
        }
    }
}

impl Counts {
    /// Requests of which that came.
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

/// A model's counters, under a lock that is held for a few additions; they are read as a copy.
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
            counts.compute_seconds.observe(compute.as_secs_f64());
            counts.batch_rows.observe(rows as f64);
        });
    }

    /// An entry has left a model thread.
    pub(super) fn answered(&self, done: &Result<Done, Failure>, rows: usize) {
        let Ok(done) = done else { return };
        self.with(|counts| {
            counts.rows += rows as u64;
            counts.queue.add(done.phases.queue);
            counts.queue_seconds.observe(done.phases.queue.as_secs_f64());
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

    /// The response cache was asked.
    pub(super) fn cached(&self, is_hit: bool, took: Duration) {
        self.with(|counts| if is_hit { &mut counts.cache_hit } else { &mut counts.cache_miss }.add(took));
    }

    /// A whole request has its answer, or will have none.
    pub(crate) fn request(&self, took: Duration, outcome: Outcome) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.with(|counts| {
            counts.outcomes[outcome as usize] += 1;
            if outcome == Outcome::Ok {
                counts.last = now.as_millis() as u64;
                counts.success.add(took);
                counts.request_seconds.observe(took.as_secs_f64());
                counts.first_response_ms.observe(took.as_secs_f64() * 1e3);
            } else {
                counts.fail.add(took);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_its_own_name() {
        let statistics = Statistics::default();
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..=at {
                statistics.request(Duration::from_millis(1), outcome);
            }
        }
        let counts = statistics.read();
        let by_name: Vec<_> =
            Outcome::ALL.into_iter().map(|outcome| (outcome.as_str(), counts.of(outcome))).collect();
        assert_eq!(by_name[0], ("ok", 1));
        assert_eq!(by_name[5], ("cancelled", 6));
        assert_eq!((counts.success.count, counts.fail.count), (1, 20));
    }

    #[test]
    fn a_failure_counts_for_whoever_caused_it() {
        let refused = Failure::Refused { what: "full", retry_after: Duration::ZERO };
        for (failure, outcome) in [
            (Failure::field("inputs", "are missing"), Outcome::Invalid),
            (Failure::Unsupported("x".to_owned()), Outcome::Invalid),
            (refused, Outcome::Refused),
            (Failure::Deadline, Outcome::Expired),
            (Failure::Model("x".to_owned()), Outcome::Failed),
            (Failure::Stopped, Outcome::Failed),
        ] {
            assert_eq!(Outcome::of(&failure), outcome, "{failure}");
        }
    }
}
