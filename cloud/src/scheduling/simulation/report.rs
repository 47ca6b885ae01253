//! What came of a run's requests.

use std::time::{Duration, Instant};

use super::load::{Load, WARM_UP};
use super::{Job, Mix, Outcome};

/// Step in which recovery is told.
const WINDOW: Duration = Duration::from_millis(10);

/// Recovery is told by those who want an answer so soon. What may wait longer still pays for the burst when it is over.
const URGENT: Duration = Duration::from_millis(100);

/// Added up over runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) offered: usize,
    pub(super) in_time: usize,
    pub(super) late: usize,
    /// What can be in time: all, or what the workers can do in their best batches meanwhile.
    pub(super) possible: f64,
    /// Latencies of the answers in time.
    latencies: Vec<Duration>,
    rows: usize,
    /// By when it arrived after the burst's end, in steps of [`WINDOW`]: offered, in time.
    after: Vec<(usize, usize)>,
}

impl Report {
    /// Adds a run; where the load has a burst, only what arrives in it counts.
    pub(super) fn add(&mut self, mix: &Mix, load: &Load, start: Instant, jobs: &[Job], ends: &[Outcome]) {
        let begin = start + WARM_UP;
        let (from, to) = match load.burst {
            Some((from, length, _)) => (begin + from, begin + from + length),
            None => (begin, begin + load.length),
        };
        let mut offered = 0;
        for (job, outcome) in jobs.iter().zip(ends) {
            let answered = match outcome {
                Outcome::Answered { at, rows } => Some((*at, *rows)),
                Outcome::Refused | Outcome::Dropped => None,
            };
            let in_time = answered.filter(|(at, _)| *at <= job.deadline);
            if job.arrived >= to && job.deadline - job.arrived <= URGENT {
                let window = ((job.arrived - to).as_nanos() / WINDOW.as_nanos()) as usize;
                self.after.resize(self.after.len().max(window + 1), (0, 0));
                self.after[window].0 += 1;
                self.after[window].1 += usize::from(in_time.is_some());
            }
            if job.arrived < from || job.arrived >= to {
                continue;
            }
            offered += 1;
            match (in_time, answered) {
                (Some((at, rows)), _) => {
                    self.in_time += 1;
                    self.rows += rows;
                    self.latencies.push(at - job.arrived);
                }
                (None, Some(_)) => self.late += 1,
                (None, None) => {}
            }
        }
        self.offered += offered;
        self.possible += (offered as f64).min(mix.capacity(true) * (to - from).as_secs_f64());
    }

    /// In time, of what is possible.
    pub(super) fn goodput(&self) -> f64 {
        self.in_time as f64 / self.possible.max(1.0)
    }

    /// In time, of what was offered.
    pub(super) fn served(&self) -> f64 {
        self.in_time as f64 / self.offered.max(1) as f64
    }

    /// Computed for nothing, of what was computed.
    pub(super) fn wasted(&self) -> f64 {
        self.late as f64 / (self.late + self.in_time).max(1) as f64
    }

    pub(super) fn latency(&self, quantile: f64) -> Duration {
        quantile_of(&self.latencies, quantile)
    }

    /// From the burst's end on: after so long, of what is urgent 19 of 20 are answered in time.
    pub(super) fn recovery(&self) -> Duration {
        let is_short = |(offered, in_time): &(usize, usize)| *in_time * 20 < *offered * 19;
        let last = self.after.iter().rposition(is_short);
        last.map_or(Duration::ZERO, |last| WINDOW * (last as u32 + 1))
    }

    /// Rows that an answer shared its batch with, itself included.
    pub(super) fn mean_rows(&self) -> f64 {
        self.rows as f64 / self.in_time.max(1) as f64
    }
}

fn quantile_of(all: &[Duration], quantile: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let at = (quantile * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
