//! What a call to a pool costs in time, from the calls of the last while. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a call costs right now; each part is `None` while nothing has been measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Time on the line alone, there and back.
    pub network: Option<Quantiles>,
    /// Time in the pool: queue and computing.
    pub pool: Option<Quantiles>,
    /// Time of both together, as a caller sees it.
    pub total: Option<Quantiles>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    pub p50: Duration,
    pub p95: Duration,
    /// Calls that it is made of.
    pub of: usize,
}

/// Calls that count.
const MOST: usize = 64;
/// An older one counts no more.
const OLDEST: Duration = Duration::from_secs(300);

/// The calls that an estimate is made of.
#[derive(Debug, Default)]
pub struct Times {
    took: VecDeque<Took>,
    estimate: Estimate,
}

#[derive(Debug, Clone, Copy)]
struct Took {
    at: Instant,
    total: Duration,
    pool: Duration,
}

impl Times {
    /// One call took `total`, of which the pool says that `pool` were spent there.
    pub fn took(&mut self, total: Duration, pool: Duration, now: Instant) {
        let is_old = |took: &Took| now.saturating_duration_since(took.at) > OLDEST;
        while self.took.front().is_some_and(is_old) || self.took.len() >= MOST {
            self.took.pop_front();
        }
        self.took.push_back(Took { at: now, total, pool: pool.min(total) });
        self.estimate = Estimate {
            network: self.quantiles(|took| took.total - took.pool),
            pool: self.quantiles(|took| took.pool),
            total: self.quantiles(|took| took.total),
        };
    }

    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    fn quantiles(&self, of: impl Fn(&Took) -> Duration) -> Option<Quantiles> {
        let mut sorted: Vec<Duration> = self.took.iter().map(of).collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |share: usize| sorted[(last * share).div_ceil(100)];
        Some(Quantiles { p50: at(50), p95: at(95), of: sorted.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_is_split_into_line_and_pool() {
        let (mut times, now) = (Times::default(), Instant::now());
        assert_eq!(times.estimate(), Estimate::default());
        for call in 1..=20 {
            times.took(MS * (40 + call), MS * call, now);
        }
        let estimate = times.estimate();
        assert_eq!(estimate.network.unwrap(), Quantiles { p50: MS * 40, p95: MS * 40, of: 20 });
        assert_eq!(estimate.pool.unwrap(), Quantiles { p50: MS * 11, p95: MS * 20, of: 20 });
        assert_eq!(estimate.total.unwrap().p95, MS * 60);
    }

    #[test]
    fn old_calls_are_forgotten() {
        let (mut times, now) = (Times::default(), Instant::now());
        (0..100).for_each(|_| times.took(MS * 500, MS, now));
        assert_eq!(times.estimate().total.unwrap().of, MOST);
        times.took(MS, MS * 2, now + OLDEST + MS);
        assert_eq!(times.estimate().total.unwrap(), Quantiles { p50: MS, p95: MS, of: 1 });
    }
}
