//! Where samples come from, and what is remembered of them.
//!
//! A source emits each version of a file once: it hands out a [`Taken`] when there is room for it, and hears by an
//! [`Outcome`] what became of it. Until then the file stays where it is, so that nothing is held in memory that a crash
//! could lose. What was decided is kept in the [`journal`], which a restart reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

pub mod folder;
pub mod identity;
pub mod journal;

/// What a file looks like from outside. A change of either is a new version, which is decided anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

impl Version {
    /// Of a regular file; links are followed.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("is not a regular file"));
        }
        Ok(Self::from_metadata(&metadata))
    }

    pub(crate) fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), modified }
    }
}

/// A file that is ready to be decided.
#[derive(Debug)]
pub struct Taken {
    /// Of the source.
    pub source: Arc<str>,
    /// As it can be opened.
    pub path: PathBuf,
    /// Below the source's folder: how it is remembered.
    pub relative: PathBuf,
    pub version: Version,
    /// It has not changed for so long that a picture that ends too early will not be completed any more.
    pub is_last_chance: bool,
    /// Where to say what became of it.
    pub reply: mpsc::Sender<Reply>,
}

/// What became of a [`Taken`].
#[derive(Debug)]
pub struct Reply {
    pub relative: PathBuf,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Decided, or found undecidable, and acknowledged by every sink; it stays where it is.
    Done,
    /// The same, and it was deleted or moved away.
    Removed,
    /// It ends too early: look again when it has changed, or once more when its time is up.
    Incomplete,
    /// It changed while it was read, or it is gone.
    Changed,
    /// It was not decided, or not every sink has its record: after a restart it is decided, or the record delivered again.
    Unacknowledged,
}
