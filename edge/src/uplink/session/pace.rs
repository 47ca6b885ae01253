//! How often an address that does not answer is dialled: close together at first, so that a line that is back is used at
//! once, and further apart the longer it is gone. A round of handshakes is a few small packets.

use std::time::{Duration, Instant};

/// Rounds are never closer than this.
const CLOSEST: Duration = Duration::from_millis(50);
/// While it is not known how long a round trip takes.
const UNKNOWN: Duration = Duration::from_millis(250);
/// A longer round trip does not spread rounds any further.
const WIDEST_START: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);
/// A line that has been gone for a time T is dialled every T / this: its return is noticed after 1.5 % of its absence.
const SHARE: u32 = 64;

#[derive(Debug)]
pub(super) struct Pace {
    gone_since: Instant,
    next: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { gone_since: now, next: now }
    }

    /// The line has gone just now, or there is a new reason to hope.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(super) fn due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// `round_trip` of the line when it last worked.
    pub(super) fn dialled(&mut self, now: Instant, round_trip: Option<Duration>) {
        let start = round_trip.map_or(UNKNOWN, |trip| trip.clamp(CLOSEST, WIDEST_START));
        let gone = now.saturating_duration_since(self.gone_since);
        self.next = now + (gone / SHARE).max(start).min(LONGEST);
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}
