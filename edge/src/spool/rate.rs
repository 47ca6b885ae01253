//! How fast the spool fills, from the entries of the last day. Pure.

use std::collections::VecDeque;

use super::index::Millis;

const SLOT: Millis = 10 * 60 * 1000;
const DAY: Millis = 24 * 3600 * 1000;

/// Bytes taken, by ten minutes.
#[derive(Debug)]
pub(crate) struct Rate {
    began: Millis,
    slots: VecDeque<(Millis, u64)>,
}

impl Rate {
    pub(crate) fn new(now: Millis) -> Self {
        Self { began: now, slots: VecDeque::new() }
    }

    /// `at` may be before the start, for what an earlier run took.
    pub(crate) fn note(&mut self, at: Millis, bytes: u64) {
        self.began = self.began.min(at);
        let slot = at.div_euclid(SLOT);
        match self.slots.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, sum)) => *sum += bytes,
            None => self.slots.push_back((slot, bytes)),
        }
        let oldest = slot - DAY / SLOT;
        self.slots.retain(|(slot, _)| *slot > oldest);
    }

    /// Over the last day, or since the first entry.
    pub(crate) fn bytes_per_hour(&self, now: Millis) -> f64 {
        let since = self.began.max(now - DAY);
        let hours = ((now - since).max(SLOT) as f64) / 3_600_000.0;
        let oldest = (now - DAY).div_euclid(SLOT);
        let sum: u64 = self.slots.iter().filter(|(slot, _)| *slot > oldest).map(|(_, sum)| sum).sum();
        sum as f64 / hours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_day() {
        const HOUR: Millis = 3_600_000;
        let mut rate = Rate::new(0);
        assert_eq!(rate.bytes_per_hour(0), 0.0);
        rate.note(0, 100);
        rate.note(HOUR, 100);
        assert_eq!(rate.bytes_per_hour(2 * HOUR), 100.0);
        assert_eq!(rate.bytes_per_hour(40 * HOUR), 0.0);
        rate.note(50 * HOUR, 240);
        assert_eq!(rate.bytes_per_hour(50 * HOUR), 10.0);
    }
}
