//! What has been decided and what is still to be delivered, kept across restarts.
//!
//! One small [redb](https://www.redb.org) database in the state directory, and beside it a log of lines that every commit
//! goes to first (`wal`): a commit is either wholly there or not at all, whatever kills the process or the power, and
//! locks keep a second agent out. Either of the two is made anew from the other, whatever happens to one of them: bytes
//! that change, a file that is cut short, replaced or deleted, also while the agent runs.
//!
//! A sample of a source is known by its key, and remembered by a mark; both are bytes of the source's own.
//!
//! One commit says that a sample is decided, puts its record in the outbox, and notes whether its id awaits an
//! amendment. From then on the record is delivered, byte for byte, until every sink has it: a sample is never decided
//! twice, and none is forgotten. An amendment is one commit too: the amended record is in the outbox, and the id awaits
//! nothing any more.
//!
//! While no disk takes a commit the agent decides all the same: what was decided is held in memory, in bounds, and
//! committed when a disk takes it. That is said in the log, in `/readyz` and on `/metrics`.
//!
//! * `change`: the tables, and what one commit does to them. `wal`: the log. `base`: the database, opened safely.
//! * `opening`: which of the two a start goes on from. `keeper`: the thread at work. `held`, `state`: pure. `handle`: how
//!   the thread is spoken to.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::files;
use tokio::sync::mpsc;

use base::{Base, Failed};
use change::Change;
use counts::Memory;
use keeper::Keeper;
use state::State;
use wal::Wal;

mod base;
mod change;
mod counts;
mod handle;
mod held;
mod keeper;
mod key;
mod opening;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod wal;

pub use change::Post;
pub(crate) use counts::Counts;
pub use handle::JournalHandle;
pub use key::{Key, Known, Mark, Remembered};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "decided.redb";

/// How long the lock of a process that was killed may linger.
const LEFTOVER: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: is in use by another agent; give each its own state_dir", path.display())]
    InUse { path: PathBuf },
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
}

/// What was found at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// What the run before has left.
    On,
    /// One of the two copies was lost or damaged, and was made anew from the other.
    Mended {
        /// Commits that cannot be read in what it was made from: 0 where nothing is lost.
        lost: u64,
    },
    /// Nothing is known of any earlier run, because there was none or because all of it is lost.
    Anew,
    /// The disk does not let the journal be read: what can be known of earlier runs is known from the log alone, if at all.
    Blind,
}

/// The journal, opened.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// `None` while it cannot be used.
    base: Option<Base>,
    /// What the log says, where there is no database to ask. `None`: there is one.
    state: Option<State>,
    /// `None` while it cannot be written.
    wal: Option<Wal>,
    /// Number of the last commit.
    number: u64,
    begun: Begun,
    /// Why not both copies are in use; empty where they are.
    why: String,
    /// The database was found to be damaged while it was in use.
    is_damaged: bool,
    /// The database that is open is not the one at its path, and could not be written there.
    is_away: bool,
    counts: Counts,
}

impl Journal {
    /// Opens or makes it, as [`Journal::open`] does, and waits a little for a process that was killed a moment ago to give up
    /// its locks.
    pub(crate) async fn open_soon(dir: &Path, counts: &Counts) -> Result<Self, JournalError> {
        let until = tokio::time::Instant::now() + LEFTOVER;
        loop {
            let (own, counts) = (dir.to_path_buf(), counts.clone());
            // Every page is read.
            let opened = tokio::task::spawn_blocking(move || Self::open_counted(&own, &counts)).await;
            let panicked = |_| JournalError::Unusable {
                path: dir.join(FILE_NAME),
                why: "its opening panicked".to_owned(),
            };
            match opened.map_err(panicked)? {
                Err(JournalError::InUse { .. }) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LEFTOVER / 20).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens or makes it. Whatever lies there, this fails only where another agent has it: what cannot be used is set aside,
    /// and what the machine does not let be used is gone on without. Blocks.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        Self::open_counted(dir, &Counts::default())
    }

    /// Keeps the database under another name, for whoever can read it, so that it is made anew from the log; where there is no
    /// database, the log. Blocks.
    pub(crate) fn set_aside(dir: &Path, why: &str, counts: &Counts) -> io::Result<()> {
        for (name, store) in [(FILE_NAME, "journal"), (wal::FILE_NAME, "journal_log")] {
            let path = dir.join(name);
            if let Some(aside) = files::set_aside(&path)? {
                counts.set_aside(store);
                tracing::error!(file = %path.display(), aside = %aside.display(), why, "a copy of the journal is set aside");
                break;
            }
        }
        Ok(())
    }

    /// Keeps the database under another name, if there is one.
    fn set_base_aside(dir: &Path, why: &str, counts: &Counts) -> io::Result<()> {
        match dir.join(FILE_NAME).symlink_metadata() {
            Ok(_) => Self::set_aside(dir, why, counts),
            Err(_) => Ok(()),
        }
    }

    /// Was there ever one?
    pub fn is_in(dir: &Path) -> bool {
        let is_there = |name: &str| dir.join(name).symlink_metadata().is_ok();
        is_there(FILE_NAME) || is_there(wal::FILE_NAME)
    }

    /// How it was found.
    pub fn begun(&self) -> Begun {
        self.begun
    }

    /// Why one of its two copies is not used; `None`: both are, or are about to be.
    pub fn trouble(&self) -> Option<&str> {
        (!self.why.is_empty()).then_some(&*self.why)
    }

    /// What a source has had decided.
    pub fn known(&self, source: &str) -> Result<Vec<Known>, JournalError> {
        self.read(|read| change::known(read, source), |state| state.known(source))
    }

    /// What was not delivered to every sink, in the order of its commits, by number.
    pub fn outbox(&self) -> Result<Vec<(u64, Post)>, JournalError> {
        self.read(change::outbox, State::outbox)
    }

    /// The ids that the spool is known to hold; true for those that will not be amended (any more).
    pub fn spooled(&self) -> Result<HashMap<String, bool>, JournalError> {
        self.read(change::spooled, State::spooled)
    }

    /// Closes ids by one commit, outside of the thread, for the command line. The log is made anew by the next start.
    pub fn close_now(&self, ids: &[String]) -> Result<(), JournalError> {
        let change = Change::Closed { ids: ids.to_vec() };
        let Some(base) = &self.base else { return Err(self.error("cannot be written at the moment")) };
        // A commit beside those that the log alone has would take the place of one of them.
        let log =
            wal::read(&self.dir, |_| false, |_, _| Ok(())).map_err(|error| self.error(&error.to_string()))?;
        if log.is_some_and(|log| log.last > self.number) {
            return Err(self.error("lacks what its log has; start the agent first, which puts that right"));
        }
        let written = base.write(|transaction| {
            change::apply(transaction, [&change])?;
            Ok(change::count(transaction, self.number + 1)?)
        });
        written.map_err(|error| self.error(&error.to_string()))
    }

    /// Hands it to a thread of its own, behind a queue of `queue` entries.
    pub fn start(self, queue: usize) -> Result<JournalHandle, JournalError> {
        let mut next = self.outbox()?.last().map_or(0, |(number, _)| number + 1);
        if self.begun == Begun::Blind {
            // What cannot be read now may come back, with numbers of its own: none of them is as large as the time.
            let micros = jiff::Timestamp::now().as_microsecond();
            next = next.max(u64::try_from(micros).unwrap_or_default());
        }
        let (jobs, receiver) = mpsc::channel(queue.max(1));
        let (path, keeper) = (self.path(), Keeper::new(self));
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let started = thread.spawn(move || keeper.run(receiver));
        let refuse =
            |error| JournalError::Unusable { path, why: format!("its thread cannot be started: {error}") };
        started.map_err(refuse)?;
        Ok(JournalHandle::new(jobs, next))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    fn error(&self, why: &str) -> JournalError {
        JournalError::Unusable { path: self.path(), why: why.to_owned() }
    }

    fn read<T>(
        &self,
        from_base: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
        from_state: impl FnOnce(&State) -> T,
    ) -> Result<T, JournalError> {
        match (&self.base, &self.state) {
            (Some(base), _) => {
                let read = base.read(|read| Ok(from_base(read)?));
                read.map_err(|error| self.error(&error.to_string()))
            }
            (None, Some(state)) => Ok(from_state(state)),
            (None, None) => Ok(from_state(&State::default())),
        }
    }

    /// How what is written now is remembered.
    fn memory(&self) -> Memory {
        match (self.base.is_some() && !self.is_away, self.wal.is_some()) {
            (true, true) => Memory::Whole,
            (true, false) | (false, true) => Memory::Half,
            (false, false) => Memory::Lost,
        }
    }

    /// Writes the log anew from the database.
    fn rewrite_wal(&mut self) -> Result<(), Failed> {
        let Some(base) = &self.base else { return Ok(()) };
        // Its lock, and its room on the disk.
        self.wal = None;
        let wal = base.read(|read| {
            Ok(Wal::rewrite(&self.dir, self.number, |each| {
                change::copy(read, |change| each(&change).map_err(Failed::from)).map_err(io::Error::other)
            })?)
        })?;
        self.wal = Some(wal);
        Ok(())
    }
}
