//! Small files that must never be half there, and noticing that they have changed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Anyone may read it.
pub const PUBLIC: u32 = 0o644;
/// Only its owner may.
pub const PRIVATE: u32 = 0o600;

/// Writes a file so that, whatever happens meanwhile, there is the old one or the new one; with these permissions from
/// the first byte on. Makes the folders that it lies in.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = folder.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        // One that was left behind, or a wide umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _nothing_left = std::fs::remove_file(&beside).is_ok();
    }
    written
}

/// Who besides its owner may read a file, as its permission bits; 0: nobody.
pub fn readable_by_others(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.permissions().mode() & 0o077)
}

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also tells of permissions that were set right.
    changed: (i64, i64),
}

/// Files that someone may exchange while we run.
#[derive(Debug)]
pub struct Watched {
    files: Vec<(PathBuf, Option<Version>)>,
}

impl Watched {
    /// From the files as they are now.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().map(|path| (path.clone(), version(&path))).collect() }
    }

    /// Has any of them changed since it was last asked? Links are followed.
    pub fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = version(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = path.metadata().ok()?;
    Some(Version {
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_private_and_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/device.key");
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.have_changed());
        replace(&path, b"one", PRIVATE).unwrap();
        assert_eq!(readable_by_others(&path).unwrap(), 0);
        assert!(watched.have_changed() && !watched.have_changed());
        replace(&path, b"two", PUBLIC).unwrap();
        assert!(watched.have_changed());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_ne!(readable_by_others(&path).unwrap(), 0);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
    }
}
