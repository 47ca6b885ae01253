//! What has been decided, kept across restarts.
//!
//! One small [redb](https://www.redb.org) database in the state directory: a commit is either wholly there or not at all,
//! whatever kills the process or the power, and its lock keeps a second agent out. A file's version is entered after
//! every sink has acknowledged its decision, never before. So a crash in between makes the file be decided again
//! (at least once), under the same id (see [`super::identity`]), and none is forgotten.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::Version;

#[cfg(test)]
mod tests;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "decided.redb";

/// (source, path below its folder as bytes) → (size, time of change).
const DECIDED: TableDefinition<'_, (&str, &[u8]), (u64, i64)> = TableDefinition::new("decided");
/// Entries that one commit may hold; a commit costs one wait for the disk, however many.
const BATCH: usize = 256;
/// redb's own is 1 GiB.
const CACHE_BYTES: usize = 1 << 20;
/// How long the lock of a process that was killed may linger.
const LEFTOVER: Duration = Duration::from_secs(2);
/// Between attempts, while the disk is full or out of order.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("state_dir {}: {source}", path.display())]
    Dir { path: PathBuf, source: std::io::Error },
    #[error("{}: is in use by another agent; give each its own state_dir", path.display())]
    InUse { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

/// An entry, or its removal.
#[derive(Debug, Clone)]
struct Change {
    source: Arc<str>,
    relative: PathBuf,
    /// `None` removes it.
    version: Option<Version>,
}

struct Job {
    change: Change,
    done: oneshot::Sender<()>,
}

/// The database, opened.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` while it cannot be opened anew: nothing is taken as written then.
    database: Option<Database>,
}

/// Handle to a journal at work. Cheap to clone; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    jobs: mpsc::Sender<Job>,
}

impl Journal {
    /// The same, but waits a little for a process that was killed a moment ago to give up its lock.
    pub async fn open_soon(dir: &Path) -> Result<Self, JournalError> {
        let until = tokio::time::Instant::now() + LEFTOVER;
        loop {
            match Self::open(dir) {
                Err(JournalError::InUse { .. }) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LEFTOVER / 20).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens or creates it.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(dir)
            .map_err(|source| JournalError::Dir { path: dir.to_path_buf(), source })?;
        let path = dir.join(FILE_NAME);
        let database = open(&path)?;
        let this = Self { path, database: Some(database) };
        this.apply(&[]).map_err(|source| this.error(source))?;
        Ok(this)
    }

    /// What a source has had decided.
    pub fn known(&self, source: &str) -> Result<Vec<(PathBuf, Version)>, JournalError> {
        self.read(source).map_err(|error| self.error(error))
    }

    /// Hands it to a thread of its own, behind a queue of `queue` entries.
    pub fn start(self, queue: usize) -> JournalHandle {
        let (jobs, receiver) = mpsc::channel(queue.max(1));
        std::thread::spawn(move || self.run(receiver));
        JournalHandle { jobs }
    }

    fn error(&self, source: redb::Error) -> JournalError {
        JournalError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or_else(|| redb::Error::Io(std::io::Error::other("is not open")))
    }

    fn read(&self, source: &str) -> Result<Vec<(PathBuf, Version)>, redb::Error> {
        let table = self.database()?.begin_read()?.open_table(DECIDED)?;
        let mut known = Vec::new();
        for entry in table.range((source, &[][..])..)? {
            let (key, value) = entry?;
            let (of, path) = key.value();
            if of != source {
                break;
            }
            let (size, modified) = value.value();
            let path = std::ffi::OsString::from_vec(path.to_vec());
            known.push((PathBuf::from(path), Version { size, modified }));
        }
        Ok(known)
    }

    fn apply(&self, changes: &[&Change]) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        {
            let mut table = transaction.open_table(DECIDED)?;
            for change in changes {
                let key = (&*change.source, change.relative.as_os_str().as_bytes());
                match change.version {
                    Some(version) => table.insert(key, (version.size, version.modified))?,
                    None => table.remove(key)?,
                };
            }
        }
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
            Ok(database) => self.database = Some(database),
            Err(error) => tracing::debug!(%error, "journal cannot be opened yet"),
        }
    }
}

impl JournalHandle {
    /// Returns when it is on disk; false if the journal has stopped.
    pub async fn decided(&self, source: &Arc<str>, relative: &Path, version: Version) -> bool {
        match self.hand_over(source, relative, Some(version)).await {
            Some(wait) => wait.await.is_ok(),
            None => false,
        }
    }

    /// Forgets files; false if the journal has stopped.
    pub async fn forget(&self, source: &Arc<str>, files: &[PathBuf]) -> bool {
        let mut waits = Vec::with_capacity(files.len());
        // All are handed over before any is waited for, so that they share commits.
        for relative in files {
            match self.hand_over(source, relative, None).await {
                Some(wait) => waits.push(wait),
                None => return false,
            }
        }
        for wait in waits {
            if wait.await.is_err() {
                return false;
            }
        }
        true
    }

    async fn hand_over(
        &self,
        source: &Arc<str>,
        relative: &Path,
        version: Option<Version>,
    ) -> Option<oneshot::Receiver<()>> {
        let (done, wait) = oneshot::channel();
        let change = Change { source: Arc::clone(source), relative: relative.to_path_buf(), version };
        self.jobs.send(Job { change, done }).await.ok().map(|()| wait)
    }
}

fn open(path: &Path) -> Result<Database, JournalError> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    opened.map_err(|source| match source {
        redb::DatabaseError::DatabaseAlreadyOpen => JournalError::InUse { path: path.to_path_buf() },
        source => JournalError::Database { path: path.to_path_buf(), source: Box::new(source.into()) },
    })
}
