//! Which files of a folder are ready, given what was seen of them and when. Pure: no clock, no file system.
//!
//! A file is ready when
//! - its writer closed it, or it was moved here whole; or
//! - nobody was seen closing it, and it has been the same for `settle` (a network share reports no closing, and what is
//!   there at the start was closed before anyone looked); or
//! - a writer is known to be at it, and it has been the same for [`file::WRITER_PATIENCE`] (its closing was missed); or
//! - it is empty or was found to end too early, and it has been the same for `patience`.
//!
//! A file that is due is looked at once more before it is handed out, so that a change since the last look restarts its
//! time. Nothing is ever forgotten because an event was missed: the whole folder is listed again and again.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Templates;
use crate::source::{Outcome, Version};
use file::{File, Stage};

mod file;
#[cfg(test)]
mod tests;

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
    /// Its writer closed it, or it was moved here.
    Closed,
    /// It was looked at.
    Listed,
}

/// A file that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    /// It has been the same for `patience`.
    pub(super) is_last_chance: bool,
}

/// The files of one folder. Paths are relative to it.
#[derive(Debug)]
pub(super) struct Core {
    rules: Rules,
    files: HashMap<PathBuf, File>,
    /// By the path of their picture.
    templates: HashMap<PathBuf, File>,
    /// When the files in stage `Settling` are to be looked at, and those in stage `Ready` cease to wait for a template.
    due: BTreeSet<(Instant, PathBuf)>,
    /// Files in stage `Ready`, oldest first.
    ready: BTreeSet<(i64, PathBuf)>,
}

impl Core {
    /// `known` have been decided in an earlier run.
    pub(super) fn new(rules: Rules, known: Vec<(PathBuf, Version)>, now: Instant) -> Self {
        let done = |version| File { stage: Stage::Done, ..File::new(version, now) };
        let files = known.into_iter().map(|(path, version)| (path, done(version))).collect();
        Self { rules, files, templates: HashMap::new(), due: BTreeSet::new(), ready: BTreeSet::new() }
    }

    /// A picture was seen.
    pub(super) fn observe(&mut self, path: &Path, version: Version, seen: Seen, now: Instant) {
        let file = self.files.entry(path.to_path_buf()).or_insert_with(|| File::new(version, now));
        if file.version != version {
            self.ready.remove(&(file.version.modified, path.to_path_buf()));
            file.change(version, now);
        }
        file.seen = now;
        file.note(seen);
        match file.stage {
            Stage::Settling if file.is_ready(&self.rules, seen, now) => {
                file.stage = Stage::Ready { since: now };
                self.ready.insert((version.modified, path.to_path_buf()));
            }
            Stage::Settling => {
                let at = file.since + file.required(&self.rules);
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
    pub(super) fn listed(&mut self, path: &Path, version: Version, began: Instant, now: Instant) {
        match self.files.get(path) {
            Some(file) if file.seen >= began && file.version != version => self.schedule(path, now),
            _ => self.observe(path, version, Seen::Listed, now),
        }
    }

    /// The template of `picture` was seen.
    pub(super) fn observe_template(&mut self, picture: &Path, version: Version, seen: Seen, now: Instant) {
        let file = self.templates.entry(picture.to_path_buf()).or_insert_with(|| File::new(version, now));
        if file.version != version {
            file.change(version, now);
        }
        file.note(seen);
        if file.is_ready(&self.rules, seen, now) {
            file.stage = Stage::Ready { since: now };
        }
    }

    /// Leaves alone what is there and has not been decided (`existing = "skip"`).
    pub(super) fn skip(&mut self, path: &Path, version: Version, now: Instant) {
        let file = self.files.entry(path.to_path_buf()).or_insert_with(|| File::new(version, now));
        if file.version == version && file.stage == Stage::Settling {
            file.stage = Stage::Done;
        }
    }

    /// A file is not there any more. One that was decided is remembered: see [`Core::prune`].
    pub(super) fn gone(&mut self, path: &Path) {
        let Some(file) = self.files.get(path) else { return };
        if matches!(file.stage, Stage::Settling | Stage::Ready { .. }) {
            self.remove(path);
        }
    }

    /// Forgets decided files that were among the `present` of neither this listing, which began at `began`, nor the one
    /// before; gives them. Forgets none if none of those decided are there, which looks more like a share that is not
    /// mounted than like a folder that was tidied.
    pub(super) fn prune(&mut self, present: &BTreeSet<PathBuf>, began: Instant) -> Vec<PathBuf> {
        let is_decided = |file: &File| file.stage == Stage::Done && file.since < began;
        if !self.files.iter().any(|(path, file)| is_decided(file) && present.contains(path)) {
            return Vec::new();
        }
        let mut forgotten = Vec::new();
        for (path, file) in &mut self.files {
            let is_absent = is_decided(file) && !present.contains(path);
            if std::mem::replace(&mut file.is_missed, is_absent) && is_absent {
                forgotten.push(path.clone());
            }
        }
        for path in &forgotten {
            self.remove(path);
        }
        self.templates.retain(|picture, _| self.files.contains_key(picture));
        forgotten
    }

    /// What became of a file that was handed out.
    pub(super) fn settle(&mut self, path: &Path, outcome: Outcome, now: Instant) {
        let Some(file) = self.files.get_mut(path) else { return };
        let Stage::Taken { changed } = file.stage else { return };
        file.stage = Stage::Settling;
        match outcome {
            Outcome::Done if !changed => file.stage = Stage::Done,
            // Decided anew only by a restart, lest a sink that is out of order makes a loop of it.
            Outcome::Unacknowledged if !changed => file.stage = Stage::Done,
            Outcome::Removed if !changed => self.remove(path),
            Outcome::Incomplete if !changed => {
                file.is_incomplete = true;
                let at = file.since + file.required(&self.rules);
                self.schedule(path, at);
            }
            Outcome::Changed if !changed => {
                // Seen again at the next look, with what it has become.
                file.since = now;
                self.schedule(path, now);
            }
            _ => {
                let at = file.since + file.required(&self.rules);
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
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// True if [`Core::take`] would give something.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.next_ready(now).is_some()
    }

    /// Hands out the oldest file that is ready.
    pub(super) fn take(&mut self, now: Instant) -> Option<Ready> {
        let (modified, path) = self.next_ready(now)?.clone();
        self.ready.remove(&(modified, path.clone()));
        let file = self.files.get_mut(&path)?;
        file.stage = Stage::Taken { changed: false };
        let is_last_chance = now.duration_since(file.since) >= self.rules.patience;
        Some(Ready { version: file.version, is_last_chance, path })
    }

    /// Files that wait to be taken or to be ready.
    pub(super) fn waiting(&self) -> usize {
        self.files.values().filter(|file| matches!(file.stage, Stage::Settling | Stage::Ready { .. })).count()
    }

    fn next_ready(&self, now: Instant) -> Option<&(i64, PathBuf)> {
        self.ready.iter().find(|(_, path)| self.is_template_settled(path, now))
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
            self.ready.remove(&(file.version.modified, path.to_path_buf()));
            if let Some(due) = file.due {
                self.due.remove(&(due, path.to_path_buf()));
            }
        }
        self.templates.remove(path);
    }
}
