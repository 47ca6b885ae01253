//! Where samples come from, and what is remembered of them.
//!
//! A source emits each version of a file once: it hands out a [`Taken`] when there is room for it, and hears by an
//! [`Outcome`] what became of it. Until then the file stays where it is, so that nothing is held in memory that a crash
//! could lose. What was decided is kept in the [`journal`], which a restart reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

pub mod calm;
pub mod folder;
pub mod identity;
pub mod journal;

/// What a file looks like from outside. A change of either is a new version, which is decided anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

impl Version {
    /// Of a regular file; links are followed.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        Stat::of(path).map(|stat| stat.version)
    }
}

/// All that is seen of a file without reading it.
///
/// Two pictures may have the same name, size and time of change: a camera writes BMPs of one size to a file system that
/// counts two seconds, a copier sets the times of what it copies. Where anything else here is another, the content tells
/// whether the file is; it alone does not, since permissions, links and backups change it too, and some network shares
/// make numbers up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub version: Version,
    pub inode: u64,
    /// Of anything about it, nanoseconds since 1970.
    pub changed: i64,
}

impl Stat {
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
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            version: Version {
                size: metadata.len(),
                modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
            },
            inode: metadata.ino(),
            changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// SHA-256 of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(pub [u8; 32]);

impl Content {
    /// Of a file that could not be read: equal to no other.
    pub const UNREAD: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub stat: Stat,
    pub content: Content,
}

/// A file that was decided in an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Below the source's folder.
    pub relative: PathBuf,
    pub version: Version,
    /// `None`: an agent of before has decided it, or it was set aside unread.
    pub reading: Option<Reading>,
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
    /// Its writer was seen closing it, or it was moved here whole.
    pub is_closed: bool,
    /// It has not changed for so long that a picture that ends too early will not be completed any more.
    pub is_last_chance: bool,
    /// The content at the last reading, which found it unfinished.
    pub unfinished: Option<Content>,
    /// What was decided, where the file looks as if it might hold something else by now.
    pub decided: Option<Again>,
    /// The file was in hand when the agent died.
    pub risk: Option<Risk>,
    /// Where to say what became of it.
    pub reply: mpsc::Sender<Reply>,
}

/// A decided file that is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// What it held when it was decided.
    pub content: Content,
    /// What it looks like now is worth keeping: it is not made up anew at each look.
    pub is_kept: bool,
}

/// What to do with a file that was in hand when the agent died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// Decide it, with nothing else in hand; those that speak more for being the reason come later.
    Alone { points: u32 },
    /// Leave it: the agent has died over it so many times.
    Aside { deaths: u32 },
}

/// What became of a [`Taken`].
#[derive(Debug)]
pub struct Reply {
    pub relative: PathBuf,
    pub outcome: Outcome,
    /// As it was read; `None` if it was not.
    pub reading: Option<Reading>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Decided, or found undecidable, and acknowledged by every sink; it stays where it is.
    Done,
    /// The same, and it was deleted or moved away.
    Removed,
    /// The file is what was decided before.
    Same,
    /// It is not whole: look again when it has changed, or once more when its time is up.
    Incomplete,
    /// It changed while it was read, or it is gone.
    Changed,
    /// It was not decided, or not every sink has its record: after a restart it is decided, or the record delivered again.
    Unacknowledged,
}
