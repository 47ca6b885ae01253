//! How long ago something was, across restarts, on devices whose clock is not to be trusted.
//!
//! Within one boot the kernel's own count says it, suspend included. Across boots there is only the wall clock; where that
//! ran back, no time has passed. It errs towards too little: time that passes gives budget back.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Where Linux keeps the name of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A point in time, told in two ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    /// Empty if the system does not say.
    boot: String,
    /// Seconds since that boot.
    uptime: u64,
    /// Unix seconds.
    wall: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let boot = BOOT.get_or_init(|| {
            std::fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned()).unwrap_or_default()
        });
        let uptime = clock_gettime(ClockId::Boottime).tv_sec.try_into().unwrap_or(0);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { boot: boot.clone(), uptime, wall }
    }

    pub(super) fn wall(&self) -> u64 {
        self.wall
    }

    /// Seconds from here to a later moment.
    pub(super) fn until(&self, later: &Self) -> u64 {
        if !self.boot.is_empty() && self.boot == later.boot {
            return later.uptime.saturating_sub(self.uptime);
        }
        later.wall.saturating_sub(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: &str, uptime: u64, wall: u64) -> Moment {
        Moment { boot: boot.to_owned(), uptime, wall }
    }

    #[test]
    fn within_a_boot_the_wall_clock_says_nothing() {
        assert_eq!(moment("a", 10, 0).until(&moment("a", 40, 1_800_000_000)), 30);
        assert_eq!(moment("a", 10, 500).until(&moment("a", 40, 100)), 30);
        assert_eq!(moment("a", 40, 500).until(&moment("a", 10, 900)), 0);
    }

    #[test]
    fn across_boots_it_says_all_and_never_runs_back() {
        assert_eq!(moment("a", 1000, 500).until(&moment("b", 5, 800)), 300);
        assert_eq!(moment("a", 1000, 500).until(&moment("b", 5, 100)), 0);
        assert_eq!(moment("", 1000, 500).until(&moment("", 2000, 510)), 10);
    }

    #[test]
    fn now_is_known() {
        let now = Moment::now();
        assert!(now.wall() > 0);
        assert!(now.until(&Moment::now()) < 60);
    }
}
