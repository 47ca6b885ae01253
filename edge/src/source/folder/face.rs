//! What a file looks like, from outside and by its content, and how that is remembered: as the mark of its key in the
//! journal, which is its path below the folder.
//!
//! ```text
//! mark: size u64, time of change i64, and where it was read: inode u64, time of any change i64, SHA-256; little endian
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::input::FILE_LIMIT;
use crate::journal::{self, Key, Mark};

/// What a file looks like from outside. A change of either is a new version, which is decided anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// Bytes.
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
}

impl Version {
    /// Milliseconds since 1970; 0 where its time is before that.
    pub(crate) fn born(self) -> u64 {
        u64::try_from(self.modified / 1_000_000).unwrap_or(0)
    }

    /// What tells it from another version of the same file without reading it.
    pub(crate) fn face(self) -> Mark {
        mark(self, None)
    }
}

/// All that is seen of a file without reading it.
///
/// Two pictures may have the same name, size and time of change: a camera writes BMPs of one size to a file system that
/// counts two seconds, a copier sets the times of what it copies. Where anything else here is another, the content tells
/// whether the file is; it alone does not, since permissions, links and backups change it too, and some network shares
/// make numbers up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) version: Version,
    pub(crate) inode: u64,
    /// When anything about it was changed last, nanoseconds since 1970.
    pub(crate) changed: i64,
}

impl Stat {
    /// Looks at a regular file; links are followed. An error if it is none.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "is not a regular file"));
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
pub(crate) struct Content(pub(crate) [u8; 32]);

impl Content {
    /// What stands for a file that could not be read, and never will be as it is: equal to no other.
    pub(crate) const UNREAD: Self = Self([0xff; 32]);
    /// What earlier agents wrote for any file that they could not read, if only for a moment.
    const PERHAPS_UNREAD: Self = Self([0; 32]);

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) stat: Stat,
    pub(crate) content: Content,
}

/// A file that was decided in an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Path below the source's folder.
    pub(crate) relative: PathBuf,
    pub(crate) version: Version,
    /// `None`: it was set aside unread.
    pub(crate) reading: Option<Reading>,
}

impl Known {
    /// `None` where the mark is not a file's.
    pub(crate) fn of(known: &journal::Known) -> Option<Self> {
        let (version, reading) = unmark(&known.mark)?;
        Some(Self { relative: path_of(&known.key), version, reading })
    }

    /// False for a file that an earlier agent has set aside though the machine may have been at fault, and not the file.
    pub(crate) fn is_settled(&self) -> bool {
        let is_unread = self.reading.is_some_and(|reading| reading.content == Content::PERHAPS_UNREAD);
        !is_unread || self.version.size > FILE_LIMIT
    }
}

/// The path below the folder that a key stands for.
pub(crate) fn path_of(key: &Key) -> PathBuf {
    PathBuf::from(OsString::from_vec(key.as_bytes().to_vec()))
}

/// How a file is remembered.
pub(crate) fn mark(version: Version, reading: Option<Reading>) -> Mark {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend(version.size.to_le_bytes());
    bytes.extend(version.modified.to_le_bytes());
    if let Some(Reading { stat, content }) = reading {
        bytes.extend(stat.inode.to_le_bytes());
        bytes.extend(stat.changed.to_le_bytes());
        bytes.extend(content.0);
    }
    Mark::new(bytes)
}

/// What [`mark`] was made of; `None` where it was made of something else.
pub(crate) fn unmark(mark: &Mark) -> Option<(Version, Option<Reading>)> {
    let (size, rest) = mark.as_bytes().split_first_chunk()?;
    let (modified, rest) = rest.split_first_chunk()?;
    let version = Version { size: u64::from_le_bytes(*size), modified: i64::from_le_bytes(*modified) };
    if rest.is_empty() {
        return Some((version, None));
    }
    let (inode, rest) = rest.split_first_chunk()?;
    let (changed, content) = rest.split_first_chunk()?;
    let stat = Stat { version, inode: u64::from_le_bytes(*inode), changed: i64::from_le_bytes(*changed) };
    Some((version, Some(Reading { stat, content: Content(content.try_into().ok()?) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_agent_could_not_read_is_not_settled_unless_it_was_too_large() {
        let known = |size: u64, content: Content| {
            let version = Version { size, modified: 1 };
            let reading = Some(Reading { stat: Stat { version, inode: 1, changed: 1 }, content });
            Known { relative: "a.png".into(), version, reading }
        };
        assert!(!known(10, Content::PERHAPS_UNREAD).is_settled());
        assert!(known(FILE_LIMIT + 1, Content::PERHAPS_UNREAD).is_settled());
        assert!(known(10, Content::UNREAD).is_settled() && known(10, Content([7; 32])).is_settled());
    }

    #[test]
    fn a_mark_says_what_it_was_made_of_and_no_other_bytes_do() {
        let version = Version { size: 10, modified: -20 };
        let stat = Stat { version, inode: 3, changed: i64::MAX };
        for reading in [None, Some(Reading { stat, content: Content([7; 32]) })] {
            let mark = mark(version, reading);
            assert_eq!(unmark(&mark), Some((version, reading)));
            let bytes = mark.as_bytes();
            assert_eq!(unmark(&Mark::new(&bytes[..bytes.len() - 1])), None);
            assert_eq!(unmark(&Mark::new([bytes, &[0]].concat())), None);
        }
    }
}
