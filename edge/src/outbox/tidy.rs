//! What becomes of a file that every sink has the record of.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{After, EdgeConfig, SourceConfig};
use crate::input::template_path;
use crate::source::Version;
use crate::source::journal::FileVersion;

/// By source: its folder, and what is to be done.
#[derive(Debug)]
pub(crate) struct Tidy(HashMap<String, (PathBuf, After)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tidied {
    /// It stays, and is remembered.
    Kept,
    Removed,
    /// It is not the version that was decided any more.
    Changed,
}

impl Tidy {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let after = |source: &SourceConfig| match source {
            SourceConfig::Folder(folder) => {
                (folder.name.clone(), (folder.path.clone(), folder.after.clone()))
            }
        };
        Self(config.sources.iter().map(after).collect())
    }

    /// `id` is the decision's.
    pub(super) async fn tidy(&self, file: &FileVersion, id: &str) -> Tidied {
        let (root, after) = match self.0.get(&*file.source) {
            None | Some((_, After::Keep)) => return Tidied::Kept,
            Some((root, after)) => (root.clone(), after.clone()),
        };
        let (file, id) = (file.clone(), id.to_owned());
        let path = file.relative.clone();
        let work = tokio::task::spawn_blocking(move || carry_out(&root, &after, &file, &id));
        match work.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(tidied) => tidied,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "decided, but cannot be moved away; it stays");
                Tidied::Kept
            }
        }
    }
}

/// Deletes or moves a file and its template.
fn carry_out(root: &Path, after: &After, file: &FileVersion, id: &str) -> io::Result<Tidied> {
    let path = root.join(&file.relative);
    match Version::of(&path) {
        Ok(version) if version == file.version => {}
        Ok(_) => return Ok(Tidied::Changed),
        // Tidied before a kill, or taken away by someone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tidied::Removed),
        Err(error) => return Err(error),
    }
    let template = template_path(&path).filter(|template| template.is_file());
    match after {
        After::Keep => {}
        After::Delete => {
            std::fs::remove_file(&path)?;
            template.map(std::fs::remove_file).transpose()?;
        }
        After::Move(dir) => {
            move_into(dir, root, &path, id)?;
            template.map(|template| move_into(dir, root, &template, id)).transpose()?;
        }
    }
    Ok(Tidied::Removed)
}

/// Keeps the path below `root`. A name that is taken gets the decision's id, so that nothing is overwritten.
fn move_into(dir: &Path, root: &Path, path: &Path, id: &str) -> io::Result<()> {
    let mut to = dir.join(path.strip_prefix(root).unwrap_or(path));
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if to.exists() {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        to.set_file_name(format!("{id}.{name}"));
    }
    std::fs::rename(path, &to)
}
