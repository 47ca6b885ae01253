//! The journal's tables, and what one commit may do to them.

use std::collections::HashMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Key, Known, Mark, Remembered, text};

/// The format of all tables below. A journal of another format is not read.
pub(super) const FORMAT: u32 = 2;

/// One row, at 0: [`FORMAT`].
const FORMATS: TableDefinition<'_, u32, u32> = TableDefinition::new("format");
/// (source, key) → mark.
const DECIDED: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("decided");
/// Number → (decision id, version, line).
const OUTBOX: TableDefinition<'_, u64, (&str, u32, &[u8])> = TableDefinition::new("outbox");
/// (the same number, 0…) → (source, key, mark) of each sample that the record is about.
const OUTBOX_OF: TableDefinition<'_, (u64, u32), Of<'_>> = TableDefinition::new("outbox_of");
type Of<'a> = (&'a str, &'a [u8], &'a [u8]);
/// Decision id → whether it is closed. An entry of the spool whose id is not here was never committed.
const SPOOLED: TableDefinition<'_, &str, bool> = TableDefinition::new("spooled");
/// One row, at 0: the number of the last commit, which the log beside the database counts too.
const COMMITS: TableDefinition<'_, u32, u64> = TableDefinition::new("commits");
/// Rows that one change of a copy holds.
const CHUNK: usize = 256;

/// A record that every sink is to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    pub id: String,
    /// The decision's version; 0 where there is none.
    pub version: u32,
    /// What the sinks get, with its line feed.
    #[serde(with = "text")]
    pub line: Vec<u8>,
    /// The samples that it is about, if they came from a source: several where their parts were joined.
    pub of: Vec<Remembered>,
}

/// All of one is in the database, or nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Forget {
        source: Arc<str>,
        key: Key,
    },
    /// A decided sample is what it was, and is known by another mark from now on.
    Renewed {
        source: Arc<str>,
        key: Key,
        mark: Mark,
    },
    /// The record is to be delivered, its samples are decided, and its id may await an amendment.
    Post {
        number: u64,
        post: Post,
        awaits: bool,
    },
    /// Every sink has it. Samples that are gone need not be remembered.
    Delivered {
        number: u64,
        gone: Vec<(Arc<str>, Key)>,
    },
    /// These were decided, and every sink has their records or will not get them from here.
    Remembered {
        of: Vec<Remembered>,
    },
    /// These ids await an amendment.
    Awaits {
        ids: Vec<String>,
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

/// Which format a database is of: 1 where it says nothing and is not empty. `None`: nothing was ever written.
pub(super) fn format(read: &ReadTransaction) -> Result<Option<u32>, redb::Error> {
    let Some(table) = absent_or(read.open_table(FORMATS))? else {
        let is_empty = !read.list_tables()?.any(|table| table.name() == DECIDED.name());
        return Ok((!is_empty).then_some(1));
    };
    Ok(Some(table.get(0)?.map_or(0, |format| format.value())))
}

/// The number of the last commit; 0 where none was counted.
pub(super) fn commits(read: &ReadTransaction) -> Result<u64, redb::Error> {
    let Some(table) = absent_or(read.open_table(COMMITS))? else { return Ok(0) };
    Ok(table.get(0)?.map_or(0, |number| number.value()))
}

/// Says that all up to the commit `number` is here, with the transaction.
pub(super) fn count(transaction: &WriteTransaction, number: u64) -> Result<(), redb::Error> {
    transaction.open_table(COMMITS)?.insert(0, number)?;
    Ok(())
}

pub(super) fn apply<'a>(
    transaction: &WriteTransaction,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let mut decided = transaction.open_table(DECIDED)?;
    let mut outbox = transaction.open_table(OUTBOX)?;
    let mut outbox_of = transaction.open_table(OUTBOX_OF)?;
    let mut spooled = transaction.open_table(SPOOLED)?;
    for change in changes {
        match change {
            Change::Forget { source, key } => {
                decided.remove((&**source, key.as_bytes()))?;
            }
            Change::Renewed { source, key, mark } => {
                let at = (&**source, key.as_bytes());
                // Of one that was never decided nothing is remembered.
                if decided.get(at)?.is_some() {
                    decided.insert(at, mark.as_bytes())?;
                }
            }
            Change::Post { number, post, awaits } => {
                outbox.insert(number, row(post))?;
                for (at, Remembered { source, key, mark }) in (0..).zip(&post.of) {
                    decided.insert((&**source, key.as_bytes()), mark.as_bytes())?;
                    outbox_of.insert((*number, at), (&**source, key.as_bytes(), mark.as_bytes()))?;
                }
                if *awaits {
                    spooled.insert(post.id.as_str(), false)?;
                }
            }
            Change::Delivered { number, gone } => {
                outbox.remove(number)?;
                outbox_of.retain_in((*number, 0)..=(*number, u32::MAX), |_, _| false)?;
                for (source, key) in gone {
                    decided.remove((&**source, key.as_bytes()))?;
                }
            }
            Change::Remembered { of } => {
                for Remembered { source, key, mark } in of {
                    decided.insert((&**source, key.as_bytes()), mark.as_bytes())?;
                }
            }
            Change::Awaits { ids } => {
                for id in ids {
                    spooled.insert(id.as_str(), false)?;
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

/// Makes an empty database one of this format.
pub(super) fn begin(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(FORMATS)?.insert(0, FORMAT)?;
    count(transaction, 0)?;
    apply(transaction, [])
}

fn row(post: &Post) -> (&str, u32, &[u8]) {
    (&post.id, post.version, &post.line)
}

/// What a source has had decided.
pub(super) fn known(read: &ReadTransaction, source: &str) -> Result<Vec<Known>, redb::Error> {
    let table = read.open_table(DECIDED)?;
    let mut known = Vec::new();
    for entry in table.range((source, &[][..])..)? {
        let (key, mark) = entry?;
        let (of, key) = key.value();
        if of != source {
            break;
        }
        known.push(Known { key: Key::new(key), mark: Mark::new(mark.value()) });
    }
    Ok(known)
}

/// What was not delivered to every sink, in the order of its commits.
pub(super) fn outbox(read: &ReadTransaction) -> Result<Vec<(u64, Post)>, redb::Error> {
    let mut found = Vec::new();
    let samples = read.open_table(OUTBOX_OF)?;
    for entry in read.open_table(OUTBOX)?.iter()? {
        let (number, value) = entry?;
        let (number, (id, version, line)) = (number.value(), value.value());
        let mut of = Vec::new();
        for entry in samples.range((number, 0)..=(number, u32::MAX))? {
            let (_, sample) = entry?;
            let (source, key, mark) = sample.value();
            of.push(Remembered { source: source.into(), key: Key::new(key), mark: Mark::new(mark) });
        }
        found.push((number, Post { id: id.to_owned(), version, line: line.to_vec(), of }));
    }
    Ok(found)
}

/// All that stands in the tables, as changes that make it anew from nothing when they are applied in this order.
pub(super) fn copy<E: From<redb::Error>>(
    read: &ReadTransaction,
    mut each: impl FnMut(Change) -> Result<(), E>,
) -> Result<(), E> {
    let decided = read.open_table(DECIDED).map_err(redb::Error::from)?;
    let mut forgotten = Vec::new();
    for (number, post) in outbox(read)? {
        for Remembered { source, key, .. } in &post.of {
            if decided.get((&**source, key.as_bytes())).map_err(redb::Error::from)?.is_none() {
                forgotten.push((Arc::clone(source), key.clone()));
            }
        }
        each(Change::Post { number, post, awaits: false })?;
    }
    for (source, key) in forgotten {
        each(Change::Forget { source, key })?;
    }
    let mut of = Vec::new();
    for entry in decided.iter().map_err(redb::Error::from)? {
        let (key, mark) = entry.map_err(redb::Error::from)?;
        let (source, key) = key.value();
        of.push(Remembered { source: source.into(), key: Key::new(key), mark: Mark::new(mark.value()) });
        if of.len() == CHUNK {
            each(Change::Remembered { of: std::mem::take(&mut of) })?;
        }
    }
    each(Change::Remembered { of })?;
    let (closed, open): (Vec<_>, Vec<_>) = spooled(read)?.into_iter().partition(|(_, is_closed)| *is_closed);
    let ids = |of: &[(String, bool)]| of.iter().map(|(id, _)| id.clone()).collect();
    open.chunks(CHUNK).try_for_each(|chunk| each(Change::Awaits { ids: ids(chunk) }))?;
    closed.chunks(CHUNK).try_for_each(|chunk| each(Change::Closed { ids: ids(chunk) }))
}

/// `None` for a table that nothing was ever committed to.
fn absent_or<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether each id is closed.
pub(super) fn spooled(read: &ReadTransaction) -> Result<HashMap<String, bool>, redb::Error> {
    let Some(table) = absent_or(read.open_table(SPOOLED))? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for entry in table.iter()? {
        let (id, is_closed) = entry?;
        found.insert(id.value().to_owned(), is_closed.value());
    }
    Ok(found)
}
