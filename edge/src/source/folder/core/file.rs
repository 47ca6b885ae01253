//! One file of a folder: how long it has been the same, and what that is worth.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millgate_shared::trouble::Trouble;

use super::absence::Absent;
use super::{Rules, Seen};
use crate::backoff::Backoff;
use crate::crash::Risk;
use crate::source::folder::Again;
use crate::source::folder::face::{Content, Known, Reading, Stat, Version};

/// After this long without a change, a writer that never closed its file is taken to have died or to be forgetful.
const WRITER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a writer is waited for where what it has written so far is no whole picture.
const UNFINISHED_PATIENCE: Duration = Duration::from_secs(600);
/// How long a change of anything but size and time starts the waiting anew; a share that makes such changes up at each
/// look must not keep a file from being decided.
const STAT_PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between tries while the machine is in trouble.
const TROUBLE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Pauses where all of the process is in it: that is over for all files at once, and trying costs nobody else anything.
const SHORTAGE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// One version of one file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) stat: Stat,
    /// Decided in an earlier run, and not looked at since.
    is_to_be_met: bool,
    /// When this version was first seen.
    first: Instant,
    /// Since when it is the same.
    pub(super) since: Instant,
    /// When it was last looked at.
    pub(super) seen: Instant,
    /// Since when listings lack it, where that tells anything.
    pub(super) absent: Option<Absent>,
    /// Until when the file is to be left alone, since the machine was in trouble.
    pub(super) held: Option<Hold>,
    /// A writer was seen that has not been seen closing it.
    pub(super) is_written: bool,
    /// Whether the file's writer was seen closing it, or it was moved here whole.
    pub(super) is_closed: bool,
    /// The file was found to be unfinished.
    pub(super) is_incomplete: bool,
    /// What it held then.
    pub(super) unfinished: Option<Content>,
    /// What was decided of this version.
    pub(super) decided: Option<Reading>,
    /// Whether it still holds that.
    pub(super) doubt: Option<Doubt>,
    /// The file was in hand when the agent died.
    pub(super) risk: Option<Risk>,
    pub(super) stage: Stage,
    /// The file's entry in [`Core::due`].
    pub(super) due: Option<Instant>,
}

/// A file that could not be looked at or read, through no fault of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    until: Instant,
    /// How many times in a row.
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Settling,
    /// Ready, if its template is.
    Ready {
        since: Instant,
    },
    /// Handed out; `changed` if it has another version by now, `closed` if a writer has closed it since.
    Taken {
        changed: bool,
        closed: bool,
    },
    Done,
}

/// Why a decided file of the same size and time may hold something else. The most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// A writer has closed it, or it was moved here.
    Closed,
    /// Something about it was changed, if only its permissions.
    Changed,
    /// The file's inode is another, which some network shares make up anew.
    Inode,
}

/// The order in which files are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Fresh,
    /// Only to be looked at, one at a time.
    Doubted(Doubt),
    /// A file that may end the agent, handed out when there is nothing else. The most likely one comes last: by its points, and
    /// then by its size, bytes.
    Risky(u32, u64),
}

/// A file's place among those that are ready: rank, then age, then path.
pub(super) type Key = (Rank, i64, PathBuf);

impl File {
    pub(super) fn new(stat: Stat, now: Instant) -> Self {
        Self {
            stat,
            is_to_be_met: false,
            first: now,
            since: now,
            seen: now,
            absent: None,
            held: None,
            is_written: false,
            is_closed: false,
            is_incomplete: false,
            unfinished: None,
            decided: None,
            doubt: None,
            risk: None,
            stage: Stage::Settling,
            due: None,
        }
    }

    /// Decided in an earlier run.
    pub(super) fn known(known: &Known, now: Instant) -> Self {
        let stat = Stat { version: known.version, inode: 0, changed: 0 };
        let stat = known.reading.map_or(stat, |reading| reading.stat);
        Self { stage: Stage::Done, decided: known.reading, is_to_be_met: true, ..Self::new(stat, now) }
    }

    pub(super) fn version(&self) -> Version {
        self.stat.version
    }

    pub(super) fn rank(&self) -> Rank {
        match (self.risk, self.doubt) {
            (Some(Risk::Alone { points }), _) => Rank::Risky(points, self.stat.version.size),
            (_, None | Some(Doubt::Closed)) => Rank::Fresh,
            (_, Some(doubt)) => Rank::Doubted(doubt),
        }
    }

    pub(super) fn key(&self, path: &Path) -> Key {
        (self.rank(), self.stat.version.modified, path.to_path_buf())
    }

    /// Takes note that the file holds something else now.
    pub(super) fn change(&mut self, stat: Stat, now: Instant) {
        if self.stat.version != stat.version {
            self.first = now;
            // What killed the agent was another picture.
            self.risk = None;
            self.held = None;
        }
        self.stat = stat;
        self.is_to_be_met = false;
        self.since = now;
        self.is_incomplete = false;
        self.is_closed = false;
        self.unfinished = None;
        self.decided = None;
        self.doubt = None;
        self.stage = match self.stage {
            Stage::Taken { closed, .. } => Stage::Taken { changed: true, closed },
            Stage::Settling | Stage::Ready { .. } | Stage::Done => Stage::Settling,
        };
    }

    /// Takes in how it looks now; true if what was waited for so far is worth nothing any more.
    pub(super) fn see(&mut self, stat: Stat, seen: Seen, now: Instant) -> bool {
        if self.stat.version != stat.version {
            self.change(stat, now);
            return true;
        }
        match &mut self.stage {
            Stage::Done => self.see_done(stat, seen, now),
            Stage::Taken { closed, .. } => {
                *closed |= seen == Seen::Closed;
                self.stat = stat;
                false
            }
            Stage::Settling | Stage::Ready { .. } => {
                let is_touched = stat.changed != self.stat.changed
                    && !self.is_closed
                    && seen != Seen::Closed
                    && now.duration_since(self.first) < STAT_PATIENCE;
                if let Some(held) = &mut self.held
                    && stat.changed != self.stat.changed
                {
                    // Perhaps somebody has set its permissions right.
                    held.until = now;
                }
                self.stat = stat;
                if !is_touched && seen != Seen::Written {
                    return false;
                }
                self.since = now;
                self.stage = Stage::Settling;
                true
            }
        }
    }

    fn see_done(&mut self, stat: Stat, seen: Seen, now: Instant) -> bool {
        let (has_changed, has_moved) = (stat.changed != self.stat.changed, stat.inode != self.stat.inode);
        let is_first = std::mem::take(&mut self.is_to_be_met);
        let doubt = match seen {
            Seen::Closed => Some(Doubt::Closed),
            Seen::Written => None,
            Seen::Listed if has_changed => Some(Doubt::Changed),
            // A file system that counts whole seconds tells nothing of what was written within one while nobody looked.
            Seen::Listed => (has_moved || is_first && stat.changed % SECOND == 0).then_some(Doubt::Inode),
        };
        if self.decided.is_some() {
            // Whatever is written is closed in the end, or found by the next listing.
            return doubt.is_some_and(|doubt| {
                self.question(doubt, stat, now);
                true
            });
        }
        // Nobody knows what it held: permissions and made-up numbers are not enough, and the first look is believed.
        let is_anew = seen == Seen::Closed || has_changed && has_moved && !is_first;
        if is_anew {
            self.change(stat, now);
        } else {
            self.stat = stat;
        }
        is_anew
    }

    /// Has the file looked at: does it still hold what was decided?
    pub(super) fn question(&mut self, doubt: Doubt, stat: Stat, now: Instant) {
        self.stat = stat;
        self.since = now;
        self.first = now;
        self.is_closed = false;
        self.is_incomplete = false;
        self.unfinished = None;
        self.doubt = Some(doubt);
        self.stage = Stage::Settling;
    }

    /// What it is to be compared with.
    pub(super) fn again(&self) -> Option<Again> {
        let (doubt, reading) = self.doubt.zip(self.decided)?;
        Some(Again { content: reading.content, is_kept: doubt != Doubt::Inode })
    }

    pub(super) fn note(&mut self, seen: Seen) {
        match seen {
            Seen::Written => (self.is_written, self.is_closed) = (true, false),
            Seen::Closed => (self.is_written, self.is_closed) = (false, true),
            Seen::Listed => {}
        }
    }

    pub(super) fn is_ready(&self, rules: &Rules, seen: Seen, now: Instant) -> bool {
        let is_whole = self.stat.version.size > 0 && !self.is_incomplete;
        if self.held.is_some_and(|held| now < held.until) {
            return false;
        }
        match seen {
            Seen::Written => false,
            Seen::Closed if is_whole => true,
            Seen::Closed | Seen::Listed => now.duration_since(self.since) >= self.required(rules),
        }
    }

    /// How long it must have been the same.
    pub(super) fn required(&self, rules: &Rules) -> Duration {
        let is_whole = self.stat.version.size > 0 && !self.is_incomplete;
        match (self.is_written, is_whole) {
            (true, true) => WRITER_PATIENCE.max(rules.settle),
            (true, false) => UNFINISHED_PATIENCE.max(rules.patience),
            (false, true) => rules.settle,
            (false, false) => rules.patience.max(rules.settle),
        }
    }

    /// The file will not be completed any more.
    pub(super) fn is_last_chance(&self, rules: &Rules, now: Instant) -> bool {
        let patience = if self.is_written { UNFINISHED_PATIENCE } else { Duration::ZERO };
        self.held.is_none() && now.duration_since(self.since) >= patience.max(rules.patience)
    }

    /// Leaves it alone for a while, longer each time in a row.
    pub(super) fn hold(&mut self, trouble: Trouble, now: Instant) {
        let pauses = match trouble {
            Trouble::Descriptors | Trouble::Memory => SHORTAGE,
            Trouble::Space
            | Trouble::Rights
            | Trouble::Device
            | Trouble::Share
            | Trouble::Busy
            | Trouble::Other => TROUBLE,
        };
        let tries = self.held.map_or(1, |held| held.tries.saturating_add(1));
        self.held = Some(Hold { until: now + pauses.of(tries), tries });
    }

    /// When it may be handed out, if it stays the same until then.
    pub(super) fn ready_at(&self, rules: &Rules) -> Instant {
        let settled = self.since + self.required(rules);
        self.held.map_or(settled, |held| settled.max(held.until))
    }

    /// Takes note that it was read and found unfinished, holding `content`: where that is not what it held the last time, it is being
    /// written, though its size and time stand still.
    pub(super) fn is_unfinished(&mut self, content: Option<Content>, now: Instant) {
        self.is_incomplete = true;
        if content.is_some() && self.unfinished.is_some() && self.unfinished != content {
            self.since = now;
        }
        self.unfinished = content.or(self.unfinished);
    }
}
