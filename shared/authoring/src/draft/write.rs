//! A bundle written whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use millgate_base::files::{self, PUBLIC};
use millgate_bundle::Bundle;
use millgate_model::manifest::FILE_NAME;

use super::{Draft, DraftError};

/// A bundle that is removed when this is dropped.
#[derive(Debug)]
pub struct Trial {
    bundle: Bundle,
    _folder: Folder,
}

impl Trial {
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
}

/// A folder of ours that goes away unless it was moved.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _is_moved = std::fs::remove_dir_all(&self.0).is_err();
    }
}

pub(super) fn write(draft: &Draft, dir: &Path) -> Result<Bundle, DraftError> {
    let io = |source| DraftError::Io { path: dir.to_path_buf(), source };
    let is_free = || match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(io(error)),
    };
    if !is_free()? {
        return Err(DraftError::Occupied(dir.to_path_buf()));
    }
    let trial = trial(draft, dir)?;
    let folder = &trial._folder.0;
    // Onto an empty folder this succeeds, and onto nothing; onto anything else it fails.
    std::fs::rename(folder, dir).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
            DraftError::Occupied(dir.to_path_buf())
        }
        _ => io(error),
    })?;
    let around = around(dir);
    std::fs::File::open(&around).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(Bundle::open(dir)?)
}

/// Writes a copy beside a place, and opens it.
pub(super) fn trial(draft: &Draft, beside: &Path) -> Result<Trial, DraftError> {
    let around = around(beside);
    let name = beside.file_name().map_or("bundle".into(), |name| name.to_string_lossy());
    std::fs::create_dir_all(&around).map_err(|source| DraftError::Io { path: around.clone(), source })?;
    let folder = new_folder(&around, &name)?;
    let put = |file: &str, content: &[u8]| {
        let path = folder.0.join(file);
        let written = (|| {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            files::write_new(&path, &mut &*content, PUBLIC)
        })();
        written.map_err(|source| DraftError::Io { path: path.clone(), source })
    };
    // Before anything is written: a name in it could lead elsewhere.
    draft.parsed()?;
    for (file, content) in &draft.files {
        put(file, content)?;
    }
    put(FILE_NAME, draft.text().as_bytes())?;
    Ok(Trial { bundle: Bundle::open(&folder.0)?, _folder: folder })
}

fn new_folder(around: &Path, name: &str) -> Result<Folder, DraftError> {
    let mut number = 0;
    loop {
        let path = around.join(format!(".{name}.{}-{number}.new", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(Folder(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(source) => return Err(DraftError::Io { path, source }),
        }
    }
}

fn around(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}
