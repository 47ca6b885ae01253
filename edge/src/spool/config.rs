//! `[spool]`: provisional decisions that are to be amended once the pool answers.

use std::time::Duration;

use serde::Deserialize;

use super::Sync;
use crate::settings::{Refused, not_zero, refuse};
use crate::uplink::MOST_OUT;

/// What is kept on disk, beside the journal in `state_dir`. Needs `offload.cloud`, and a sink that the amended decision
/// can go to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    pub enabled: bool,
    /// On the disk. What is set aside as damaged comes on top, at most 64 MiB.
    pub max_bytes: u64,
    /// A decision that could not be amended in this time stays as it was.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    pub when_full: SpoolFull,
    /// When an entry counts as written.
    pub sync: Sync,
    /// Entries asked of the pool at a time, 1 to 4, at most; the real number follows what line and pool bear.
    pub parallel: usize,
}

/// What a full spool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolFull {
    /// The new decision will not be amended, and says so (`degraded.later = "full"`): what was promised is kept.
    RefuseNew,
    /// The oldest entries will not be amended: counted in `millgate_spool_closed_total{reason="dropped"}`.
    DropOldest,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(72 * 3600),
            when_full: SpoolFull::RefuseNew,
            sync: Sync::Always,
            parallel: 4,
        }
    }
}

impl SpoolConfig {
    /// Gives the first thing that is wrong.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        // Less, and a single picture fills it.
        const LEAST: u64 = 1 << 20;
        if self.max_bytes < LEAST {
            return refuse("spool.max_bytes", format!("is under {LEAST}"));
        }
        if self.parallel == 0 || self.parallel > MOST_OUT {
            let message = format!("is {}, and the uplink takes 1 to {MOST_OUT} at a time", self.parallel);
            return refuse("spool.parallel", message);
        }
        not_zero("spool.max_age", self.max_age)
    }
}
