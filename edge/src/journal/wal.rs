//! The journal's second copy: a file of lines that every commit is appended to before the database has it.
//!
//! ```text
//! <CRC-32 of what follows the blank, 8 digits> <what> <number of the commit> <JSON>
//! f 0 1                   the format
//! s 41 [changes]          a copy of the database as it was after commit 41, in several lines
//! e 41 null               … and its end
//! c 42 [changes]          a commit, one line each
//! ```
//!
//! It is never synced for the sake of a commit: what the system has been given survives the death of the process, and a
//! power cut takes nothing of it that the database does not have. So either of the two can be made anew from the other,
//! whatever happens to one of them. It is written anew, as a copy and its end, before it outgrows the database by far.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use millgate_shared::files;

use super::change::Change;

mod line;
#[cfg(test)]
mod tests;

use line::{Line, What};

/// The file's name in the state directory.
pub(super) const FILE_NAME: &str = "decided.wal";
/// The format of its lines.
const FORMAT: u64 = 1;
/// The file may grow to twice its length as a copy, and by this much more, in bytes.
const SLACK: u64 = 4 << 20;
/// A longer line is none of ours, in bytes: a commit has 256 records at most.
const LONGEST: u64 = 64 << 20;

/// What a look at the file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The commit that its copy was made after; `None`: it has no whole copy, so that nothing can be made from it alone.
    pub(super) copied: Option<u64>,
    /// The last commit in it.
    pub(super) last: u64,
    /// Lines that cannot be read, and commits that are missing between two others.
    pub(super) lost: u64,
    /// Length of its whole lines, and of its copy among them, in bytes.
    pub(super) len: u64,
    copy_len: u64,
}

impl Found {
    /// Whether all that was ever appended behind the copy is there.
    pub(super) fn is_whole(&self) -> bool {
        self.copied.is_some() && self.lost == 0
    }
}

/// The file, open for more. It is locked: no other agent writes to it.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    len: u64,
    copy_len: u64,
    /// Appended since it was last synced.
    is_unsynced: bool,
}

impl Wal {
    /// Opens it behind its whole lines, which `found` tells of. An error of kind `WouldBlock`: another agent has it.
    pub(super) fn open(dir: &Path, found: &Found) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let file = OpenOptions::new().append(true).open(&path)?;
        lock(&file)?;
        if file.metadata()?.len() > found.len {
            file.set_len(found.len)?;
        }
        Self::new(path, file, found.len, found.copy_len)
    }

    fn new(path: PathBuf, file: File, len: u64, copy_len: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path, file, identity, len, copy_len, is_unsynced: false })
    }

    /// Writes it anew: `copy` hands over all that stands in the journal after commit `number`. It is there whole when this
    /// returns, or as it was before.
    pub(super) fn rewrite(
        dir: &Path,
        number: u64,
        copy: impl FnOnce(&mut dyn FnMut(&Change) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let beside = dir.join(format!("{FILE_NAME}.new"));
        let written = (|| {
            remove(&beside)?;
            let file = OpenOptions::new().append(true).create_new(true).mode(files::PRIVATE).open(&beside)?;
            lock(&file)?;
            let mut out = BufWriter::new(&file);
            out.write_all(&line::write(What::Format, FORMAT, &())?)?;
            copy(&mut |change| out.write_all(&line::write(What::Copied, number, &[change])?))?;
            out.write_all(&line::write(What::End, number, &())?)?;
            out.flush()?;
            drop(out);
            // Not for a commit's sake: a power cut must not leave a name without its bytes in place of a good one.
            file.sync_data()?;
            std::fs::rename(&beside, &path)?;
            let len = file.metadata()?.len();
            Self::new(path, file, len, len)
        })();
        if written.is_err() {
            let _nothing_left = remove(&beside).is_ok();
        }
        written
    }

    /// Appends a commit; all of it is there when this returns, or nothing of it.
    pub(super) fn append(&mut self, number: u64, changes: &[&Change]) -> io::Result<()> {
        let line = line::write(What::Commit, number, &changes)?;
        match self.file.write_all(&line) {
            Ok(()) => {
                self.len += line.len() as u64;
                self.is_unsynced = true;
                Ok(())
            }
            Err(error) => {
                // What cannot be cut off is an unfinished line, which a reader leaves out.
                let _cut = self.file.set_len(self.len).is_ok();
                Err(error)
            }
        }
    }

    /// What was appended is on the disk when this returns.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_unsynced) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Takes back what was appended last: from `len` on.
    pub(super) fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        Ok(())
    }

    /// Length of its lines, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is due to be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.len > self.copy_len * 2 + SLACK
    }

    /// Whether the file at its path is still the one that is open.
    pub(super) fn is_there(&self) -> bool {
        is_at(&self.path, self.identity)
    }
}

/// Whether another agent writes to the log of a state directory: it may have no database at the moment.
pub(super) fn is_in_use(dir: &Path) -> bool {
    let file = File::open(dir.join(FILE_NAME));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether the file at a path is the one of this device and inode.
pub(super) fn is_at(path: &Path, identity: (u64, u64)) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        // A file system without locks; the database has one of its own.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Looks at the file; `None` if there is none. `each` gets the changes of the copy with `None`, and those of each commit with
/// its number, in the order of the file; it is asked first whether it wants those of a commit, or of the copy. What cannot be
/// read is left out and counted.
pub(super) fn read(
    dir: &Path,
    wants: impl Fn(Option<u64>) -> bool,
    mut each: impl FnMut(Option<u64>, Vec<Change>) -> io::Result<()>,
) -> io::Result<Option<Found>> {
    let file = match File::open(dir.join(FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut found = Found::default();
    let (mut text, mut is_first, mut is_copy_good) = (Vec::new(), true, true);
    loop {
        text.clear();
        let len = (&mut reader).take(LONGEST).read_until(b'\n', &mut text)? as u64;
        if len == 0 {
            return Ok(Some(found));
        }
        let whole = text.strip_suffix(b"\n");
        let Some(Line { what, number, json }) = whole.and_then(line::read) else {
            // The last one, without its end, was never a commit.
            if whole.is_some() || len == LONGEST {
                found.lost += 1;
                found.len += len;
                is_copy_good &= found.copied.is_some();
            }
            continue;
        };
        found.len += len;
        if std::mem::take(&mut is_first) != (what == What::Format) || what == What::Format && number != FORMAT
        {
            found.lost += 1;
            is_copy_good = false;
            continue;
        }
        match what {
            What::Format => {}
            What::Copied if found.copied.is_none() => {
                if wants(None) {
                    match line::changes(json) {
                        Some(changes) => each(None, changes)?,
                        None => (found.lost, is_copy_good) = (found.lost + 1, false),
                    }
                }
            }
            What::End if found.copied.is_none() && is_copy_good => {
                (found.copied, found.last, found.copy_len) = (Some(number), number, found.len);
            }
            What::Copied | What::End => found.lost += 1,
            What::Commit => {
                // Also where the copy before is not whole: what there is is better than nothing.
                if found.last > 0 || found.copied.is_some() {
                    found.lost += number.saturating_sub(found.last + 1);
                }
                found.last = found.last.max(number);
                if wants(Some(number)) {
                    match line::changes(json) {
                        Some(changes) => each(Some(number), changes)?,
                        None => found.lost += 1,
                    }
                }
            }
        }
    }
}
