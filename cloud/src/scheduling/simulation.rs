//! The scheduler in virtual time: workers, experts with measured curves, arrivals; and what came of every request.
//!
//! One run is a function of its seed. `MILLGATE_SEED=<n>` runs that one alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

mod load;
mod policies;
mod report;
mod tests;

/// Handing a batch to a worker and its answers back.
const DISPATCH: Duration = Duration::from_micros(150);
/// Standard deviation of a batch's time.
const JITTER: f64 = 0.08;
const WORKERS: usize = 2;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Batch rows → µs.
type Times = &'static [(usize, u64)];

/// Experts that share the workers; requests ask each alike.
#[derive(Debug, Clone, Copy)]
struct Mix {
    name: &'static str,
    experts: [Times; 3],
}

/// Measured, µs a call: a residual net in INT8, a dense one of 4 MB, one of 17 MB. Batches pay.
const DENSE: Mix = Mix {
    name: "dense",
    experts: [
        &[(1, 133), (8, 924), (32, 4005)],
        &[(1, 60), (8, 164), (32, 604)],
        &[(1, 284), (8, 706), (32, 3095)],
    ],
};

/// A convolution of 48.8 MMAC, dense ones of 17 and 67 MB: batches pay, but not for all, and they are long.
const HEAVY: Mix = Mix {
    name: "heavy",
    experts: [
        &[(1, 845), (8, 6896), (32, 44_141)],
        &[(1, 284), (8, 706), (32, 3095)],
        &[(1, 3087), (8, 4964), (32, 12_750)],
    ],
};

/// Convolutions: batches do not pay, so what is over the capacity is lost whatever is done.
const CONVOLUTION: Mix = Mix {
    name: "convolution",
    experts: [
        &[(1, 133), (8, 924), (32, 4005)],
        &[(1, 845), (8, 6896), (32, 44_141)],
        &[(1, 845), (8, 6896), (32, 44_141)],
    ],
};

const MIXES: [Mix; 3] = [DENSE, HEAVY, CONVOLUTION];

impl Mix {
    /// Seconds that `rows` rows of an expert take, with dispatch: on the line between what was measured.
    fn seconds(&self, expert: usize, rows: usize) -> f64 {
        let curve = super::Curve::new(self.experts[expert].iter().map(|(rows, time)| (*rows, us(*time))));
        (curve.expected(rows) + DISPATCH).as_secs_f64()
    }

    /// Requests a second that all workers can do, one by one or in the best batches.
    fn capacity(&self, batched: bool) -> f64 {
        let one = |expert: usize| {
            let sizes =
                self.experts[expert].iter().map(|(rows, _)| *rows).filter(|rows| batched || *rows == 1);
            sizes.map(|rows| self.seconds(expert, rows) / rows as f64).fold(f64::INFINITY, f64::min)
        };
        WORKERS as f64 * 3.0 / (0..3).map(one).sum::<f64>()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Job {
    number: usize,
    expert: usize,
    arrived: Instant,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Answered {
        at: Instant,
        rows: usize,
    },
    /// Not let in.
    Refused,
    /// Let in, and dropped before it was computed.
    Dropped,
}

/// What is run next, by whichever rules.
trait Policy {
    /// Those that are sent away, the newcomer among them if it is.
    fn offer(&mut self, now: Instant, job: Job) -> Vec<Job>;
    /// Rows for a free worker, and what was dropped on the way.
    fn take(&mut self, now: Instant) -> (Vec<Job>, Vec<Job>);
    /// The batch that began with this job took so long.
    fn finished(&mut self, first: Job, took: Duration);
    fn queued(&self) -> usize;
}

/// What jobs and their times are drawn from: the same numbers for the same seed.
#[derive(Debug, Clone)]
struct Random(fastrand::Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// In 0..1, never 0.
    fn unit(&mut self) -> f64 {
        1.0 - self.0.f64()
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound)
    }

    /// Mean 0, deviation 1, about: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// Runs all jobs, which are in the order of arrival, to their ends.
fn run(policy: &mut dyn Policy, mix: &Mix, jobs: &[Job], random: &mut Random) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; jobs.len()];
    let mut end = |job: Job, outcome: Outcome| {
        let before = outcomes[job.number].replace(outcome);
        assert_eq!(before, None, "{job:?} ends a second time: {outcome:?}");
    };
    let mut arrivals = jobs.iter().copied().peekable();
    // By end: worker's batch.
    let mut ends: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut running: Vec<Option<(Vec<Job>, Duration)>> = (0..WORKERS).map(|_| None).collect();
    loop {
        let next_end = ends.peek().map(|Reverse((at, _))| *at);
        let next_arrival = arrivals.peek().map(|job| job.arrived);
        let now = match (next_end, next_arrival) {
            (Some(end), Some(arrival)) if arrival < end => arrival,
            (Some(end), _) => end,
            (None, Some(arrival)) => arrival,
            (None, None) => break,
        };
        if next_end == Some(now)
            && let Some(Reverse((_, worker))) = ends.pop()
            && let Some((batch, took)) = running[worker].take()
        {
            policy.finished(batch[0], took);
            for job in &batch {
                end(*job, Outcome::Answered { at: now, rows: batch.len() });
            }
        } else if let Some(job) = arrivals.next() {
            for refused in policy.offer(now, job) {
                end(refused, Outcome::Refused);
            }
        }
        for (worker, free) in running.iter_mut().enumerate() {
            while free.is_none() {
                let (batch, dropped) = policy.take(now);
                let nothing = batch.is_empty() && dropped.is_empty();
                for job in dropped {
                    end(job, Outcome::Dropped);
                }
                if let Some(first) = batch.first() {
                    let jitter = (1.0 + JITTER * random.normal()).max(0.5);
                    let took = Duration::from_secs_f64(mix.seconds(first.expert, batch.len()) * jitter);
                    ends.push(Reverse((now + took, worker)));
                    *free = Some((batch, took));
                } else if nothing {
                    assert_eq!(policy.queued(), 0, "a worker is idle while something waits");
                    break;
                }
            }
        }
    }
    let missing = |number: usize| panic!("{:?} has no end", jobs[number]);
    outcomes.into_iter().enumerate().map(|(number, end)| end.unwrap_or_else(|| missing(number))).collect()
}
