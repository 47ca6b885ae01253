//! Lines appended to a file that is rotated by size.
//!
//! A batch is written whole or not at all: what a full disk let through of it is cut off again, and so is, when the file
//! is opened, what a kill left of a line. With `sync` it is on the disk before it is acknowledged.
//!
//! What is delivered again after a kill may be there already: when the file is opened, its end and that of the rotated ones
//! are searched for just those records, and they are left out.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Key, Record, Told, Write, WriteError};

mod config;
mod tail;
#[cfg(test)]
mod tests;

pub use config::JsonlConfig;

#[derive(Debug)]
pub(super) struct Jsonl {
    config: JsonlConfig,
    /// Will be delivered again, and are there.
    has: HashSet<Key>,
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
        // First: it cuts off an unfinished line.
        let open = Some(Open::at(&config.path)?);
        Ok(Self { open, has: tail::search(config, undelivered)?, told, config: config.clone() })
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if open.is_at(&self.config.path) => open,
            _ => Open::at(&self.config.path)?,
        };
        let is_over = open.len + text.len() as u64 > self.config.rotate_bytes;
        if self.config.rotate_bytes > 0 && open.len > 0 && is_over {
            rotate(&self.config.path, self.config.keep)?;
            open = Open::at(&self.config.path)?;
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
        let (told, at) = &self.told;
        let is_new = |record: &&Record| !self.has.contains(record.key()) && !told.has(*at, record.key());
        let text: Vec<u8> = batch.iter().filter(is_new).flat_map(|record| record.line()).copied().collect();
        if !text.is_empty() {
            self.append(&text)
                .map_err(|error| WriteError::Later(format!("{}: {error}", self.config.path.display())))?;
        }
        for record in batch {
            self.has.remove(record.key());
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        let mut len = metadata.len();
        // A device such as /dev/stderr has no lines to look at.
        if metadata.is_file() {
            let whole = whole_lines(&mut file, len)?;
            if whole < len {
                tracing::warn!(file = %path.display(), bytes = len - whole, "cut off a line that was left unfinished");
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
        if from.exists() {
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
