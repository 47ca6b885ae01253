//! Which files of a folder are ready, given what was seen of them and when. Pure: no clock, no file system.
//!
//! A file is ready when
//! - its writer closed it, or it was moved here whole; or
//! - nobody was seen closing it, and it has been the same for `settle` (a network share reports no closing, and what is
//!   there at the start was closed before anyone looked); or
//! - a writer is known to be at it, and it has been the same for a minute (its closing was missed); or
//! - it is empty or was found to be unfinished, and it has been the same for `patience`, its content too (ten minutes where
//!   a writer is known to be at it).
//!
//! A file that is due is looked at once more before it is handed out, so that a change since the last look restarts its
//! time. Nothing is ever forgotten because an event was missed: the whole folder is listed again and again.
//!
//! A decided file of the same size and time of change is handed out again where a writer has closed it, or where anything
//! else that is seen of it is another: with the content that was decided, so that whoever reads it can tell whether it is
//! another picture. Those looks go one at a time, and take half of the time at most, a fifth where only the inode is another.
//!
//! Files that were in hand when the agent died come when there is nothing else. A file that the machine does not let be read
//! waits, longer each time, and nothing is concluded from it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millgate_shared::trouble::Trouble;

use super::face::{Content, Known, Reading, Stat, Version};
use super::{Again, Templates};
use crate::crash::Risk;
use crate::source::Outcome;
use absence::Folders;
use file::{Doubt, File, Key, Rank, Stage};

mod absence;
mod file;
#[cfg(test)]
mod tests;

pub(super) use absence::{FolderId, Survey};

#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) settle: Duration,
    pub(super) patience: Duration,
    pub(super) templates: Templates,
}

/// How a file was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody wrote to it.
    Written,
    /// The file's writer closed it, or it was moved here.
    Closed,
    /// Somebody looked at it.
    Listed,
}

/// A file that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    /// Whether the file's writer was seen closing it, or it was moved here whole.
    pub(super) is_closed: bool,
    /// The file will not be completed any more.
    pub(super) is_last_chance: bool,
    /// What it held when it was found unfinished.
    pub(super) unfinished: Option<Content>,
    /// What was decided, where it is only to be told whether it still holds that.
    pub(super) decided: Option<Again>,
    pub(super) risk: Option<Risk>,
}

/// Files that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Files that wait to be taken or to be ready.
    pub(super) waiting: usize,
    /// Files that are ready or taken, without those that are a risk or only looked at.
    pub(super) busy: usize,
    /// Files among those waiting that the machine did not let be read.
    pub(super) delayed: usize,
}

/// The files of one folder. Paths are relative to it.
#[derive(Debug)]
pub(super) struct Core {
    rules: Rules,
    files: HashMap<PathBuf, File>,
    /// Templates, by the path of their picture.
    templates: HashMap<PathBuf, File>,
    /// When the files in stage `Settling` are to be looked at, and those in stage `Ready` cease to wait for a template.
    due: BTreeSet<(Instant, PathBuf)>,
    /// Files in stage `Ready`, in the order of their turns.
    ready: BTreeSet<Key>,
    /// Files that were in hand when the agent died; each is taken from here when it is met.
    risks: HashMap<PathBuf, (Version, Risk)>,
    /// Where decided files were seen.
    folders: Folders,
    /// Files that are a risk may be taken now.
    may_risk: bool,
    /// Which decided file is being looked at, why, and since when; none before `next_look`.
    looking: Option<(PathBuf, Doubt, Instant)>,
    next_look: Instant,
}

/// How long nothing is looked at after a look that took so long.
fn pause(doubt: Doubt, took: Duration) -> Duration {
    match doubt {
        Doubt::Closed => Duration::ZERO,
        Doubt::Changed => took,
        Doubt::Inode => took * 4,
    }
}

impl Core {
    /// `known` have been decided in an earlier run; `risks` were in hand when one ended.
    pub(super) fn new(
        rules: Rules,
        known: &[Known],
        risks: HashMap<PathBuf, (Version, Risk)>,
        now: Instant,
    ) -> Self {
        let mut this = Self {
            rules,
            files: HashMap::new(),
            templates: HashMap::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            risks,
            folders: Folders::default(),
            may_risk: false,
            looking: None,
            next_look: now,
        };
        for known in known {
            let mut file = File::known(known, now);
            file.risk = this.risk(&known.relative, known.version);
            this.files.insert(known.relative.clone(), file);
        }
        this
    }

    fn risk(&mut self, path: &Path, version: Version) -> Option<Risk> {
        let (of, risk) = self.risks.remove(path)?;
        (of == version).then_some(risk)
    }

    /// A picture was seen.
    pub(super) fn observe(&mut self, path: &Path, stat: Stat, seen: Seen, now: Instant) {
        if !self.files.contains_key(path) {
            let risk = self.risk(path, stat.version);
            let mut file = File::new(stat, now);
            file.risk = risk;
            self.files.insert(path.to_path_buf(), file);
        }
        let Some(file) = self.files.get_mut(path) else { return };
        let key = file.key(path);
        if file.see(stat, seen, now) {
            self.ready.remove(&key);
        }
        file.seen = now;
        file.note(seen);
        match file.stage {
            Stage::Settling if file.is_ready(&self.rules, seen, now) => {
                file.stage = Stage::Ready { since: now };
                self.ready.insert(file.key(path));
            }
            Stage::Settling => {
                let at = file.ready_at(&self.rules);
                self.schedule(path, at);
                return;
            }
            Stage::Ready { .. } => {}
            Stage::Taken { .. } | Stage::Done => return,
        }
        if !self.is_template_settled(path, now) {
            self.schedule(path, now + self.rules.settle);
        }
    }

    /// A picture stood in a listing that began at `began`. What was seen since is newer than the listing.
    pub(super) fn listed(&mut self, path: &Path, stat: Stat, began: Instant, now: Instant) {
        match self.files.get(path) {
            Some(file) if file.seen >= began && file.version() != stat.version => self.schedule(path, now),
            Some(file) if file.seen >= began && file.stat != stat => {}
            _ => self.observe(path, stat, Seen::Listed, now),
        }
    }

    /// The template of `picture` was seen.
    pub(super) fn observe_template(&mut self, picture: &Path, stat: Stat, seen: Seen, now: Instant) {
        let file = self.templates.entry(picture.to_path_buf()).or_insert_with(|| File::new(stat, now));
        if file.version() != stat.version {
            file.change(stat, now);
        }
        file.note(seen);
        if file.is_ready(&self.rules, seen, now) {
            file.stage = Stage::Ready { since: now };
        }
    }

    /// Leaves alone what is there and has not been decided (`existing = "skip"`).
    pub(super) fn skip(&mut self, path: &Path, version: Version) {
        let Some(file) = self.files.get_mut(path) else { return };
        if file.version() == version && file.stage == Stage::Settling && file.decided.is_none() {
            file.stage = Stage::Done;
        }
    }

    /// A file is not there any more. One that was decided is remembered: see [`Core::prune`].
    pub(super) fn gone(&mut self, path: &Path) {
        let Some(file) = self.files.get_mut(path) else { return };
        if !matches!(file.stage, Stage::Settling | Stage::Ready { .. }) {
            return;
        }
        let Some(decided) = file.decided else { return self.remove(path) };
        self.ready.remove(&file.key(path));
        file.stage = Stage::Done;
        file.doubt = None;
        // Should it come back, it is compared with that.
        file.stat = decided.stat;
    }

    /// The machine did not let a file be looked at that was due: it is looked at again later.
    pub(super) fn unseen(&mut self, path: &Path, trouble: Trouble, now: Instant) {
        let Some(file) = self.files.get_mut(path) else { return };
        if matches!(file.stage, Stage::Settling | Stage::Ready { .. }) {
            let key = file.key(path);
            file.hold(trouble, now);
            file.stage = Stage::Settling;
            let at = file.ready_at(&self.rules);
            self.ready.remove(&key);
            self.schedule(path, at);
        }
    }

    /// Forgets decided files that are gone by all that is known, and gives them: see [`absence`]. The survey's listing began
    /// at `began`.
    pub(super) fn prune(&mut self, survey: &Survey, began: Instant, now: Instant) -> Vec<PathBuf> {
        let decided =
            self.files.iter_mut().filter(|(_, file)| file.stage == Stage::Done && file.since < began);
        let decided = decided.map(|(path, file)| (path.as_path(), &mut file.absent));
        let forgotten = self.folders.weigh(survey, decided, now);
        for path in &forgotten {
            self.remove(path);
        }
        self.templates.retain(|picture, _| self.files.contains_key(picture));
        forgotten
    }

    /// What became of a file that was handed out, and how it was read.
    pub(super) fn settle(&mut self, path: &Path, outcome: Outcome, reading: Option<Reading>, now: Instant) {
        if let Some((_, doubt, began)) = self.looking.take_if(|(looked, ..)| looked == path) {
            self.next_look = now + pause(doubt, now.duration_since(began));
        }
        let Some(file) = self.files.get_mut(path) else { return };
        let Stage::Taken { changed, closed } = file.stage else { return };
        file.stage = Stage::Settling;
        match outcome {
            // Unacknowledged is decided anew only by a restart, lest a sink that is out of order makes a loop of it.
            Outcome::Done | Outcome::Unacknowledged | Outcome::Same if !changed => {
                file.stage = Stage::Done;
                file.doubt = None;
                file.risk = None;
                file.held = None;
                file.decided = reading;
                if let Some(reading) = reading {
                    file.stat = reading.stat;
                }
                if closed {
                    // It may have been read before that.
                    let stat = file.stat;
                    file.question(Doubt::Closed, stat, now);
                    self.schedule(path, now);
                }
            }
            Outcome::Removed if !changed => self.remove(path),
            Outcome::Delayed(trouble) if !changed => {
                file.hold(trouble, now);
                let at = file.ready_at(&self.rules);
                self.schedule(path, at);
            }
            Outcome::Changed if !changed => {
                // Seen again at the next look, with what it has become.
                file.since = now;
                file.held = None;
                self.schedule(path, now);
            }
            _ => {
                if outcome == Outcome::Incomplete && !changed {
                    file.risk = None;
                    if file.held.take().is_some() {
                        // It could not be read for a while, and this is the first that is known of its content.
                        file.since = now;
                    }
                    file.is_unfinished(reading.map(|reading| reading.content), now);
                }
                let at = file.ready_at(&self.rules);
                self.schedule(path, at);
            }
        }
    }

    /// Files to look at now, with their templates: each must be answered by `observe` or `gone`.
    pub(super) fn due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut due = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, path)) = self.due.pop_first() else { break };
            if let Some(file) = self.files.get_mut(&path) {
                file.due = None;
                due.push(path);
            }
        }
        due
    }

    /// When `due` or `take` has something new without anything having been seen.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        let look = Some(self.next_look).filter(|at| *at > now && self.looking.is_none());
        due.into_iter().chain(look.filter(|_| self.has_doubted())).min()
    }

    fn has_doubted(&self) -> bool {
        let first = (Rank::Doubted(Doubt::Closed), i64::MIN, PathBuf::new());
        self.ready.range(first..).next().is_some_and(|(rank, ..)| matches!(rank, Rank::Doubted(_)))
    }

    /// True if [`Core::take`] would give something.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.next_ready(now).is_some()
    }

    /// Hands out the first file that is ready: the oldest, but for those that are to wait for others.
    pub(super) fn take(&mut self, now: Instant) -> Option<Ready> {
        let key = self.next_ready(now)?.clone();
        self.ready.remove(&key);
        let (rank, _, path) = key;
        if let Rank::Doubted(doubt) = rank {
            self.looking = Some((path.clone(), doubt, now));
        }
        let file = self.files.get_mut(&path)?;
        file.stage = Stage::Taken { changed: false, closed: false };
        Some(Ready {
            version: file.version(),
            is_closed: file.is_closed,
            is_last_chance: file.is_last_chance(&self.rules, now),
            unfinished: file.unfinished,
            decided: file.again(),
            risk: file.risk,
            path,
        })
    }

    /// Says whether files that are a risk may be taken from now on.
    pub(super) fn allow_risks(&mut self, may_risk: bool) {
        self.may_risk = may_risk;
    }

    /// True if there are files that only wait for [`Core::allow_risks`].
    pub(super) fn has_risks(&self) -> bool {
        self.ready.last().is_some_and(|(rank, ..)| matches!(rank, Rank::Risky(..)))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { waiting: 0, busy: 0, delayed: 0 };
        for file in self.files.values() {
            let is_waiting = matches!(file.stage, Stage::Settling | Stage::Ready { .. });
            let is_busy = matches!(file.stage, Stage::Ready { .. } | Stage::Taken { .. });
            counts.waiting += usize::from(is_waiting);
            counts.delayed += usize::from(is_waiting && file.held.is_some());
            counts.busy += usize::from(is_busy && file.rank() == Rank::Fresh);
        }
        counts
    }

    fn next_ready(&self, now: Instant) -> Option<&Key> {
        let may_look = self.looking.is_none() && now >= self.next_look;
        self.ready.iter().find(|(rank, _, path)| {
            let is_its_turn = match rank {
                Rank::Fresh => true,
                Rank::Doubted(_) => may_look,
                Rank::Risky(..) => self.may_risk,
            };
            is_its_turn && self.is_template_settled(path, now)
        })
    }

    /// A template that is being written is waited for, and with `templates = "wait"` also one that has not come yet.
    fn is_template_settled(&self, picture: &Path, now: Instant) -> bool {
        let Some(Stage::Ready { since }) = self.files.get(picture).map(|file| file.stage) else {
            return false;
        };
        match self.templates.get(picture) {
            Some(template) => {
                matches!(template.stage, Stage::Ready { .. })
                    || now.duration_since(template.since)
                        >= template.required(&self.rules).max(self.rules.settle)
            }
            None => {
                self.rules.templates == Templates::Optional || now.duration_since(since) >= self.rules.settle
            }
        }
    }

    fn schedule(&mut self, path: &Path, at: Instant) {
        let Some(file) = self.files.get_mut(path) else { return };
        if let Some(before) = file.due.replace(at) {
            self.due.remove(&(before, path.to_path_buf()));
        }
        self.due.insert((at, path.to_path_buf()));
    }

    fn remove(&mut self, path: &Path) {
        if let Some(file) = self.files.remove(path) {
            self.ready.remove(&file.key(path));
            if let Some(due) = file.due {
                self.due.remove(&(due, path.to_path_buf()));
            }
        }
        self.templates.remove(path);
    }
}
