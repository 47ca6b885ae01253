//! Reading a file: its bytes, what it is known by, and whether it is all there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use millgate_shared::trouble::{self, Fault, Trouble};
use rustix::fs::{SeekFrom, seek};

use super::core::Ready;
use super::face::{Content, Reading, Stat, mark};
use crate::input::{Input, InputError, Naming};
use crate::journal::Key;
use crate::record::Undecided;
use crate::source::decision_id::decision_id;
use crate::source::{Outcome, Read, Reads, Unread};

/// Zeros at the end of a file that nobody was seen closing: so many are taken for bytes that are still to come: no format
/// but an uncompressed one ends so, and that one only where the picture is black there.
const TAIL: usize = 512;
/// Blocks of zeros in the middle of such a file, likewise.
const BLOCK: usize = 4096;

/// Reads one file of a folder.
pub(super) struct Reader {
    pub(super) source: Arc<str>,
    /// Where it can be opened.
    pub(super) path: PathBuf,
    pub(super) ready: Ready,
    pub(super) naming: Naming,
    /// Filled in once it has been read.
    pub(super) reading: Arc<OnceLock<Reading>>,
    /// More of it may come: what is wrong with it may be put right.
    pub(super) may_change: bool,
    pub(super) is_blank: bool,
}

impl Reader {
    pub(super) fn new(source: &Arc<str>, path: PathBuf, ready: Ready, naming: Naming) -> Self {
        let (source, reading) = (Arc::clone(source), Arc::default());
        Self { source, path, ready, naming, reading, may_change: false, is_blank: false }
    }

    fn note(&self, reading: Reading) {
        // Read once, so that it is empty.
        let _first = self.reading.set(reading).is_ok();
    }

    fn id(&self, reading: Option<&Reading>) -> String {
        let (key, version) = (Key::from(&*self.ready.path), self.ready.version);
        let changed = reading.map(|reading| reading.stat.changed.to_le_bytes());
        // When anything about it was changed counts too: the first picture may come again behind the second, with the same
        // size and time.
        let content: &[&[u8]] = match (reading, &changed) {
            (Some(reading), Some(changed)) => &[&reading.content.0, changed],
            _ => &[],
        };
        decision_id(&self.source, &key, &version.face(), content, version.born())
    }
}

impl Reads for Reader {
    fn read(&mut self) -> Result<Read, Unread> {
        let Found { input, content, stat, is_unwritten } =
            find(&self.path, &self.source, &self.ready, &self.naming).map_err(Unread::Not)?;
        let reading = Reading { stat, content };
        if let Some(again) = self.ready.decided
            && (again.content == content || input.is_err())
        {
            // One that is refused unread may be what it was.
            self.note(Reading { stat, content: again.content });
            return Err(Unread::Not(Outcome::Same));
        }
        self.note(reading);
        self.may_change =
            !self.ready.is_last_chance || self.ready.unfinished.is_some_and(|before| before != content);
        let mark = mark(self.ready.version, Some(reading));
        match input {
            Ok(_) if is_unwritten && self.may_change => {
                tracing::debug!(path = %self.path.display(), "looks as if it were still being written");
                Err(Unread::Not(Outcome::Incomplete))
            }
            Ok(input) => {
                self.is_blank = is_blank(&input);
                Ok(Read { input: Input { id: self.id(Some(&reading)), ..input }, mark })
            }
            Err(error) if self.may_heal(error.code()) => Err(Unread::Not(Outcome::Incomplete)),
            Err(error) => {
                let why = Undecided::of_input(&self.path, &error);
                Err(Unread::Never { id: self.id(None), mark, why })
            }
        }
    }

    fn may_heal(&self, code: &str) -> bool {
        (may_be_incomplete(code) || self.is_blank) && self.may_change
    }
}

/// A file's bytes, of the version that was taken.
struct Found {
    input: Result<Input, InputError>,
    content: Content,
    stat: Stat,
    /// Parts of it were never written, by the look of it.
    is_unwritten: bool,
}

fn find(path: &Path, source: &str, ready: &Ready, naming: &Naming) -> Result<Found, Outcome> {
    let version = ready.version;
    let mut before: Option<Content> = None;
    loop {
        let began = Stat::of(path).map_err(|error| unseen(path, &error))?;
        let input = Input::from_file(path, naming, &[], Some(source));
        // The file itself, and then those beside it.
        if let Err(error) = &input {
            match error.fault() {
                Fault::Machine(trouble) => return Err(delayed(path, trouble, error)),
                Fault::Absent => return Err(Outcome::Changed),
                Fault::Itself => {}
            }
        }
        let parts = input.as_ref().map_or(&[][..], |input| &input.parts);
        let content = parts.first().map_or(Content::UNREAD, |part| Content::of(&part.bytes));
        let is_gap = !ready.is_closed && parts.iter().any(|part| has_gap(&part.bytes));
        let has_hole = has_hole(path, version.size).map_err(|error| unseen(path, &error))?;
        let is_unwritten = is_gap || has_hole;
        let stat = Stat::of(path).map_err(|error| unseen(path, &error))?;
        // Changed under the reading, or gone.
        if stat.version != version || began.version != version {
            return Err(Outcome::Changed);
        }
        // Somebody may only have set its permissions.
        if stat.changed == began.changed || before == Some(content) {
            return Ok(Found { input, content, stat, is_unwritten });
        }
        if before.replace(content).is_some() {
            return Err(Outcome::Changed);
        }
    }
}

/// What follows where a file could not be looked at: it is gone, or the machine is in trouble.
fn unseen(path: &Path, error: &std::io::Error) -> Outcome {
    match trouble::judge(error) {
        Fault::Machine(trouble) => delayed(path, trouble, error),
        Fault::Absent | Fault::Itself => Outcome::Changed,
    }
}

/// What the machine did not let be read is tried again; whoever counts how often tells people.
fn delayed(path: &Path, trouble: Trouble, error: &dyn std::fmt::Display) -> Outcome {
    tracing::debug!(path = %path.display(), trouble = trouble.name(), %error, "cannot be read at the moment");
    Outcome::Delayed(trouble)
}

/// Errors that a file still being written can show.
fn may_be_incomplete(code: &str) -> bool {
    matches!(code, "truncated" | "empty_file" | "corrupt" | "unreadable")
}

/// A picture begins with what it is. A file that begins with zeros was given its size and not yet its bytes, or is none.
fn is_blank(input: &Input) -> bool {
    const HEAD: usize = 16;
    let mut heads = input.parts.iter().filter_map(|part| part.bytes.get(..HEAD));
    heads.any(|head| head.iter().all(|byte| *byte == 0))
}

/// Bytes that are zero where no whole picture has them.
fn has_gap(bytes: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    bytes.len() >= TAIL && is_zero(&bytes[bytes.len() - TAIL..]) || bytes.chunks_exact(BLOCK).any(is_zero)
}

/// The file system knows of bytes that were never written. An error only if the file cannot be opened.
fn has_hole(path: &Path, size: u64) -> std::io::Result<bool> {
    let file = File::open(path)?;
    // Not every file system can tell.
    Ok(seek(&file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < size))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_never_written_is_seen() {
        assert!(!has_gap(&[0; TAIL - 1]) && has_gap(&[0; TAIL]));
        let mut bytes = vec![7; 3 * BLOCK];
        assert!(!has_gap(&bytes));
        bytes[BLOCK..2 * BLOCK].fill(0);
        assert!(has_gap(&bytes));
        // Some black pixels at the end are no gap.
        let mut bytes = vec![7; 3 * BLOCK];
        let end = bytes.len() - 100;
        bytes[end..].fill(0);
        assert!(!has_gap(&bytes));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bmp");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(has_hole(&path, 1 << 20).unwrap());
        file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        assert!(!has_hole(&path, 1 << 20).unwrap(), "written zeros are no hole");
    }
}
