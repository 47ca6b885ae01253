//! A disk that is soon full.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, which can be full. Needs root.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
}

impl Volume {
    /// `None` where this may not mount.
    pub fn mount(path: &Path, size: u64) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "millgate-test"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self { path: path.to_path_buf() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// To the last byte, as far as the system tells.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        for len in [1 << 20, 4096, 1] {
            let zeros = vec![0; len];
            loop {
                match file.write(&zeros) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    pub fn empty(&self) -> io::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.path).output().is_err();
    }
}
