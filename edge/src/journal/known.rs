//! What is remembered of a file that was decided.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
