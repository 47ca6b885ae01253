//! What has been decided and what is still to be delivered, kept across restarts.
//!
//! One small [redb](https://www.redb.org) database in the state directory: a commit is either wholly there or not at all,
//! whatever kills the process or the power, and its lock keeps a second agent out.
//!
//! A sample of a source is known by its key, and remembered by a mark; both are bytes of the source's own.
//!
//! One commit says that a sample is decided, puts its record in the outbox, and notes whether its id awaits an
//! amendment. From then on the record is delivered, byte for byte, until every sink has it: a sample is never decided
//! twice, and none is forgotten. An amendment is one commit too: the amended record is in the outbox, and the id awaits
//! nothing any more.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::mpsc;

use change::Change;
use handle::Job;

mod change;
mod handle;
mod key;
#[cfg(test)]
mod tests;
mod text;

pub use change::Post;
pub use handle::JournalHandle;
pub use key::{Key, Known, Mark, Remembered};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "decided.redb";

/// Entries that one commit may hold; a commit costs one wait for the disk, however many.
const BATCH: usize = 256;
/// redb's own is 1 GiB.
const CACHE_BYTES: usize = 1 << 20;
/// How long the lock of a process that was killed may linger.
const LEFTOVER: Duration = Duration::from_secs(2);
/// The pause between attempts, while the disk is full or out of order.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("state_dir {}: {source}", path.display())]
    Dir { path: PathBuf, source: std::io::Error },
    #[error("{}: is in use by another agent; give each its own state_dir", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{}: is of format {found}, and this agent reads format {}: it is set aside at the next start",
        path.display(),
        change::FORMAT
    )]
    Format { path: PathBuf, found: u32 },
    #[error("{}: {source}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

/// The database, opened.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` while it cannot be opened anew: nothing is taken as written then.
    database: Option<Database>,
}

impl Journal {
    /// Opens or creates it; sets aside one that is damaged or of another format, and waits a little for a process that was
    /// killed a moment ago to give up its lock.
    pub async fn open_soon(dir: &Path) -> Result<Self, JournalError> {
        let until = tokio::time::Instant::now() + LEFTOVER;
        let mut has_tried = false;
        loop {
            match Self::open(dir) {
                Err(JournalError::InUse { .. }) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LEFTOVER / 20).await;
                }
                // Reading it again changes nothing.
                Err(JournalError::Database { source, .. }) if is_damaged(&source) && !has_tried => {
                    has_tried = true;
                    Self::set_aside(dir, &source.to_string())?;
                }
                Err(error @ JournalError::Format { .. }) if !has_tried => {
                    has_tried = true;
                    Self::set_aside(dir, &error.to_string())?;
                }
                opened => return opened,
            }
        }
    }

    /// Keeps one that nobody here can read under another name, for whoever can, and begins a new one: an agent that never
    /// starts decides nothing. Files that are still in their folders are decided again; `why` is for the log.
    pub fn set_aside(dir: &Path, why: &str) -> Result<(), JournalError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(());
        }
        let aside = (1..).map(|at| dir.join(format!("{FILE_NAME}.aside-{at}"))).find(|aside| !aside.exists());
        let aside = aside.unwrap_or_else(|| dir.join(format!("{FILE_NAME}.aside")));
        std::fs::rename(&path, &aside)
            .map_err(|source| JournalError::Dir { path: dir.to_path_buf(), source })?;
        tracing::error!(
            file = %path.display(), aside = %aside.display(), why,
            "the journal is set aside and a new one begun; files in the folders are decided again, and records in it are not delivered"
        );
        Ok(())
    }

    /// `None` if there is none yet: nothing is made.
    pub fn existing(dir: &Path) -> Result<Option<Self>, JournalError> {
        Self::is_in(dir).then(|| Self::open(dir)).transpose()
    }

    /// Was there ever one?
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FILE_NAME).exists()
    }

    /// Opens or creates it.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(dir)
            .map_err(|source| JournalError::Dir { path: dir.to_path_buf(), source })?;
        let path = dir.join(FILE_NAME);
        let database = open(&path)?;
        let this = Self { path, database: Some(database) };
        this.prepare()?;
        Ok(this)
    }

    /// What a source has had decided.
    pub fn known(&self, source: &str) -> Result<Vec<Known>, JournalError> {
        self.read(|read| change::known(read, source))
    }

    /// What was not delivered to every sink, in the order of its commits, by number.
    pub fn outbox(&self) -> Result<Vec<(u64, Post)>, JournalError> {
        self.read(change::outbox)
    }

    /// The ids that the spool is known to hold; true for those that will not be amended (any more).
    pub fn spooled(&self) -> Result<HashMap<String, bool>, JournalError> {
        self.read(change::spooled)
    }

    /// Closes ids by one commit, outside of the thread, for the command line.
    pub fn close_now(&self, ids: &[String]) -> Result<(), JournalError> {
        let change = Change::Closed { ids: ids.to_vec() };
        self.apply(&[&change]).map_err(|error| self.error(error))
    }

    /// Hands it to a thread of its own, behind a queue of `queue` entries.
    pub fn start(self, queue: usize) -> Result<JournalHandle, JournalError> {
        let next = self.outbox()?.last().map_or(0, |(number, _)| number + 1);
        let (jobs, receiver) = mpsc::channel(queue.max(1));
        std::thread::spawn(move || self.run(receiver));
        Ok(JournalHandle::new(jobs, next))
    }

    fn error(&self, source: redb::Error) -> JournalError {
        JournalError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or_else(|| redb::Error::Io(std::io::Error::other("is not open")))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        let reading = || read(&self.database()?.begin_read()?);
        reading().map_err(|error| self.error(error))
    }

    /// Begins one that is empty, and refuses one of another format.
    fn prepare(&self) -> Result<(), JournalError> {
        let begin = || {
            let transaction = self.database()?.begin_write()?;
            change::begin(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        match self.read(change::format)? {
            Some(change::FORMAT) => Ok(()),
            Some(found) => Err(JournalError::Format { path: self.path.clone(), found }),
            None => begin().map_err(|error| self.error(error)),
        }
    }

    fn apply(&self, changes: &[&Change]) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        change::apply(&transaction, changes)?;
        transaction.commit()?;
        Ok(())
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            if !self.commit(&batch, &jobs) {
                return;
            }
            for job in batch {
                // The caller may have gone.
                let _gone = job.done.send(()).is_err();
            }
        }
    }

    /// Tries until it is on disk; false if nobody waits for it any more.
    fn commit(&mut self, batch: &[Job], jobs: &mpsc::Receiver<Job>) -> bool {
        let changes: Vec<&Change> = batch.iter().map(|job| &job.change).collect();
        let mut has_failed = false;
        loop {
            match self.apply(&changes) {
                Ok(()) => {
                    if has_failed {
                        tracing::info!(file = %self.path.display(), "journal can be written again");
                    }
                    return true;
                }
                Err(error) if !has_failed => {
                    has_failed = true;
                    tracing::error!(file = %self.path.display(), %error, "journal cannot be written; trying again");
                }
                Err(_) => {}
            }
            if jobs.is_closed() && batch.iter().all(|job| job.done.is_closed()) {
                return false;
            }
            std::thread::sleep(RETRY);
            self.reopen();
        }
    }

    /// After an IO error redb refuses all further work on the open database.
    fn reopen(&mut self) {
        // Its lock must be given up before it can be taken again.
        self.database = None;
        match open(&self.path) {
            Ok(database) => {
                self.database = Some(database);
                if let Err(error) = self.prepare() {
                    tracing::debug!(%error, "journal cannot be gone on with yet");
                    self.database = None;
                }
            }
            Err(error) => tracing::debug!(%error, "journal cannot be opened yet"),
        }
    }
}

/// Whether the file's bytes are no journal's, and will never be.
fn is_damaged(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) => true,
        redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn open(path: &Path) -> Result<Database, JournalError> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    opened.map_err(|source| match source {
        redb::DatabaseError::DatabaseAlreadyOpen => JournalError::InUse { path: path.to_path_buf() },
        source => JournalError::Database { path: path.to_path_buf(), source: Box::new(source.into()) },
    })
}
