//! One file of a folder: how long it has been the same, and what that is worth.

use std::time::{Duration, Instant};

use super::{Rules, Seen};
use crate::source::Version;

/// After this long without a change, a writer that never closed its file is taken to have died or to be forgetful.
const WRITER_PATIENCE: Duration = Duration::from_secs(60);

/// One version of one file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) version: Version,
    /// When this version was first seen.
    pub(super) since: Instant,
    /// When it was last looked at.
    pub(super) seen: Instant,
    /// It did not stand in the last listing.
    pub(super) is_missed: bool,
    /// A writer was seen that has not been seen closing it.
    pub(super) is_written: bool,
    /// It was found to end too early.
    pub(super) is_incomplete: bool,
    pub(super) stage: Stage,
    /// Its entry in [`Core::due`].
    pub(super) due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Settling,
    /// Ready, if its template is.
    Ready {
        since: Instant,
    },
    /// Handed out; `changed` if it has another version by now.
    Taken {
        changed: bool,
    },
    Done,
}

impl File {
    pub(super) fn new(version: Version, now: Instant) -> Self {
        Self {
            version,
            since: now,
            seen: now,
            is_missed: false,
            is_written: false,
            is_incomplete: false,
            stage: Stage::Settling,
            due: None,
        }
    }

    /// It has another version now.
    pub(super) fn change(&mut self, version: Version, now: Instant) {
        self.version = version;
        self.since = now;
        self.is_incomplete = false;
        self.stage = match self.stage {
            Stage::Taken { .. } => Stage::Taken { changed: true },
            Stage::Settling | Stage::Ready { .. } | Stage::Done => Stage::Settling,
        };
    }

    pub(super) fn note(&mut self, seen: Seen) {
        match seen {
            Seen::Written => self.is_written = true,
            Seen::Closed => self.is_written = false,
            Seen::Listed => {}
        }
    }

    pub(super) fn is_ready(&self, rules: &Rules, seen: Seen, now: Instant) -> bool {
        let is_whole = self.version.size > 0 && !self.is_incomplete;
        match seen {
            Seen::Written => false,
            Seen::Closed if is_whole => true,
            Seen::Closed | Seen::Listed => now.duration_since(self.since) >= self.required(rules),
        }
    }

    /// How long it must have been the same.
    pub(super) fn required(&self, rules: &Rules) -> Duration {
        if self.is_written {
            WRITER_PATIENCE.max(rules.settle)
        } else if self.version.size == 0 || self.is_incomplete {
            rules.patience.max(rules.settle)
        } else {
            rules.settle
        }
    }
}
