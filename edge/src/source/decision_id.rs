//! The decision id of a file's version and content.
//!
//! It is derived, not drawn: when the agent was killed before a decision was committed to the journal, the file is decided
//! again, and an entry of the spool that was written before is known to be the same one's. It has the form of a UUIDv7, with
//! the file's time of change as its time.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::journal::{Reading, Version};

/// `relative` is the path below the source's folder. Without a reading: of a file that was not read. When anything about it
/// was changed counts too: the first picture may come again behind the second, with the same size and time.
pub fn decision_id(source: &str, relative: &Path, version: Version, reading: Option<&Reading>) -> String {
    let mut hasher = Sha256::new();
    // A length before each part, so that no two files give the same bytes.
    for part in [source.as_bytes(), relative.as_os_str().as_bytes()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(version.size.to_le_bytes());
    hasher.update(version.modified.to_le_bytes());
    if let Some(Reading { stat, content }) = reading {
        hasher.update(content.0);
        hasher.update(stat.changed.to_le_bytes());
    }
    let digest = hasher.finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let millis = u64::try_from(version.modified / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Content, Stat};

    #[test]
    fn the_same_version_has_the_same_id_and_no_other_has() {
        let version = Version { size: 10, modified: 1_700_000_000_123_456_789 };
        let stat = Stat { version, inode: 1, changed: 2 };
        let reading = Reading { stat, content: Content::of(b"a") };
        let of = |reading: &Reading| decision_id("cam1", Path::new("a.png"), version, Some(reading));
        let id = of(&reading);
        assert_eq!(id, of(&reading));
        // Some shares make that up anew.
        assert_eq!(id, of(&Reading { stat: Stat { inode: 7, ..stat }, ..reading }));
        assert_eq!(id.as_bytes()[14], b'7');
        assert!(id.starts_with("018bcfe5-687b"), "{id}");
        let read = Some(&reading);
        let others = [
            decision_id("cam2", Path::new("a.png"), version, read),
            decision_id("cam1a", Path::new(".png"), version, read),
            decision_id("cam1", Path::new("a.png"), Version { size: 11, ..version }, read),
            decision_id(
                "cam1",
                Path::new("a.png"),
                Version { modified: version.modified + 1, ..version },
                read,
            ),
            decision_id("cam1", Path::new("a.png"), version, None),
            of(&Reading { content: Content::of(b"b"), ..reading }),
            of(&Reading { stat: Stat { changed: 3, ..stat }, ..reading }),
        ];
        assert!(!others.contains(&id));
    }
}
