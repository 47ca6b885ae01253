//! What time it is for those who count days: the wall clock, once it is to be believed. Pure.
//!
//! One reading of the wall clock proves nothing: a device whose clock is days ahead at one start would find every entry too
//! old. What proves something is the kernel's count since the boot, which nobody sets. The wall clock is believed once it has
//! gone along with that count for [`AGREES`], over restarts of the agent too; and when it is set to another time, what was
//! believed before goes on by the kernel's count until the new time has proved itself likewise. After a boot nothing is
//! believed yet.

use serde::{Deserialize, Serialize};

use super::index::Millis;

/// How long the wall clock must have gone along with the kernel's count.
pub(super) const AGREES: Millis = 24 * 3600 * 1000;
/// Between two looks the two may come apart by this much: a clock is kept right in small steps.
const STEP: Millis = 60 * 1000;

/// What is known of the time, in milliseconds. `uptime` is the kernel's count since the boot, suspend included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clock {
    /// The boot that this is about; empty if the system does not say.
    boot: String,
    /// The time at the boot by the wall clock, as it stands now.
    seen: Millis,
    /// When, by the kernel's count, it was first seen so.
    since: Millis,
    /// The time at the boot by what is believed.
    believed: Option<Millis>,
}

impl Clock {
    /// Goes on with what an earlier run has left, if that is of the same boot.
    pub(super) fn begin(left: Option<Self>, boot: &str, uptime: Millis, wall: Millis) -> Self {
        let new = || Self { boot: boot.to_owned(), seen: wall - uptime, since: uptime, believed: None };
        let is_same = |left: &Self| !boot.is_empty() && left.boot == boot && left.since <= uptime;
        let mut this = left.filter(is_same).unwrap_or_else(new);
        this.look(uptime, wall);
        this
    }

    /// Takes in a reading; true if there is something to be written down.
    pub(super) fn look(&mut self, uptime: Millis, wall: Millis) -> bool {
        let before = (self.since, self.believed.is_some());
        let seen = wall.saturating_sub(uptime);
        if (seen - self.seen).abs() > STEP {
            self.since = uptime;
        }
        self.seen = seen;
        if uptime - self.since >= AGREES {
            self.believed = Some(seen);
        }
        before != (self.since, self.believed.is_some())
    }

    /// The time, if it is to be believed: milliseconds since 1970.
    pub(super) fn now(&self, uptime: Millis) -> Option<Millis> {
        self.believed.map(|boot| boot + uptime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3600 * 1000;
    const DAY: Millis = 24 * HOUR;
    const WALL: Millis = 1_800_000_000_000;

    #[test]
    fn a_clock_is_believed_after_a_day_and_over_restarts_of_the_agent() {
        let mut clock = Clock::begin(None, "a", HOUR, WALL);
        for hour in 1..24 {
            assert_eq!(clock.now((1 + hour) * HOUR), None);
            // A second an hour is put right.
            clock.look((1 + hour) * HOUR, WALL + hour * (HOUR + 1000));
            clock = Clock::begin(Some(clock.clone()), "a", (1 + hour) * HOUR, WALL + hour * (HOUR + 1000));
        }
        assert!(clock.look(25 * HOUR, WALL + 24 * HOUR), "it is worth a write");
        assert_eq!(clock.now(25 * HOUR), Some(WALL + 24 * HOUR));
        assert!(!clock.look(26 * HOUR, WALL + 25 * HOUR));
        // Another boot: nothing is known.
        assert_eq!(Clock::begin(Some(clock.clone()), "b", HOUR, WALL + 26 * HOUR).now(HOUR), None);
        assert_eq!(Clock::begin(Some(clock), "", HOUR, WALL + 26 * HOUR).now(HOUR), None);
    }

    #[test]
    fn a_clock_that_is_four_days_ahead_at_one_start_changes_nothing() {
        let mut clock = Clock::begin(None, "a", 0, WALL);
        clock.look(2 * DAY, WALL + 2 * DAY);
        // The agent is started anew with the clock set ahead, and once more when it has been set right.
        let mut ahead = Clock::begin(Some(clock), "a", 2 * DAY + HOUR, WALL + 6 * DAY + HOUR);
        assert_eq!(ahead.now(2 * DAY + HOUR), Some(WALL + 2 * DAY + HOUR));
        ahead.look(2 * DAY + 9 * HOUR, WALL + 6 * DAY + 9 * HOUR);
        assert_eq!(ahead.now(2 * DAY + 9 * HOUR), Some(WALL + 2 * DAY + 9 * HOUR));
        let mut right = Clock::begin(Some(ahead), "a", 3 * DAY, WALL + 3 * DAY);
        assert_eq!(right.now(3 * DAY), Some(WALL + 3 * DAY));
        right.look(4 * DAY, WALL + 4 * DAY);
        assert_eq!(right.now(4 * DAY), Some(WALL + 4 * DAY));
    }

    /// However a clock jumps, what is believed never moves by more than it has shown for a day.
    #[test]
    fn what_is_believed_is_what_was_shown_for_a_day() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut uptime, mut ahead, mut since) = (0, 0, 0);
            let mut clock = Clock::begin(None, "a", uptime, WALL);
            let mut believed = None;
            for _ in 0..200 {
                uptime += random.i64(1000..20 * HOUR);
                if random.u8(..) < 60 {
                    ahead += random.i64(2 * STEP..9 * DAY) * if random.bool() { 1 } else { -1 };
                    since = uptime;
                }
                match random.bool() {
                    true => {
                        clock.look(uptime, WALL + uptime + ahead);
                    }
                    false => clock = Clock::begin(Some(clock), "a", uptime, WALL + uptime + ahead),
                }
                if uptime - since >= AGREES {
                    believed = Some(ahead);
                }
                assert_eq!(clock.now(uptime), believed.map(|ahead| WALL + ahead + uptime), "seed {seed}");
            }
        }
    }
}
