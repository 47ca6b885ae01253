//! `[labels]`.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{Refused, not_zero, refuse};

/// What is kept of decisions for people to label, below `state_dir`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelsConfig {
    pub enabled: bool,
    /// Decisions that can be labelled: the latest so many. As many more that were labelled.
    pub remember: u64,
    /// Room for pictures on the disk, bytes; 0: none are kept.
    pub keep_bytes: u64,
    /// Pictures that nobody has labelled are kept so long.
    #[serde(with = "humantime_serde")]
    pub keep_age: Duration,
    /// Share of the decisions that are in no doubt whose pictures are kept all the same, drawn by their ids.
    pub keep_share: f64,
}

impl Default for LabelsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            remember: 100_000,
            keep_bytes: 64 << 20,
            keep_age: Duration::from_secs(90 * 24 * 3600),
            keep_share: 0.01,
        }
    }
}

impl LabelsConfig {
    /// Gives the first thing that is wrong.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        // Less, and a single picture fills it.
        const LEAST: u64 = 1 << 20;
        if self.remember == 0 || self.remember > 10_000_000 {
            return refuse("labels.remember", format!("is {}, and must be 1 to 10000000", self.remember));
        }
        if self.keep_bytes > 0 && self.keep_bytes < LEAST {
            return refuse("labels.keep_bytes", format!("is under {LEAST}; 0 keeps no pictures"));
        }
        if !(0.0..=1.0).contains(&self.keep_share) {
            return refuse("labels.keep_share", "must be 0 to 1");
        }
        not_zero("labels.keep_age", self.keep_age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let refused = |change: fn(&mut LabelsConfig)| {
            let mut config = LabelsConfig::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(LabelsConfig::default().check(), Ok(()));
        assert_eq!(refused(|config| config.remember = 0), "labels.remember");
        assert_eq!(refused(|config| config.keep_bytes = 7), "labels.keep_bytes");
        assert_eq!(refused(|config| config.keep_share = f64::NAN), "labels.keep_share");
        assert_eq!(refused(|config| config.keep_age = Duration::ZERO), "labels.keep_age");
    }
}
