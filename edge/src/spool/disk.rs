//! The file system under the spool, as little of it as the spool needs, so that tests can put a faulty one in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use millgate_shared::files;

/// One directory of segments, by name, and what was set aside of them.
pub(crate) trait Disk: Send + 'static {
    /// Whether nothing of what lies there can be known at the moment: [`Disk::list`] gives nothing then.
    fn is_blind(&self) -> bool {
        false
    }
    /// Names and lengths.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// All of `bytes`, or an error; what it wrote of them then is cut off by the caller.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// What was appended is on the disk when this returns.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// New and removed names are on the disk when this returns.
    fn sync_names(&mut self) -> io::Result<()>;
    /// `len` bytes from `at`; fewer is an error.
    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>>;
    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()>;
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Keeps damaged bytes for someone to look at; false if they have been set aside before.
    fn set_aside(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool>;
    /// Pieces set aside, and their bytes.
    fn aside(&mut self) -> io::Result<(u64, u64)>;
}

/// What has been set aside lies here.
pub(crate) const ASIDE: &str = "quarantine";
/// More than this is not kept, only counted, bytes.
const ASIDE_LIMIT: u64 = 64 << 20;

/// A directory of the real one.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    /// The file that was appended to last.
    open: Option<(String, File)>,
    is_blind: bool,
}

impl Dir {
    /// Opens or makes it. What is no directory is set aside; where the machine does not let it be listed it is gone on with all
    /// the same, and what lies in it is left alone.
    pub(crate) fn open(path: PathBuf) -> Self {
        let make = || {
            files::make_private_folder(&path.join(ASIDE))?;
            // What lies here is samples; of another user's files that user may let others read them.
            let _as_they_are = files::narrow_all(&path).is_err();
            fs::read_dir(&path).map(drop)
        };
        let made = make().or_else(|error| {
            let is_in_the_way = path.symlink_metadata().is_ok_and(|found| !found.is_dir());
            if !is_in_the_way {
                return Err(error);
            }
            let aside = files::set_aside(&path)?;
            tracing::error!(path = %path.display(), ?aside, %error, "the spool is no folder; it is set aside and begun anew");
            make()
        });
        if let Err(error) = &made {
            tracing::error!(
                path = %path.display(), %error,
                "the spool cannot be read; what lies in it is not amended before a start that can read it"
            );
        }
        let is_blind = made.is_err();
        Self { path, open: None, is_blind }
    }

    /// One that is only read: nothing is made.
    pub(crate) fn existing(path: PathBuf) -> Self {
        Self { path, open: None, is_blind: false }
    }

    fn appended(&mut self, name: &str) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            if self.is_blind {
                files::make_private_folder(&self.path.join(ASIDE))?;
            }
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(files::PRIVATE)
                .open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::Error::other("is not open"))
    }
}

impl Disk for Dir {
    fn is_blind(&self) -> bool {
        self.is_blind
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        if self.is_blind {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                found.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        Ok(found)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.appended(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.appended(name)?.sync_data()
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.path.join(name))?.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.appended(name)?.set_len(len)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| open == name) {
            self.open = None;
        }
        fs::remove_file(self.path.join(name))
    }

    fn set_aside(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path.join(ASIDE).join(name);
        if path.exists() {
            return Ok(false);
        }
        let (_, kept) = self.aside()?;
        let kept = if kept + bytes.len() as u64 > ASIDE_LIMIT { &[] } else { bytes };
        files::replace(&path, kept, files::PRIVATE)?;
        Ok(true)
    }

    fn aside(&mut self) -> io::Result<(u64, u64)> {
        let (mut count, mut bytes) = (0, 0);
        let entries = match fs::read_dir(self.path.join(ASIDE)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
            Err(error) => return Err(error),
        };
        for entry in entries {
            count += 1;
            bytes += entry?.metadata()?.len();
        }
        Ok((count, bytes))
    }
}
