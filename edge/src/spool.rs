//! The spool: samples whose decision went out provisional because an expert of the pool did not answer in time, kept on
//! disk until it has.
//!
//! ```text
//! service ──put──> keeper: one thread that owns the log and its index ──take──> backlog: asks the pool, amends
//!                     log: segments on a disk        index, pace, rate: pure
//! ```
//!
//! What an entry is worth is in the journal, not here: an entry counts once its id is committed there, and is closed once
//! the journal says so. So the log needs no marks of its own, is only ever appended to, and goes segment by segment.
//!
//! Guarantees, layout and policies are in `docs/spool.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::bundle::BundleDigest;
use tokio::sync::{mpsc, oneshot};

mod age;
mod config;
mod disk;
pub(crate) mod entry;
#[cfg(test)]
mod faulty;
mod frame;
mod index;
mod keeper;
mod log;
pub mod look;
pub mod measure;
mod metrics;
mod rate;
pub mod status;

pub(crate) use metrics::SpoolMetrics;

pub use config::{SpoolConfig, SpoolFull};
pub use keeper::OpenError;
pub(crate) use keeper::{Orphan, Started, wall};
pub use log::Sync;

use entry::{Entry, Written};
pub(crate) use index::{Again, Millis};
use keeper::Job;
use status::{Listed, Status};

/// The directory's name in the state directory.
pub const DIR_NAME: &str = "spool";
/// Jobs that wait for the keeper.
const QUEUE: usize = 64;

/// Where the spool of a state directory is.
pub fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join(DIR_NAME)
}

/// Why an entry was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PutError {
    #[error("the spool is full")]
    Full,
    #[error("the spool cannot be written: {0}")]
    Disk(String),
    #[error("the spool has stopped")]
    Stopped,
}

/// Why an entry is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Closed {
    Amended,
    /// The pool will never answer it.
    Refused,
    Expired,
    /// By policy, to make room.
    Dropped,
    /// By the operator.
    Discarded,
    /// Damaged on the disk.
    Damaged,
    /// A pool has died over it, again and again.
    Crashed,
}

impl Closed {
    pub(crate) const ALL: [Self; 7] = [
        Self::Amended,
        Self::Refused,
        Self::Expired,
        Self::Dropped,
        Self::Discarded,
        Self::Damaged,
        Self::Crashed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Amended => "amended",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
            Self::Discarded => "discarded",
            Self::Damaged => "damaged",
            Self::Crashed => "crashed",
        }
    }
}

/// An entry to be asked of the pool.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) seq: u64,
    pub(crate) entry: Entry,
    pub(crate) tries: u32,
}

/// Handle to the spool. Cheap to clone; its thread ends with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    jobs: mpsc::Sender<Job>,
}

impl Spool {
    /// Returns when it is written, as far as the configured `sync` goes. It is held until [`Spool::release`].
    pub(crate) async fn put(&self, entry: &Written) -> Result<(), PutError> {
        let Written { head, body } = entry.clone();
        self.ask(|done| Job::Put { head, body, done }).await.unwrap_or(Err(PutError::Stopped))
    }

    /// Every sink has the first decision: the entry may be asked.
    pub(crate) async fn release(&self, id: String) {
        self.tell(Job::Release(id)).await;
    }

    /// The next entry that is due.
    pub(crate) async fn take(&self) -> Option<Work> {
        self.ask(Job::Take).await.flatten()
    }

    /// To be asked again, after a pause.
    pub(crate) async fn retry(&self, seq: u64, pause: Duration, why: Again) {
        self.tell(Job::Retry { seq, pause, why }).await;
    }

    /// For good. Of an amended one the journal knows already.
    pub(crate) async fn close(&self, seq: u64, why: Closed) {
        self.tell(Job::Close { seq, why }).await;
    }

    /// The line is back: what waited for it is due.
    pub(crate) async fn wake(&self) {
        self.tell(Job::Wake).await;
    }

    /// To be called about once a second: expiry, late syncs, metrics.
    pub(crate) async fn tick(&self) {
        self.tell(Job::Tick).await;
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        self.ask(Job::Status).await
    }

    pub(crate) async fn list(&self) -> Vec<Listed> {
        self.ask(Job::List).await.unwrap_or_default()
    }

    /// The bundles that entries were decided with; `None` where the spool cannot say.
    pub(crate) async fn bundles(&self) -> Option<BTreeSet<BundleDigest>> {
        self.ask(Job::Bundles).await
    }

    /// An entry as it lies on the disk.
    pub(crate) async fn body(&self, id: String) -> Option<Vec<u8>> {
        self.ask(|done| Job::Read { id, done }).await.flatten()
    }

    /// The operator wants no amendment for these (`None`: for any). Gives how many were dropped; those that are being
    /// asked right now are not.
    pub(crate) async fn discard(&self, ids: Option<Vec<String>>) -> usize {
        self.ask(|done| Job::Discard { ids, done }).await.unwrap_or(0)
    }

    /// One whose disk hangs for as long as the other half is held.
    #[cfg(test)]
    pub(crate) fn hung() -> (Self, impl Sized) {
        let (jobs, held) = mpsc::channel(QUEUE);
        (Self { jobs }, held)
    }

    async fn tell(&self, job: Job) {
        // Without its thread there is nobody to tell; the journal has what counts.
        let _stopped = self.jobs.send(job).await.is_err();
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(job(done)).await.ok()?;
        wait.await.ok()
    }
}
