//! The journal's tables, and what one commit may do to them.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{Content, Known, Reading, Stat, Version};

/// (source, path below its folder as bytes) → (size, time of change).
const DECIDED: TableDefinition<'_, (&str, &[u8]), (u64, i64)> = TableDefinition::new("decided");
/// The same key → (size, time of change, inode, time of change of anything, SHA-256): as it was read. A table apart, and the
/// version once more, so that an agent of before can work with the journal and does not make this one believe what is old.
const READ: TableDefinition<'_, (&str, &[u8]), Face<'_>> = TableDefinition::new("read");
type Face<'a> = (u64, i64, u64, i64, &'a [u8]);
/// Number → (decision id, version, line, source, path below its folder, size, time of change). No source: no file.
const OUTBOX: TableDefinition<'_, u64, Row<'_>> = TableDefinition::new("outbox");
type Row<'a> = (&'a str, u32, &'a [u8], &'a str, &'a [u8], u64, i64);
/// The same number → (inode, time of change of anything, SHA-256) of the file, as it was read.
const OUTBOX_READ: TableDefinition<'_, u64, (u64, i64, &[u8])> = TableDefinition::new("outbox_read");
/// Decision id → whether it is closed. An entry of the spool whose id is not here was never committed.
const SPOOLED: TableDefinition<'_, &str, bool> = TableDefinition::new("spooled");

/// The version of a file, by where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion {
    pub source: Arc<str>,
    /// Below the source's folder.
    pub relative: PathBuf,
    pub version: Version,
    /// `None`: an agent of before has decided it, or it was set aside unread.
    pub reading: Option<Reading>,
}

/// A record that every sink is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub id: String,
    /// Of the decision; 0 where there is none.
    pub version: u32,
    /// As the sinks get it, with its line feed.
    pub line: Vec<u8>,
    /// What it was decided from, if that was a file.
    pub file: Option<FileVersion>,
}

/// All of one is in the database, or nothing of it.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Forget {
        source: Arc<str>,
        relative: PathBuf,
    },
    /// A decided file was read again, and held what it had held.
    Seen {
        source: Arc<str>,
        relative: PathBuf,
        reading: Reading,
    },
    /// The record is to be delivered, its file is decided, and its id may await an amendment.
    Post {
        number: u64,
        post: Post,
        awaits: bool,
    },
    /// Every sink has it. A file that was tidied away need not be remembered.
    Delivered {
        number: u64,
        tidied: Option<(Arc<str>, PathBuf)>,
    },
    /// The amended record is to be delivered, and its id awaits nothing any more.
    Amended {
        number: u64,
        post: Post,
    },
    /// These will not be amended (any more).
    Closed {
        ids: Vec<String>,
    },
    /// Their entries are gone from the disk.
    Pruned {
        ids: Vec<String>,
    },
}

pub(super) fn apply(transaction: &WriteTransaction, changes: &[&Change]) -> Result<(), redb::Error> {
    let mut decided = transaction.open_table(DECIDED)?;
    let mut outbox = transaction.open_table(OUTBOX)?;
    let mut spooled = transaction.open_table(SPOOLED)?;
    let mut read = transaction.open_table(READ)?;
    let mut outbox_read = transaction.open_table(OUTBOX_READ)?;
    for change in changes {
        match change {
            Change::Forget { source, relative } => {
                decided.remove(key(source, relative))?;
                read.remove(key(source, relative))?;
            }
            Change::Seen { source, relative, reading } => {
                let Stat { version, inode, changed } = reading.stat;
                let is_known = decided.get(key(source, relative))?.map(|known| known.value());
                if is_known == Some((version.size, version.modified)) {
                    let row = (version.size, version.modified, inode, changed, &reading.content.0[..]);
                    read.insert(key(source, relative), row)?;
                }
            }
            Change::Post { number, post, awaits } => {
                outbox.insert(number, row(post))?;
                if let Some(file) = &post.file {
                    let version = (file.version.size, file.version.modified);
                    let key = key(&file.source, &file.relative);
                    decided.insert(key, version)?;
                    if let Some(Reading { stat, content }) = &file.reading {
                        read.insert(key, (version.0, version.1, stat.inode, stat.changed, &content.0[..]))?;
                        outbox_read.insert(number, (stat.inode, stat.changed, &content.0[..]))?;
                    } else {
                        read.remove(key)?;
                    }
                }
                if *awaits {
                    spooled.insert(post.id.as_str(), false)?;
                }
            }
            Change::Delivered { number, tidied } => {
                outbox.remove(number)?;
                outbox_read.remove(number)?;
                if let Some((source, relative)) = tidied {
                    decided.remove(key(source, relative))?;
                    read.remove(key(source, relative))?;
                }
            }
            Change::Amended { number, post } => {
                outbox.insert(number, row(post))?;
                spooled.insert(post.id.as_str(), true)?;
            }
            Change::Closed { ids } => {
                for id in ids {
                    spooled.insert(id.as_str(), true)?;
                }
            }
            Change::Pruned { ids } => {
                for id in ids {
                    spooled.remove(id.as_str())?;
                }
            }
        }
    }
    Ok(())
}

fn key<'a>(source: &'a str, relative: &'a Path) -> (&'a str, &'a [u8]) {
    (source, relative.as_os_str().as_bytes())
}

fn row(post: &Post) -> Row<'_> {
    let (source, relative, version) = match &post.file {
        Some(file) => (&*file.source, file.relative.as_os_str().as_bytes(), file.version),
        None => ("", &[][..], Version { size: 0, modified: 0 }),
    };
    (&post.id, post.version, &post.line, source, relative, version.size, version.modified)
}

/// What a source has had decided.
pub(super) fn known(read: &ReadTransaction, source: &str) -> Result<Vec<Known>, redb::Error> {
    let table = read.open_table(DECIDED)?;
    let readings = absent_or(read.open_table(READ))?;
    let mut known = Vec::new();
    for entry in table.range((source, &[][..])..)? {
        let (key, value) = entry?;
        let (of, path) = key.value();
        if of != source {
            break;
        }
        let (size, modified) = value.value();
        let version = Version { size, modified };
        let row = readings.as_ref().map(|readings| readings.get((source, path))).transpose()?.flatten();
        let reading = row.and_then(|row| {
            let (size, modified, inode, changed, content) = row.value();
            reading(Version { size, modified }, inode, changed, content)
        });
        let reading = reading.filter(|reading| reading.stat.version == version);
        known.push(Known { relative: path_of(path), version, reading });
    }
    Ok(known)
}

/// What was not delivered to every sink, in the order of its commits.
pub(super) fn outbox(read: &ReadTransaction) -> Result<Vec<(u64, Post)>, redb::Error> {
    let mut found = Vec::new();
    let readings = absent_or(read.open_table(OUTBOX_READ))?;
    for entry in read.open_table(OUTBOX)?.iter()? {
        let (number, value) = entry?;
        let (id, version, line, source, relative, size, modified) = value.value();
        let of_file = Version { size, modified };
        let row = readings.as_ref().map(|readings| readings.get(number.value())).transpose()?.flatten();
        let reading = row.and_then(|row| {
            let (inode, changed, content) = row.value();
            reading(of_file, inode, changed, content)
        });
        let file = (!source.is_empty()).then(|| FileVersion {
            source: source.into(),
            relative: path_of(relative),
            version: of_file,
            reading,
        });
        found.push((number.value(), Post { id: id.to_owned(), version, line: line.to_vec(), file }));
    }
    Ok(found)
}

fn reading(version: Version, inode: u64, changed: i64, content: &[u8]) -> Option<Reading> {
    let content = Content(content.try_into().ok()?);
    Some(Reading { stat: Stat { version, inode, changed }, content })
}

/// `None` for a table that nothing was ever committed to.
fn absent_or<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// By decision id, whether it is closed.
pub(super) fn spooled(read: &ReadTransaction) -> Result<HashMap<String, bool>, redb::Error> {
    let Some(table) = absent_or(read.open_table(SPOOLED))? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for entry in table.iter()? {
        let (id, is_closed) = entry?;
        found.insert(id.value().to_owned(), is_closed.value());
    }
    Ok(found)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}
