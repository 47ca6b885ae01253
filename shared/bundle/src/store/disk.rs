//! The file system under the store, as little of it as changes something, so that tests can stop it anywhere.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::MAX_BYTES;
use millgate_base::{bounded, files};

/// Changes of a file system. What a method has written is on the disk when it returns; the names of files and folders
/// are once [`Disk::sync_names`] has returned.
pub trait Disk: Debug {
    /// Makes a folder, and those that it lies in; one that is there is left as it is.
    fn make_folder(&mut self, path: &Path) -> io::Result<()>;
    /// Copies a file; there must be none at `to`.
    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Writes a file; there must be none at `path`.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_names(&mut self, folder: &Path) -> io::Result<()>;
    /// Removes a file, or a folder with all that is in it.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk;

impl Disk for OnDisk {
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        files::make_private_folder(path)
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = File::open(from)?;
        let size = bounded::size_of(&file, MAX_BYTES)?;
        files::write_new(to, &mut file.take(size), files::PRIVATE)
    }

    fn write(&mut self, path: &Path, mut bytes: &[u8]) -> io::Result<()> {
        files::write_new(path, &mut bytes, files::PRIVATE)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_names(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if path.symlink_metadata()?.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        }
    }
}
