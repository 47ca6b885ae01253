//! The journal's thread: commits what it is handed, and sees to it that there is something to commit to.
//!
//! ```text
//! changes ──> log: appended ──> database: one commit, synced ──> both still at their paths? ──> done
//!                  │ only one of the two takes it: done all the same, and said
//!                  └ none does: held in memory, done all the same, said; committed when one does. An amendment goes back
//! ```

use std::time::{Duration, Instant};

use millgate_shared::files;
use tokio::sync::{mpsc, oneshot};

use super::Journal;
use super::base::{Base, Failed, Found};
use super::change::{self, Change};
use super::counts::Memory;
use super::handle::Job;
use super::held::Held;
use crate::backoff::Backoff;

#[cfg(test)]
mod tests;

/// Entries that one commit may hold; a commit costs one wait for the disk, however many.
const BATCH: usize = 256;
/// From one attempt to mend what cannot be used to the next: the first pause, and the longest.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
pub(super) struct Keeper {
    journal: Journal,
    held: Held,
    /// Attempts that failed since it was last whole.
    attempts: u32,
    next_attempt: Instant,
}

impl Keeper {
    pub(super) fn new(journal: Journal) -> Self {
        let mut this = Self { journal, held: Held::default(), attempts: 0, next_attempt: Instant::now() };
        // What it says has been read.
        this.journal.state = None;
        this.say();
        this
    }

    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
            let (change, done) = match job {
                Job::Look => {
                    self.look();
                    continue;
                }
                Job::Change { change, done } => (change, done),
            };
            let (mut batch, mut waiting) = (vec![change], vec![done]);
            while batch.len() < BATCH {
                match jobs.try_recv() {
                    Ok(Job::Change { change, done }) => {
                        batch.push(change);
                        waiting.push(done);
                    }
                    Ok(job @ Job::Look) => {
                        next = Some(job);
                        break;
                    }
                    Err(_) => break,
                }
            }
            let taken = self.commit(batch);
            self.say();
            // Whoever is not told has its change back.
            waiting.into_iter().zip(taken).filter(|(_, is_taken)| *is_taken).for_each(|(done, _)| tell(done));
        }
        self.end();
    }

    /// Commits changes, or holds them in memory where no disk takes them; says of each whether it was taken.
    fn commit(&mut self, batch: Vec<Change>) -> Vec<bool> {
        if self.held.is_empty() && self.journal.write(&batch.iter().collect::<Vec<_>>()) {
            return vec![true; batch.len()];
        }
        // In their order: nothing goes past what is held.
        let taken = batch.into_iter().map(|change| self.hold(change)).collect();
        if self.journal.has_damage() {
            self.mend();
        }
        taken
    }

    /// Holds a change in memory. An amendment is not taken: it can be made again later, and must not be made again after it was
    /// delivered, as it would be by a start that knows nothing of it.
    fn hold(&mut self, change: Change) -> bool {
        if matches!(change, Change::Amended { .. }) {
            return false;
        }
        if !self.held.push(change) {
            self.journal.counts.forgotten.inc();
        }
        true
    }

    /// To be called about once a second.
    fn look(&mut self) {
        let is_due = Instant::now() >= self.next_attempt;
        self.journal.stand(is_due);
        if self.journal.memory() != Memory::Whole || !self.held.is_empty() {
            if is_due {
                self.mend();
            }
        } else if self.journal.wal.as_ref().is_some_and(|wal| wal.is_long())
            && let Err(error) = self.journal.rewrite_wal()
        {
            self.journal.lacks_log(&error.to_string());
        }
        self.say();
    }

    /// Tries to have both copies again, and to commit what is held.
    fn mend(&mut self) {
        self.journal.mend();
        let mut committed = 0;
        while !self.held.is_empty() && self.journal.memory() != Memory::Lost {
            let changes = self.held.first(BATCH);
            if !self.journal.write(&changes) {
                break;
            }
            let count = changes.len();
            committed += count;
            self.held.release(count);
        }
        if committed > 0 {
            tracing::info!(
                changes = committed,
                left = self.held.len(),
                "what was held in memory is in the journal"
            );
        }
        if self.journal.memory() == Memory::Whole && self.held.is_empty() {
            self.attempts = 0;
        } else {
            self.attempts += 1;
            self.next_attempt = Instant::now() + PAUSES.of(self.attempts);
        }
    }

    /// What is held is lost with the process, unless a disk takes it now.
    fn end(mut self) {
        self.journal.stand(true);
        if !self.held.is_empty() {
            self.mend();
        }
        if !self.held.is_empty() || self.journal.memory() == Memory::Lost {
            tracing::error!(
                changes = self.held.len(),
                why = self.journal.why,
                "the agent ends and could not remember all that it has decided; files that are still in their folders are decided again"
            );
        }
        if let Some(wal) = &mut self.journal.wal
            && let Err(error) = wal.sync()
        {
            tracing::debug!(%error, "the journal's log cannot be synced at the end");
        }
    }

    fn say(&self) {
        let Journal { counts, why, dir, .. } = &self.journal;
        counts.held.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
        let memory = if self.held.is_empty() { self.journal.memory() } else { Memory::Lost };
        if !counts.remembers(memory, why) {
            return;
        }
        let dir = dir.display();
        match memory {
            Memory::Whole => {
                tracing::info!(%dir, "what is decided is remembered in both copies of the journal")
            }
            Memory::Half => {
                tracing::error!(%dir, why, "what is decided is remembered in one copy of the journal, and not in two");
            }
            Memory::Lost => tracing::error!(
                %dir, why,
                "the agent decides and cannot remember: what is decided from here on is delivered, and held in memory until a disk takes it"
            ),
        }
    }
}

fn tell(done: oneshot::Sender<()>) {
    // The caller may have gone.
    let _gone = done.send(()).is_err();
}

impl Journal {
    /// Writes one commit; true if a restart will find it, or will once the database that is open can be written to its path
    /// again.
    fn write(&mut self, changes: &[&Change]) -> bool {
        if self.memory() == Memory::Lost {
            return false;
        }
        let number = self.number + 1;
        let before = self.wal.as_ref().map(super::Wal::len);
        if let Some(wal) = &mut self.wal
            && let Err(error) = wal.append(number, changes)
        {
            self.wal = None;
            self.lacks_log(&error.to_string());
        }
        if let Some(base) = &mut self.base {
            let written = base.write(|transaction| {
                change::apply(transaction, changes.iter().copied())?;
                Ok(change::count(transaction, number)?)
            });
            match written {
                Ok(()) => {
                    (self.number, base.number) = (number, number);
                    self.stand(false);
                    return true;
                }
                Err(error) => self.lacks_base(&error),
            }
        }
        // It is all that remembers now.
        let Some(wal) = &mut self.wal else { return false };
        match wal.sync() {
            Ok(()) => {
                self.number = number;
                true
            }
            Err(error) => {
                // It is held from now on, and must not be there twice.
                let _cut = before.is_some_and(|before| wal.cut(before).is_ok());
                self.wal = None;
                self.lacks_log(&error.to_string());
                false
            }
        }
    }

    fn lacks_base(&mut self, error: &Failed) {
        self.is_away = false;
        // Its lock must be given up before it can be opened anew: after an error redb refuses all further work.
        self.base = None;
        self.is_damaged = error.is_damage();
        self.why = format!("{}: {error}", self.path().display());
    }

    /// The database's bytes were found to be damaged while it was in use.
    fn has_damage(&self) -> bool {
        self.is_damaged && self.base.is_none()
    }

    /// Sees to it that what is open is what lies at its path: a file that was deleted or replaced is written anew from what is
    /// still open. `again`: also where that did not work the last time.
    fn stand(&mut self, again: bool) {
        let is_base_there = self.base.as_ref().is_none_or(Base::is_there);
        let is_wal_there = self.wal.as_ref().is_none_or(super::Wal::is_there);
        let was_away = std::mem::replace(&mut self.is_away, !is_base_there);
        if is_base_there && is_wal_there || was_away && is_wal_there && !again {
            return;
        }
        let made = files::make_private_folder(&self.dir);
        if !is_base_there {
            let path = self.path();
            if !was_away {
                tracing::error!(
                    file = %path.display(),
                    "the journal was deleted or replaced while it was in use; it is written anew from what is still open"
                );
            }
            match made.map_err(Failed::from).and_then(|()| self.stand_anew()) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "the journal is written anew, and nothing is lost")
                }
                Err(error) => self.why = format!("{}: {error}", path.display()),
            }
        }
        if !is_wal_there {
            tracing::error!(
                dir = %self.dir.display(),
                "the journal's log was deleted or replaced while it was in use; it is written anew, and nothing is lost"
            );
            match self.rewrite_wal() {
                Ok(()) => self.counts.made_anew("journal_log"),
                Err(error) => self.lacks_log(&error.to_string()),
            }
        }
    }

    fn stand_anew(&mut self) -> Result<(), Failed> {
        let Some(base) = &self.base else { return Ok(()) };
        Self::set_base_aside(&self.dir, "it is not the one that is in use", &self.counts)?;
        self.base = Some(self.made_from(base)?);
        self.is_away = false;
        self.counts.made_anew("journal");
        Ok(())
    }

    fn made_from(&self, base: &Base) -> Result<Base, Failed> {
        Base::make(&self.path(), |transaction| {
            base.read(|read| {
                change::copy(read, |change| change::apply(transaction, [&change]).map_err(Failed::from))
            })?;
            Ok(self.number)
        })
    }

    /// Tries to have both copies again.
    fn mend(&mut self) {
        if self.base.is_none() {
            if let Err(error) = files::make_private_folder(&self.dir) {
                self.why = format!("{}: {error}", self.dir.display());
                return;
            }
            let found = Base::open(&self.path());
            // Its own lock would stand in the way of the log's.
            let mended = match found {
                Found::Trouble(why) => {
                    self.why = format!("{}: {why}", self.path().display());
                    return;
                }
                Found::InUse => return,
                Found::Here(base) => {
                    self.wal = None;
                    self.go_on(*base)
                }
                Found::Absent => {
                    self.wal = None;
                    self.make_anew(None)
                }
                Found::Damaged(why) => {
                    self.wal = None;
                    self.make_anew(Some(why))
                }
                Found::Format(found) => {
                    self.wal = None;
                    self.make_anew(Some(format!("is of format {found}")))
                }
            };
            if let Err(error) = mended {
                self.why = error.to_string();
            }
            self.state = None;
        }
        if self.base.is_some() && self.wal.is_none() {
            match self.rewrite_wal() {
                Ok(()) => {}
                Err(error) => self.lacks_log(&error.to_string()),
            }
        }
        if self.memory() == Memory::Whole {
            self.why.clear();
            self.is_damaged = false;
        }
    }
}
