//! How the journal is spoken to while its thread is at work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::Reading;
use super::change::{Change, Post};

pub(super) struct Job {
    pub(super) change: Change,
    pub(super) done: oneshot::Sender<()>,
}

/// Handle to a journal at work. Cheap to clone; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    jobs: mpsc::Sender<Job>,
    /// The next number of the outbox.
    next: Arc<AtomicU64>,
}

impl JournalHandle {
    pub(super) fn new(jobs: mpsc::Sender<Job>, next: u64) -> Self {
        Self { jobs, next: Arc::new(AtomicU64::new(next)) }
    }

    /// Forgets files; false if the journal has stopped.
    pub async fn forget(&self, source: &Arc<str>, files: &[PathBuf]) -> bool {
        let mut waits = Vec::with_capacity(files.len());
        // All are handed over before any is waited for, so that they share commits.
        for relative in files {
            let change = Change::Forget { source: Arc::clone(source), relative: relative.clone() };
            match self.hand_over(change).await {
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

    /// A decided file was read again, and held what it had held. Does not wait for the disk: what a kill takes back is
    /// read again.
    pub async fn seen(&self, source: &Arc<str>, relative: &Path, reading: Reading) {
        let (source, relative) = (Arc::clone(source), relative.to_path_buf());
        let _stopped = self.hand_over(Change::Seen { source, relative, reading }).await.is_none();
    }

    /// Returns when a record is in the outbox: it will be delivered, whatever happens. With `awaits`, its id also awaits
    /// an amendment. Gives its number; `None` if the journal has stopped.
    pub async fn post(&self, post: Post, awaits: bool) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.commit(Change::Post { number, post, awaits }).await.then_some(number)
    }

    /// The same for an amended record, whose id awaits nothing any more.
    pub async fn amended(&self, post: Post) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.commit(Change::Amended { number, post }).await.then_some(number)
    }

    /// Every sink has a record. Does not wait for the disk: what a kill takes back is delivered again.
    pub async fn delivered(&self, number: u64, tidied: Option<(Arc<str>, PathBuf)>) {
        // A journal that has stopped will deliver it again.
        let _stopped = self.hand_over(Change::Delivered { number, tidied }).await.is_none();
    }

    /// These will not be amended. Waits for the disk; false if the journal has stopped.
    pub async fn closed(&self, ids: Vec<String>) -> bool {
        self.commit(Change::Closed { ids }).await
    }

    /// The same without waiting for anything; gives them back if the queue is full.
    pub fn try_closed(&self, ids: Vec<String>) -> Result<(), Vec<String>> {
        self.offer(Change::Closed { ids })
    }

    /// Entries that are gone from the disk need not be remembered; gives them back if the queue is full.
    pub fn try_pruned(&self, ids: Vec<String>) -> Result<(), Vec<String>> {
        self.offer(Change::Pruned { ids })
    }

    fn offer(&self, change: Change) -> Result<(), Vec<String>> {
        let (done, _) = oneshot::channel();
        self.jobs.try_send(Job { change, done }).map_err(|error| match error.into_inner().change {
            Change::Closed { ids } | Change::Pruned { ids } => ids,
            _ => Vec::new(),
        })
    }

    /// Returns when all that was handed over so far is on disk; false if the journal has stopped.
    pub async fn flush(&self) -> bool {
        self.closed(Vec::new()).await
    }

    async fn commit(&self, change: Change) -> bool {
        match self.hand_over(change).await {
            Some(wait) => wait.await.is_ok(),
            None => false,
        }
    }

    async fn hand_over(&self, change: Change) -> Option<oneshot::Receiver<()>> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(Job { change, done }).await.ok().map(|()| wait)
    }
}
