//! Pauses between tries at what fails: the first, then each twice as long as the one before, up to the longest. Pure.

use std::time::Duration;

/// How long to wait after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause that follows `pause`; after [`Duration::ZERO`] that is the first one.
    pub fn after(self, pause: Duration) -> Duration {
        pause.saturating_mul(2).clamp(self.first, self.longest)
    }

    /// The pause after so many failures in a row; 0 and 1 give the first one.
    pub fn of(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Shortens `pause` to between one half (`share` 0) and all of it (`share` 1), so that a thousand devices do not come back at
/// the same moment.
pub fn jittered(pause: Duration, share: f64) -> Duration {
    pause.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_from_the_first_to_the_longest() {
        let backoff = Backoff::new(MS, MS * 5);
        let mut pause = Duration::ZERO;
        let pauses: Vec<Duration> = (0..5)
            .map(|_| {
                pause = backoff.after(pause);
                pause
            })
            .collect();
        assert_eq!(pauses, [MS, MS * 2, MS * 4, MS * 5, MS * 5]);
        assert_eq!((1..=5).map(|failures| backoff.of(failures)).collect::<Vec<_>>(), pauses);
        assert_eq!((backoff.of(0), backoff.of(u32::MAX)), (MS, MS * 5));
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!((jittered(MS * 8, 0.0), jittered(MS * 8, 1.0)), (MS * 4, MS * 8));
    }
}
