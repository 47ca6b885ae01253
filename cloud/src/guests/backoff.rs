//! When a process that has ended may be started again: at once after the first death, then later and later while it
//! goes on dying. Pure.

use std::time::{Duration, Instant};

/// Pause after the second death in a row; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A process that lived for this long begins a new row.
const WELL: Duration = Duration::from_secs(60);

/// The deaths in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    deaths: u32,
    /// No start before this.
    until: Option<Instant>,
}

impl Backoff {
    /// Notes a death that came at `now` after a life of `lived`.
    pub(super) fn died(&mut self, now: Instant, lived: Duration) {
        if lived >= WELL {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        let doublings = self.deaths.saturating_sub(2);
        let pause = match self.deaths {
            0 | 1 => Duration::ZERO,
            _ => FIRST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST),
        };
        self.until = now.checked_add(pause);
    }

    /// How long to wait until the next start; zero: it may be now.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_goes_on_dying_is_started_later_and_later() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(start), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..70 {
            backoff.died(start, Duration::from_secs(1));
            pauses.push(backoff.pause(start));
        }
        assert_eq!(pauses[..4], [0, 100, 200, 400].map(Duration::from_millis));
        assert!(pauses.is_sorted() && pauses.last() == Some(&LONGEST));
        assert_eq!(backoff.pause(start + LONGEST), Duration::ZERO, "it passes");
        // One that ran well dies as if for the first time.
        backoff.died(start + LONGEST, WELL);
        assert_eq!(backoff.pause(start + LONGEST), Duration::ZERO);
    }
}
