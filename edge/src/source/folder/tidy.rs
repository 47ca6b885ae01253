//! What becomes of a file that every sink has the record of.

use std::io;
use std::path::{Path, PathBuf};

use millgate_shared::bounded;
use millgate_shared::trouble::{self, Fault, Trouble};

use super::After;
use super::face::{Content, Reading, Stat, Version, path_of, unmark};
use crate::input::{FILE_LIMIT, Naming};
use crate::journal::{Key, Mark};
use crate::source::{Tidied, Tidies};

/// What is to be done with the files of one folder.
#[derive(Debug)]
pub(super) struct Tidier {
    pub(super) root: PathBuf,
    pub(super) after: After,
    pub(super) naming: Naming,
}

impl Tidies for Tidier {
    fn tidy(&self, key: &Key, mark: &Mark, id: &str) -> Tidied {
        let Some((version, reading)) = unmark(mark) else { return Tidied::Kept };
        let file = Decided { relative: path_of(key), version, reading };
        self.carry_out(&file, id).unwrap_or_else(|error| {
            let path = file.relative.display();
            if let Fault::Machine(trouble) = trouble::judge(&error) {
                tracing::debug!(%path, %error, "decided, but cannot be moved away yet");
                return Tidied::Later(trouble);
            }
            tracing::warn!(%path, %error, "decided, but cannot be moved away; it stays");
            Tidied::Kept
        })
    }
}

/// A file as it was decided.
struct Decided {
    /// Below the folder.
    relative: PathBuf,
    version: Version,
    /// `None`: it was set aside unread.
    reading: Option<Reading>,
}

impl Tidier {
    /// Deletes or moves a file and those beside it.
    fn carry_out(&self, file: &Decided, id: &str) -> io::Result<Tidied> {
        let Self { root, after, naming } = self;
        let path = root.join(&file.relative);
        match Stat::of(&path) {
            Ok(stat) if is_decided(&path, stat, file)? => {}
            Ok(_) => return Ok(Tidied::Changed),
            // Tidied before a kill, or taken away by someone: or its folder is away. It is remembered, should it come back.
            Err(error) if trouble::judge(&error) == Fault::Absent => {
                let is_away = !path.parent().unwrap_or(root).try_exists()?;
                return Ok(if is_away { Tidied::Later(Trouble::Other) } else { Tidied::Kept });
            }
            Err(error) => return Err(error),
        }
        // They go first, so that a second try finds the file and what is left of them.
        let mut beside = Vec::new();
        for (_, path) in naming.beside(&path) {
            match path.metadata() {
                Ok(found) if found.is_file() => beside.push(path),
                Ok(_) => {}
                Err(error) if trouble::judge(&error) == Fault::Absent => {}
                Err(error) => return Err(error),
            }
        }
        let mut beside = beside.into_iter();
        match after {
            After::Keep => {}
            After::Delete => {
                beside.try_for_each(std::fs::remove_file)?;
                std::fs::remove_file(&path)?;
            }
            After::Move(dir) => {
                beside.try_for_each(|path| move_into(dir, root, &path, id))?;
                move_into(dir, root, &path, id)?;
            }
        }
        Ok(Tidied::Removed)
    }
}

/// Is it what was decided? Another picture can have the same size and time; then its content tells.
fn is_decided(path: &Path, stat: Stat, file: &Decided) -> io::Result<bool> {
    match file.reading {
        _ if stat.version != file.version => Ok(false),
        Some(reading) if stat != reading.stat && reading.content != Content::UNREAD => {
            Ok(Content::of(&bounded::read(path, FILE_LIMIT)?) == reading.content)
        }
        _ => Ok(true),
    }
}

/// Keeps the path below `root`. A name that is taken gets the decision's id, so that nothing is overwritten.
fn move_into(dir: &Path, root: &Path, path: &Path, id: &str) -> io::Result<()> {
    let mut to = dir.join(path.strip_prefix(root).unwrap_or(path));
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if to.try_exists()? {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        to.set_file_name(format!("{id}.{name}"));
    }
    std::fs::rename(path, &to)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::input::naming::tests::factory;

    #[test]
    fn what_is_away_is_not_taken_for_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (root, after, naming) = (dir.path().to_path_buf(), After::Delete, factory());
        std::fs::create_dir(root.join("sub")).unwrap();
        let path = root.join("sub/a.bmp");
        std::fs::write(&path, b"a").unwrap();
        std::fs::write(root.join("sub/a.template.bmp"), b"b").unwrap();
        let reading = Reading { stat: Stat::of(&path).unwrap(), content: Content::of(b"a") };
        let file =
            Decided { relative: "sub/a.bmp".into(), version: reading.stat.version, reading: Some(reading) };
        let tidier = Tidier { root: root.clone(), after, naming };
        let tidy = || tidier.carry_out(&file, "id").unwrap();
        std::fs::rename(root.join("sub"), root.join("away")).unwrap();
        assert!(matches!(tidy(), Tidied::Later(_)));
        std::fs::rename(root.join("away"), root.join("sub")).unwrap();
        assert_eq!(tidy(), Tidied::Removed);
        assert_eq!(std::fs::read_dir(root.join("sub")).unwrap().count(), 0);
        assert_eq!(tidy(), Tidied::Kept, "somebody has taken it away; it is remembered, should it come back");
    }

    #[test]
    fn another_picture_of_the_same_face_is_not_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bmp");
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let write = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            Stat::of(&path).unwrap()
        };
        let reading = Reading { stat: write(b"first"), content: Content::of(b"first") };
        let version = reading.stat.version;
        let file = Decided { relative: "a.bmp".into(), version, reading: Some(reading) };
        assert_eq!(write(b"other").version, version);
        let (root, after, naming) = (dir.path().to_path_buf(), After::Delete, factory());
        let tidier = Tidier { root, after, naming };
        let tidy = || tidier.carry_out(&file, "id").unwrap();
        // The file system's clock may have stood still between the two; it never does for one who reads.
        if Stat::of(&path).unwrap() != reading.stat {
            assert_eq!(tidy(), Tidied::Changed);
        }
        // What was decided is deleted, also with other permissions.
        let stat = write(b"first");
        assert!(stat == reading.stat || stat.changed != reading.stat.changed);
        assert_eq!(tidy(), Tidied::Removed);
        assert!(!path.exists());
    }
}
