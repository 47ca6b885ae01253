//! Who asks when: Poisson arrivals at a level, perhaps with a burst, with mixed deadlines.

use std::time::{Duration, Instant};

use super::{Job, Mix, Random};

/// Before it nothing is measured: the estimates settle, as they have in a pool that has run for a while.
pub(super) const WARM_UP: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Relative to what the workers can do.
    pub(super) level: f64,
    /// In their best batches; else one by one.
    pub(super) of_batches: bool,
    /// From when, after the warm-up, how long, and how much relative to the same.
    pub(super) burst: Option<(Duration, Duration, f64)>,
    /// How long the load lasts after the warm-up.
    pub(super) length: Duration,
    /// Milliseconds; each as often.
    pub(super) deadlines: &'static [u64],
}

/// Deadlines, in milliseconds, of a line that waits, a person who waits, and a report that is written.
pub(super) const MIXED: &[u64] = &[20, 100, 300];
pub(super) const ONE: &[u64] = &[50];

impl Load {
    pub(super) fn steady(level: f64, length: Duration) -> Self {
        Self { level, of_batches: false, burst: None, length, deadlines: MIXED }
    }

    /// 0.7, and so much more for 200 ms.
    pub(super) fn burst(level: f64) -> Self {
        let ms = Duration::from_millis;
        let burst = Some((ms(100), ms(200), level));
        Self { level: 0.7, of_batches: false, burst, length: ms(700), deadlines: MIXED }
    }

    fn level_at(&self, after_warm_up: Option<Duration>) -> f64 {
        match (after_warm_up, self.burst) {
            (None, _) => self.level.min(0.7),
            (Some(at), Some((from, length, level))) if at >= from && at < from + length => level,
            _ => self.level,
        }
    }

    /// In the order of arrival; those of the warm-up first.
    pub(super) fn jobs(&self, mix: &Mix, start: Instant, random: &mut Random) -> Vec<Job> {
        let capacity = mix.capacity(self.of_batches);
        let mut jobs = Vec::new();
        let mut at = Duration::ZERO;
        loop {
            let level = self.level_at(at.checked_sub(WARM_UP));
            at += Duration::from_secs_f64(-random.unit().ln() / (level * capacity));
            if at > WARM_UP + self.length {
                return jobs;
            }
            let patience = self.deadlines[random.below(self.deadlines.len())];
            let arrived = start + at;
            let deadline = arrived + Duration::from_millis(patience);
            jobs.push(Job { number: jobs.len(), expert: random.below(3), arrived, deadline });
        }
    }
}
