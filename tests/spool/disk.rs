//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of eight megabytes.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this may not mount.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_path_buf()));
        }
        None
    }

    pub(crate) fn fill(&self, file: &Path) {
        let mut file = std::fs::File::create(file).unwrap();
        let block = [7; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the agent may still have its files open.
        let _left = Command::new("umount").arg("-l").arg(&self.0).status().is_err();
    }
}
