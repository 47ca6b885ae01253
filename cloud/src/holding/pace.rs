//! How long a message may take to arrive. Pure: it takes `now`.
//!
//! A sender has [`FIRST`], and every byte that comes buys it more at [`LEAST_RATE`], up to [`MOST`] ahead: one that sends as
//! fast as the slowest line that is served keeps on for as long as its message is long, and one that sends a byte now and then is
//! cut after [`FIRST`]. Only the time counts during which somebody waits for bytes.

use std::time::{Duration, Instant};

/// Time that is had without a byte.
pub(crate) const FIRST: Duration = Duration::from_secs(10);
/// Bytes that must come in a second: half of what the slowest line brings, since several messages may share one.
pub(crate) const LEAST_RATE: u32 = 1 << 10;
/// The longest pause in the middle of a message. A connection that says nothing for so long is given up anyway.
pub(crate) const MOST: Duration = Duration::from_secs(30);

/// The pace of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    left: Duration,
    /// Since when bytes are waited for.
    since: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: FIRST, since: None }
    }
}

impl Pace {
    /// Bytes are waited for; gives until when.
    pub(crate) fn waits(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// Bytes have come.
    pub(crate) fn came(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            let waited = now.saturating_duration_since(since);
            // Whoever is due is woken. If this one was not, nobody has waited: the time is ours, not the sender's.
            self.left = self.left.checked_sub(waited).unwrap_or(FIRST);
        }
        let bought = Duration::from_secs_f64(bytes as f64 / f64::from(LEAST_RATE));
        self.left = (self.left + bought).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after which a sender is cut that sends `bytes`, and again after every `pause`; `None` if it gets `whole`
    /// through.
    fn sends(bytes: usize, pause: Duration, whole: usize) -> Option<u64> {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let (mut now, mut sent) = (begin, bytes);
        pace.came(bytes, now);
        while sent < whole {
            let due = pace.waits(now);
            if now + pause > due {
                return Some((due - begin).as_secs());
            }
            now += pause;
            sent += bytes;
            pace.came(bytes, now);
        }
        None
    }

    #[test]
    fn slow_lines_live_and_drips_do_not() {
        // 2 KB/s, in packets of 1.2 KB and with outages of 20 s, a message of 10 MB.
        assert_eq!(sends(1200, Duration::from_millis(600), 10 << 20), None);
        assert_eq!(sends(40_000, Duration::from_secs(20), 10 << 20), None);
        assert_eq!(sends(1, Duration::from_secs(1), 64 << 20), Some(10));
        assert_eq!(sends(1, Duration::from_millis(100), 64 << 20), Some(10));
        assert_eq!(sends(1, Duration::from_secs(60), 64 << 20), Some(10));
        // A megabyte at once, and then nothing.
        assert_eq!(sends(1 << 20, Duration::from_secs(31), 64 << 20), Some(30));
        assert_eq!(sends(1 << 20, Duration::from_secs(29), 64 << 20), None);
    }

    #[test]
    fn a_wait_of_ours_costs_the_sender_nothing() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.waits(now), now + FIRST);
        // It was due long ago and nobody looked.
        let later = now + Duration::from_secs(300);
        pace.came(10, later);
        assert!(pace.waits(later) >= later + FIRST);
    }

    #[test]
    fn asking_twice_does_not_prolong_a_wait() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let due = pace.waits(now);
        assert_eq!(pace.waits(now + Duration::from_secs(5)), due);
    }
}
