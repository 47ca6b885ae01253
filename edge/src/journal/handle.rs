//! How the journal is spoken to while its thread is at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::change::{Change, Post};
use super::{Key, Mark, Remembered};

pub(super) enum Job {
    Change {
        change: Change,
        /// Told when it is remembered, or held where no disk takes it; dropped where it is not taken.
        done: oneshot::Sender<()>,
    },
    /// Look whether all is where it should be.
    Look,
}

/// From one look of the journal's thread to the next.
const LOOK: Duration = Duration::from_secs(1);

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

    /// Has the thread look about once a second whether its files are where they should be, and mend what it can, until the last
    /// handle is dropped. To be spawned.
    pub(crate) fn looking(&self) -> impl Future<Output = ()> + use<> {
        // This must not be what keeps the thread from ending.
        let jobs = self.jobs.downgrade();
        async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(jobs) = jobs.upgrade() else { return };
                // A thread that has no room for this has work, and looks at each commit.
                let _busy = jobs.try_send(Job::Look).is_err();
            }
        }
    }

    /// Returns when samples are remembered as decided, though no record of theirs is to be delivered.
    pub async fn remember(&self, of: Vec<Remembered>) -> bool {
        self.commit(Change::Remembered { of }).await
    }

    /// Forgets samples; false if the journal has stopped.
    pub async fn forget(&self, source: &Arc<str>, keys: Vec<Key>) -> bool {
        let mut waits = Vec::with_capacity(keys.len());
        // All are handed over before any is waited for, so that they share commits.
        for key in keys {
            let change = Change::Forget { source: Arc::clone(source), key };
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

    /// Remembers a decided sample by another mark. Does not wait for the disk: what a kill takes back is looked at again.
    pub async fn renew(&self, source: &Arc<str>, key: Key, mark: Mark) {
        let source = Arc::clone(source);
        let _stopped = self.hand_over(Change::Renewed { source, key, mark }).await.is_none();
    }

    /// Returns when a record is in the outbox: it will be delivered, whatever happens, or where no disk takes it, unless the
    /// process ends before. With `awaits`, its id also awaits
    /// an amendment. Gives its number; `None` if the journal has stopped.
    pub async fn post(&self, post: Post, awaits: bool) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.commit(Change::Post { number, post, awaits }).await.then_some(number)
    }

    /// Returns when an amended record is in the outbox; its id awaits nothing any more. `None` if the journal has stopped, or
    /// if no disk takes it at the moment: the amendment is then to be made again later.
    pub async fn amended(&self, post: Post) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.commit(Change::Amended { number, post }).await.then_some(number)
    }

    /// Every sink has a record; `gone` need not be remembered any more. Does not wait for the disk: what a kill takes back is delivered again.
    pub async fn delivered(&self, number: u64, gone: Vec<(Arc<str>, Key)>) {
        // A journal that has stopped will deliver it again.
        let _stopped = self.hand_over(Change::Delivered { number, gone }).await.is_none();
    }

    /// These will not be amended. Waits for the disk; false if the journal has stopped.
    pub async fn closed(&self, ids: Vec<String>) -> bool {
        self.commit(Change::Closed { ids }).await
    }

    /// Says that these await an amendment, without waiting for anything; gives them back if the queue is full.
    pub fn try_awaits(&self, ids: Vec<String>) -> Result<(), Vec<String>> {
        self.offer(Change::Awaits { ids })
    }

    /// Says that these will not be amended, without waiting for anything; gives them back if the queue is full.
    pub fn try_closed(&self, ids: Vec<String>) -> Result<(), Vec<String>> {
        self.offer(Change::Closed { ids })
    }

    /// Entries that are gone from the disk need not be remembered; gives them back if the queue is full.
    pub fn try_pruned(&self, ids: Vec<String>) -> Result<(), Vec<String>> {
        self.offer(Change::Pruned { ids })
    }

    fn offer(&self, change: Change) -> Result<(), Vec<String>> {
        let (done, _) = oneshot::channel();
        self.jobs.try_send(Job::Change { change, done }).map_err(|error| match error.into_inner() {
            Job::Change {
                change: Change::Awaits { ids } | Change::Closed { ids } | Change::Pruned { ids },
                ..
            } => ids,
            Job::Change { .. } | Job::Look => Vec::new(),
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
        self.jobs.send(Job::Change { change, done }).await.ok().map(|()| wait)
    }
}
