//! Which runs have taken too long, and what is to be done about them. Pure: it takes `now`, and is told of each run's
//! begin and end.
//!
//! * A run that takes long *holds* its thread: another thread stands in for that one. A model whose runs hold as many threads
//!   as there should be gets no further one, nor does one for which none can stand in. So one model's endless runs take
//!   about as many threads as it could have had, and never those of others, and one that is slow loses nothing.
//! * A run is *ended* when nobody waits for it any more and it has taken many times what is usual, or when it has taken
//!   the longest that any run may.
//!
//! What is usual is the longest time that such a run has taken, by the number of its rows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::scheduling::ModelId;

/// A run holds its thread after this time.
const HOLDS_AFTER: Duration = Duration::from_millis(250);
/// A run for which nobody waits is ended after so many times what is usual, and not sooner than this.
const ENDED_AFTER: u32 = 8;
const ENDED_AT_LEAST: Duration = Duration::from_secs(2);
/// Runs are looked at so often.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Looks that lie farther apart show that this process stood still for the time between, and no run is to blame for that.
const STOOD_STILL: Duration = Duration::from_millis(500);
/// Threads that may stand in, for each thread that there is.
const STAND_INS: usize = 4;
/// Powers of two of rows that are told apart.
const SIZES: usize = 17;

/// One run, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RunId(u64);

/// What is to be done about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The run holds its thread: another one is to be started if one `stands_in`, and the model is to get no further thread
    /// if it `is_held_back`.
    Holds { run: RunId, stands_in: bool, is_held_back: bool },
    /// The run is to be ended, after it has taken so long.
    Ends { run: RunId, after: Duration },
}

/// What comes of a run that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    /// The thread goes on; otherwise another one has taken its place.
    pub(super) stays: bool,
    /// The model may have threads again.
    pub(super) is_released: bool,
}

#[derive(Debug)]
struct Run {
    model: ModelId,
    rows: usize,
    /// When it began; later where the process stood still.
    since: Instant,
    /// When the run is ended if nobody waits for it. `None`: it is let be.
    ends_after: Option<Duration>,
    holds: bool,
    /// When it was last to be ended.
    ended: Option<Instant>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Watch {
    /// Threads that should be free of runs that hold them.
    wanted: usize,
    /// Threads that are, busy or not.
    free: usize,
    /// All threads.
    threads: usize,
    longest_run: Duration,
    runs: HashMap<RunId, Run>,
    usual: HashMap<ModelId, [Duration; SIZES]>,
    looked: Option<Instant>,
    next: u64,
}

impl Watch {
    /// Watches over `threads` threads. No run may take longer than `longest_run`.
    pub(super) fn new(threads: usize, longest_run: Duration) -> Self {
        Self {
            wanted: threads,
            free: threads,
            threads,
            longest_run,
            runs: HashMap::new(),
            usual: HashMap::new(),
            looked: None,
            next: 0,
        }
    }

    /// Tells how long runs of so many rows took when the model was tried.
    pub(super) fn add_model(&mut self, model: ModelId, tried: impl IntoIterator<Item = (usize, Duration)>) {
        let usual = self.usual.entry(model).or_insert([Duration::ZERO; SIZES]);
        for (rows, took) in tried {
            let size = size(rows);
            usual[size] = usual[size].max(took);
        }
    }

    pub(super) fn remove_model(&mut self, model: ModelId) {
        self.usual.remove(&model);
    }

    /// Notes that a run begins. One of what was never added is let be, however long it takes.
    pub(super) fn begin(&mut self, now: Instant, model: ModelId, rows: usize) -> RunId {
        self.next += 1;
        let usual = self.usual.get(&model).map(|usual| usual_of(usual, rows));
        let ends_after = usual.map(|usual| usual.saturating_mul(ENDED_AFTER).max(ENDED_AT_LEAST));
        let run = Run { model, rows, since: now, ends_after, holds: false, ended: None };
        self.runs.insert(RunId(self.next), run);
        RunId(self.next)
    }

    /// Notes that a run is over; one that went `well` shows what is usual.
    pub(super) fn over(&mut self, now: Instant, run: RunId, well: bool) -> Over {
        let Some(run) = self.runs.remove(&run) else { return Over { stays: true, is_released: false } };
        let took = now.saturating_duration_since(run.since);
        if well && let Some(usual) = self.usual.get_mut(&run.model) {
            let size = size(run.rows);
            usual[size] = usual[size].max(took);
        }
        if !run.holds {
            return Over { stays: true, is_released: false };
        }
        let stays = self.free < self.wanted;
        if stays {
            self.free += 1;
        } else {
            self.threads -= 1;
        }
        Over { stays, is_released: self.held_by(run.model) < self.wanted }
    }

    /// How many threads the runs of a model hold.
    fn held_by(&self, model: ModelId) -> usize {
        self.runs.values().filter(|run| run.model == model && run.holds).count()
    }

    /// Looks at all runs. `is_gone`: nobody waits for it any more.
    pub(super) fn look(&mut self, now: Instant, mut is_gone: impl FnMut(RunId) -> bool) -> Vec<Verdict> {
        let since = self.looked.replace(now).map(|looked| now.saturating_duration_since(looked));
        if let Some(still) = since.filter(|since| *since > STOOD_STILL) {
            for run in self.runs.values_mut() {
                run.since = (run.since + still).min(now);
            }
        }
        let mut verdicts = Vec::new();
        let mut numbers: Vec<RunId> = self.runs.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(run) = self.runs.get_mut(&number) else { continue };
            let Some(ends_after) = run.ends_after else { continue };
            let took = now.saturating_duration_since(run.since);
            let model = run.model;
            let begins_to_hold = !run.holds && took >= HOLDS_AFTER;
            run.holds |= begins_to_hold;
            // What was between two processes then goes on in the next one.
            let may_end = run.ended.is_none_or(|at| now.saturating_duration_since(at) >= ENDED_AT_LEAST);
            let too_long = took >= self.longest_run;
            let ends = may_end && (too_long || (took >= ends_after && is_gone(number)));
            if ends {
                run.ended = Some(now);
            }
            if begins_to_hold {
                self.free -= 1;
                let stands_in = self.free < self.wanted && self.threads < self.wanted * (1 + STAND_INS);
                if stands_in {
                    self.free += 1;
                    self.threads += 1;
                }
                let is_held_back = !stands_in || self.held_by(model) >= self.wanted;
                verdicts.push(Verdict::Holds { run: number, stands_in, is_held_back });
            }
            if ends {
                verdicts.push(Verdict::Ends { run: number, after: took });
            }
        }
        verdicts
    }

    /// Whether nothing runs, so that looks may stop for a while.
    pub(super) fn rests(&mut self) -> bool {
        if self.runs.is_empty() {
            self.looked = None;
        }
        self.runs.is_empty()
    }

    /// A thread that should have stood in could not be started.
    pub(super) fn lacks_thread(&mut self) {
        self.free -= 1;
        self.threads -= 1;
    }

    /// Runs that hold no thread.
    pub(super) fn running(&self) -> usize {
        self.runs.values().filter(|run| !run.holds).count()
    }
}

fn size(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(SIZES - 1)
}

/// The longest of so many rows, or what it would be by the nearest number that was seen.
fn usual_of(usual: &[Duration; SIZES], rows: usize) -> Duration {
    let size = size(rows);
    let fewer = (0..=size).rev().find(|at| !usual[*at].is_zero());
    let more = || usual[size..].iter().copied().find(|took| !took.is_zero());
    match fewer {
        Some(at) => usual[at].saturating_mul(1 << (size - at)),
        None => more().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
