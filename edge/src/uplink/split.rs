//! How the rest of a sample's deadline is split between the pool and what comes after it. Pure.
//!
//! ```text
//! accepted ── local ──┬───── line and pool ─────┬─ combine, record ─ reserve ─┤ deadline
//!                   send                      until
//! ```
//!
//! The wait for the pool ends early enough for the decision to be out in time: what combining took of late, and by how much
//! timers fire late on this machine, are kept back. A call that the pool has no chance to answer by then is not sent: its
//! bytes are saved and its decision is out at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::estimate::Estimate;

/// Kept back in any case: some milliseconds, and a share of what is left for the stalls that no estimate sees coming. The
/// pool's last answers are worth less than being in time.
const LEAST: Duration = Duration::from_millis(4);
const LEAST_SHARE: u32 = 64;
/// At most one part in so many of a deadline is kept back.
const MOST_SHARE: u32 = 4;
/// How many of the last calls an estimate is made of.
const MOST: usize = 128;
/// Calls that an estimate must be made of before a call is held back for it.
const KNOWN: usize = 8;
/// One of the calls that would be held back goes out in this time, lest an estimate that is out of date last for ever.
const TRIAL: Duration = Duration::from_secs(1);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// The call goes out, and its answer is waited for until then.
    Send {
        until: Instant,
    },
    TooLate,
}

/// Where the rest of a deadline goes, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) network: Duration,
    pub(super) pool: Duration,
    pub(super) combine: Duration,
    pub(super) reserve: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Split {
    combine: Tail,
    late: Tail,
    trial: Option<Instant>,
}

impl Split {
    /// Combining and recording a decision took so long.
    pub(super) fn combined(&mut self, took: Duration) {
        self.combine.push(took);
    }

    /// A wait that ran to its end returned so much later.
    pub(super) fn woke(&mut self, late: Duration) {
        self.late.push(late);
    }

    pub(super) fn plan(&mut self, deadline: Instant, estimate: &Estimate, now: Instant) -> (Plan, Parts) {
        let left = deadline.saturating_duration_since(now);
        let combine = self.combine.long();
        let kept = (combine + self.late.long()).max(LEAST + left / LEAST_SHARE).min(left / MOST_SHARE);
        let until = deadline - kept.min(left);
        let parts = Parts {
            network: estimate.network.map_or(Duration::ZERO, |network| network.p50),
            pool: estimate.pool.map_or(Duration::ZERO, |pool| pool.p50),
            combine: combine.min(kept),
            reserve: kept.saturating_sub(combine),
        };
        let usual = estimate.total.filter(|total| total.of >= KNOWN).map(|total| total.p50);
        let is_hopeless = until <= now || usual.is_some_and(|usual| now + usual > until);
        if until > now && is_hopeless && self.trial.is_none_or(|last| now >= last + TRIAL) {
            self.trial = Some(now);
            return (Plan::Send { until }, parts);
        }
        (if is_hopeless { Plan::TooLate } else { Plan::Send { until } }, parts)
    }
}

/// Durations of late, and one that few of them pass.
#[derive(Debug, Default)]
struct Tail {
    last: VecDeque<Duration>,
}

impl Tail {
    fn push(&mut self, duration: Duration) {
        if self.last.len() == MOST {
            self.last.pop_front();
        }
        self.last.push_back(duration);
    }

    /// The longest but for one in a hundred, and a quarter more.
    fn long(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(Duration::ZERO, |long| *long * 5 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Times;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn usual(total: Duration) -> Estimate {
        let mut times = Times::default();
        (0..20).for_each(|_| times.took(total, total / 2, Instant::now()));
        times.estimate()
    }

    #[test]
    fn combining_and_late_timers_are_kept_back() {
        let (mut split, now) = (Split::default(), Instant::now());
        let deadline = now + MS * 1000;
        let least = LEAST + MS * 1000 / LEAST_SHARE;
        assert_eq!(split.plan(deadline, &Estimate::default(), now).0, Plan::Send { until: deadline - least });
        (0..100).for_each(|_| split.combined(MS * 4));
        (0..100).for_each(|_| split.woke(MS * 40));
        let (plan, parts) = split.plan(deadline, &usual(MS * 40), now);
        assert_eq!(plan, Plan::Send { until: deadline - MS * 55 });
        assert_eq!(
            (parts.network, parts.pool, parts.combine, parts.reserve),
            (MS * 20, MS * 20, MS * 5, MS * 50)
        );
    }

    #[test]
    fn never_more_than_a_share_is_kept_back() {
        let (mut split, now) = (Split::default(), Instant::now());
        split.woke(MS * 5000);
        let (plan, _) = split.plan(now + MS * 100, &Estimate::default(), now);
        assert_eq!(plan, Plan::Send { until: now + MS * 75 });
    }

    #[test]
    fn a_call_without_a_chance_is_not_sent_but_for_a_trial() {
        let (mut split, now) = (Split::default(), Instant::now());
        let slow = usual(MS * 400);
        let mut sent = 0;
        for at in 0..300 {
            let now = now + MS * 10 * at;
            sent += u32::from(split.plan(now + MS * 100, &slow, now).0 != Plan::TooLate);
        }
        assert_eq!(sent, 3);
        assert!(matches!(split.plan(now + MS * 600, &slow, now).0, Plan::Send { .. }));
        assert_eq!(split.plan(now, &slow, now + MS * 5000).0, Plan::TooLate);
    }
}
