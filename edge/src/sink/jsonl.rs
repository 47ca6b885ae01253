//! Lines appended to a file that is rotated by size.
//!
//! A batch is written whole or not at all: what a full disk let through of it is cut off again, and so is, when the file
//! is opened, what a kill left of a line. With `sync` it is on the disk before it is acknowledged.
//!
//! What is delivered again after a kill may be there already: when the file is opened, its end and that of the rotated ones
//! are searched for just those records, and they are left out.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use millgate_shared::files;
use millgate_shared::trouble::{self, Fault};

use super::{Key, Record, Told, Write, WriteError};

mod config;
mod tail;
#[cfg(test)]
mod tests;

pub use config::JsonlConfig;

/// The most of what is cut off that is kept aside, in bytes.
const MOST_ASIDE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Jsonl {
    config: JsonlConfig,
    /// Will be delivered again, and are there.
    has: HashSet<Key>,
    /// What that is looked for among, as long as the file could not be opened.
    unsearched: Option<HashSet<Key>>,
    /// What is there besides, and this sink's number.
    told: (Told, usize),
    /// `None` after an error: opened anew by the next write.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Length of its whole lines, bytes.
    len: u64,
    /// Device and inode, to notice that someone else has moved the file away.
    identity: (u64, u64),
}

impl Jsonl {
    /// `undelivered` will be delivered again, and so may be what is `told` of.
    pub(super) fn open(
        config: &JsonlConfig,
        undelivered: &HashSet<Key>,
        told: (Told, usize),
    ) -> io::Result<Self> {
        let mut this = Self {
            config: config.clone(),
            has: HashSet::new(),
            unsearched: Some(undelivered.clone()),
            told,
            open: None,
        };
        match this.opened() {
            Ok(open) => this.open = Some(open),
            // It may pass: records wait for it as they do for any sink.
            Err(error) if matches!(trouble::judge(&error), Fault::Machine(_)) => {
                tracing::error!(file = %config.path.display(), %error, "decisions cannot be written; trying again");
            }
            Err(error) => return Err(error),
        }
        Ok(this)
    }

    /// Opens the file, and looks the first time for what is in it of that which is delivered again.
    fn opened(&mut self) -> io::Result<Open> {
        // First: it cuts off an unfinished line.
        let open = Open::at(&self.config)?;
        if let Some(undelivered) = &self.unsearched {
            self.has = tail::search(&self.config, undelivered)?;
            self.unsearched = None;
        }
        Ok(open)
    }

    fn later(&self, error: &io::Error) -> WriteError {
        WriteError::Later(format!("{}: {error}", self.config.path.display()))
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if open.is_at(&self.config.path) => open,
            _ => self.opened()?,
        };
        let is_over = open.len + text.len() as u64 > self.config.rotate_bytes;
        if self.config.rotate_bytes > 0 && open.len > 0 && is_over {
            rotate(&self.config.path, self.config.keep)?;
            open = Open::at(&self.config)?;
        }
        let written = open.file.write_all(text).and_then(|()| match self.config.sync {
            true => open.file.sync_data(),
            false => Ok(()),
        });
        match written {
            Ok(()) => {
                open.len += text.len() as u64;
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                // Should this fail too, opening the file anew cuts the same.
                let _cut = open.file.set_len(open.len).is_ok();
                Err(error)
            }
        }
    }
}

impl Write for Jsonl {
    const BATCH: usize = 64;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        if self.unsearched.is_some() {
            let opened = self.opened();
            let opened = opened.map_err(|error| self.later(&error))?;
            self.open = Some(opened);
        }
        let (told, at) = &self.told;
        let is_new = |record: &&Record| !self.has.contains(record.key()) && !told.has(*at, record.key());
        let text: Vec<u8> = batch.iter().filter(is_new).flat_map(|record| record.line()).copied().collect();
        if !text.is_empty() {
            let appended = self.append(&text);
            appended.map_err(|error| self.later(&error))?;
        }
        for record in batch {
            self.has.remove(record.key());
        }
        Ok(())
    }
}

impl Open {
    fn at(config: &JsonlConfig) -> io::Result<Self> {
        let path = &config.path;
        let mode = config
            .bits()
            .map_err(|refused| io::Error::new(io::ErrorKind::InvalidInput, refused.to_string()))?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir)?;
        }
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(mode).open(path)?;
        let metadata = file.metadata()?;
        let mut len = metadata.len();
        let bits = metadata.permissions().mode() & 0o777;
        let wanted = if is_new { mode } else { bits & mode };
        if metadata.is_file() && bits != wanted {
            // A file of another user's, which this one may only write to, stays as it is.
            let _as_it_is = file.set_permissions(Permissions::from_mode(wanted)).is_err();
        }
        // A device such as /dev/stderr has no lines to look at.
        if metadata.is_file() {
            let whole = whole_lines(&mut file, len)?;
            if whole < len {
                let aside = keep_aside(path, &mut file, whole, len);
                tracing::warn!(
                    file = %path.display(), bytes = len - whole, ?aside,
                    "cut off a line that was left unfinished; what it was is kept aside"
                );
                file.set_len(whole)?;
                len = whole;
            }
        }
        Ok(Self { file, len, identity: (metadata.dev(), metadata.ino()) })
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

/// Keeps what is about to be cut off where somebody can look at it: it may be more than the beginning of a line.
fn keep_aside(path: &Path, file: &mut File, from: u64, to: u64) -> io::Result<Option<PathBuf>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".cut");
    let cut = PathBuf::from(name);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    (&*file).take((to - from).min(MOST_ASIDE)).read_to_end(&mut bytes)?;
    files::replace(&cut, &bytes, files::PRIVATE)?;
    files::set_aside(&cut)
}

/// Length up to and with the last line feed.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = len;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// `path` becomes `path.1`, that `path.2`, and so on; `path.keep` is overwritten.
fn rotate(path: &Path, keep: usize) -> io::Result<()> {
    if keep == 0 {
        return fs::remove_file(path);
    }
    for at in (1..keep).rev() {
        let from = numbered(path, at);
        if from.try_exists()? {
            fs::rename(from, numbered(path, at + 1))?;
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, at: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{at}"));
    PathBuf::from(name)
}

/// The directory a JSON lines file is in.
fn probe_dir(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
