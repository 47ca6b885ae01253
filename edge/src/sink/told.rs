//! What the sinks' own files say of earlier runs: which records were delivered, where the journal does not know.
//!
//! An id is derived from a sample, so that a sample that comes again is known by its id to have been decided, and its record can be
//! delivered again byte for byte to the sinks that may not have it. Those whose files can be looked at leave it out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Key, Record, SinkConfig};

/// How much of each sink's files is read, from their ends, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What a run that was killed may have delivered and not remembered: some thousand records.
    Tail,
    /// As much as ids are held of in a bounded memory.
    All,
}

impl Depth {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Tail => 8 << 20,
            Self::All => 1 << 30,
        }
    }
}

/// Ids that are held at most; of more, those of the youngest records.
const MOST: usize = 500_000;

/// Records that were delivered. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ids: HashMap<u128, Entry>,
    /// The files that were read, by the number that entries give.
    files: Vec<PathBuf>,
    /// Whether not every record could be held, or not every file be read.
    is_partial: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its first record lies: the file's number, the offset, and the length with the line feed. A length of 0: nowhere.
    file: u16,
    at: u64,
    len: u32,
    version: u32,
    is_amended: bool,
    /// The sinks, by their number in the configuration, that have the first record, as bits; those behind the eighth are not told
    /// apart.
    first: u8,
    /// Those that have the amended one.
    amended: u8,
}

/// What is known of a sample that comes again.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// The first record went out; this is it.
    Once(Record),
    /// The first record went out and was amended, or cannot be read any more.
    Settled,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Option<std::borrow::Cow<'a, str>>,
    /// Errors have none.
    version: Option<u32>,
}

/// Reads one line: its id and version.
pub(super) fn key_of(line: &[u8]) -> Option<(String, u32)> {
    let Line { id, version } = serde_json::from_slice(line).ok()?;
    Some((id?.into_owned(), version.unwrap_or(0)))
}

/// Takes what one sink's files hold.
#[derive(Debug)]
pub(crate) struct Collecting<'a> {
    inner: &'a mut Inner,
    sink: u8,
    file: u16,
}

impl Collecting<'_> {
    /// Begins with another file of the sink.
    pub(super) fn file(&mut self, path: &Path) {
        self.file = u16::try_from(self.inner.files.len()).unwrap_or(u16::MAX);
        self.inner.files.push(path.to_path_buf());
    }

    /// Takes a line that lies at an offset, with its line feed.
    pub(super) fn line(&mut self, at: u64, line: &[u8]) {
        let Some((id, version)) = key_of(line) else { return };
        let Some(id) = number(&id) else { return };
        if self.inner.ids.len() >= MOST && !self.inner.ids.contains_key(&id) {
            self.inner.is_partial = true;
            return;
        }
        let entry = self.inner.ids.entry(id).or_insert(Entry {
            file: 0,
            at: 0,
            len: 0,
            version: 0,
            is_amended: false,
            first: 0,
            amended: 0,
        });
        if version > 1 {
            entry.is_amended = true;
            entry.amended |= self.sink;
            return;
        }
        entry.first |= self.sink;
        if entry.len == 0 {
            let len = u32::try_from(line.len()).unwrap_or(0);
            (entry.file, entry.at, entry.len, entry.version) = (self.file, at, len, version);
        }
    }
}

impl Told {
    /// Reads what the sinks' files hold, as deep as asked, from the youngest record on. What cannot be read is left out, and
    /// [`Told::is_partial`] says so. Blocks.
    pub(crate) fn read(configs: &[SinkConfig], depth: Depth) -> Self {
        let mut inner = Inner::default();
        for (number, config) in configs.iter().enumerate() {
            let mut collecting = Collecting { inner: &mut inner, sink: bit(number), file: 0 };
            match config.settings().told(depth, &mut collecting) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(sink = config.settings().kind(), %error, "what was delivered earlier cannot be read");
                    inner.is_partial = true;
                }
            }
        }
        Self(Arc::new(inner))
    }

    /// How many samples there are records of.
    pub(crate) fn len(&self) -> usize {
        self.0.ids.len()
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.0.is_partial
    }

    /// Whether the sink of this number has a record.
    pub(super) fn has(&self, sink: usize, key: &Key) -> bool {
        let Some(entry) = number(&key.id).and_then(|id| self.0.ids.get(&id)) else { return false };
        let sinks = if key.version > 1 { entry.amended } else { entry.first };
        sinks & bit(sink) != 0
    }

    /// Whether the record of a sample was delivered, and whether it was amended.
    pub(crate) fn knows(&self, id: &str) -> Option<bool> {
        number(id).and_then(|id| self.0.ids.get(&id)).map(|entry| entry.is_amended)
    }

    /// What was delivered of a sample; `None`: nothing is known of it. Blocks.
    pub(crate) fn of(&self, id: &str) -> Option<Delivered> {
        let entry = *self.0.ids.get(&number(id)?)?;
        if entry.is_amended || entry.len == 0 {
            return Some(Delivered::Settled);
        }
        let line = self.line(&entry).ok().filter(|line| {
            key_of(line).is_some_and(|(found, version)| found == id && version == entry.version)
        });
        let key = Key { id: id.to_owned(), version: entry.version };
        Some(line.map_or(Delivered::Settled, |line| Delivered::Once(Record::new(key, line))))
    }

    fn line(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let path = self.0.files.get(usize::from(entry.file)).ok_or(io::ErrorKind::NotFound)?;
        let mut line = vec![0; entry.len as usize];
        File::open(path)?.read_exact_at(&mut line, entry.at)?;
        Ok(line)
    }
}

fn bit(sink: usize) -> u8 {
    u32::try_from(sink).ok().and_then(|sink| 1_u8.checked_shl(sink)).unwrap_or(0)
}

/// An id as a number; `None` for one that is none of the agent's.
fn number(id: &str) -> Option<u128> {
    uuid::Uuid::try_parse(id).ok().map(|id| id.as_u128())
}
