//! The tables of the labels, in one database.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use millgate_shared::{files, panics};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kept::{Class, Kept, Said};

/// The format of all tables below.
const FORMAT: u64 = 1;
/// redb's own is 1 GiB.
const CACHE_BYTES: usize = 1 << 20;

/// Decision id → [`Kept`] as JSON.
const DECIDED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("decided");
/// (whether it is labelled, number) → decision id.
const ORDER: TableDefinition<'_, (bool, u64), &str> = TableDefinition::new("order");
/// (decision id, 0…) → [`Said`] as JSON.
const SAID: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("said");
/// (class, number) → decision id, of those whose pictures are kept.
const SHELF: TableDefinition<'_, (u8, u64), &str> = TableDefinition::new("shelf");
/// Name → whatever there is one of, as JSON.
const ONES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ones");

/// Names in [`ONES`].
pub(super) const DRIFT: &str = "drift";
pub(super) const NEXT: &str = "next";
pub(super) const BYTES: &str = "picture_bytes";
const FORMAT_NAME: &str = "format";

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("its reader panicked: {0}")]
    Panicked(String),
    #[error("is of another version's format ({0})")]
    Format(u64),
}

macro_rules! of_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Failed {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}
of_redb!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

impl Failed {
    /// Another process has it.
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self, Self::Redb(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch))
    }

    /// The machine is in trouble, and not the file.
    pub(super) fn is_of_machine(&self) -> bool {
        let errno = |error: &std::io::Error| error.raw_os_error().is_some();
        match self {
            Self::Io(error) | Self::Redb(redb::Error::Io(error)) => errno(error),
            _ => false,
        }
    }
}

/// The database, open.
#[derive(Debug)]
pub(super) struct Store(Database);

impl Store {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        panics::caught(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(files::PRIVATE)
                .open(path)?;
            let _as_it_is = files::narrow(path).is_err();
            let backend = FileBackend::new(file)?;
            let database = Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)?;
            let this = Self(database);
            this.write(|tables| match tables.one::<u64>(FORMAT_NAME)? {
                None => tables.set_one(FORMAT_NAME, &FORMAT),
                Some(FORMAT) => Ok(()),
                Some(other) => Err(Failed::Format(other)),
            })?;
            Ok(this)
        })
        .map_err(Failed::Panicked)?
    }

    /// Writes, as one commit, or nothing.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        panics::caught(|| {
            let transaction = self.0.begin_write()?;
            let done = work(&mut Tables::of(&transaction)?)?;
            transaction.commit()?;
            Ok(done)
        })
        .map_err(Failed::Panicked)?
    }

    /// Reads.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reading) -> Result<T, Failed>) -> Result<T, Failed> {
        panics::caught(|| work(&Reading(self.0.begin_read()?))).map_err(Failed::Panicked)?
    }
}

/// The tables within one commit.
pub(super) struct Tables<'a> {
    decided: Table<'a, &'static str, &'static [u8]>,
    order: Table<'a, (bool, u64), &'static str>,
    said: Table<'a, (&'static str, u32), &'static [u8]>,
    shelf: Table<'a, (u8, u64), &'static str>,
    ones: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    fn of(transaction: &'a WriteTransaction) -> Result<Self, Failed> {
        Ok(Self {
            decided: transaction.open_table(DECIDED)?,
            order: transaction.open_table(ORDER)?,
            said: transaction.open_table(SAID)?,
            shelf: transaction.open_table(SHELF)?,
            ones: transaction.open_table(ONES)?,
        })
    }

    pub(super) fn decision(&self, id: &str) -> Result<Option<Kept>, Failed> {
        self.decided.get(id)?.map(|row| Ok(serde_json::from_slice(row.value())?)).transpose()
    }

    /// Puts a decision in its place, which says whether it is labelled.
    pub(super) fn put(&mut self, kept: &Kept, is_labelled: bool) -> Result<(), Failed> {
        self.decided.insert(&*kept.id, &*serde_json::to_vec(kept)?)?;
        self.order.remove((!is_labelled, kept.number))?;
        self.order.insert((is_labelled, kept.number), &*kept.id)?;
        for class in Class::ALL {
            self.shelf.remove((class.number(), kept.number))?;
        }
        if let Some(class) = kept.class.filter(|_| !kept.pictures.is_empty()) {
            self.shelf.insert((class.number(), kept.number), &*kept.id)?;
        }
        Ok(())
    }

    /// Forgets a decision and what was said of it.
    pub(super) fn remove(&mut self, kept: &Kept) -> Result<(), Failed> {
        self.decided.remove(&*kept.id)?;
        for is_labelled in [false, true] {
            self.order.remove((is_labelled, kept.number))?;
        }
        for class in Class::ALL {
            self.shelf.remove((class.number(), kept.number))?;
        }
        for at in 0..self.said_of(&kept.id)? {
            self.said.remove((&*kept.id, at))?;
        }
        Ok(())
    }

    /// How often something was said of a decision.
    pub(super) fn said_of(&self, id: &str) -> Result<u32, Failed> {
        let last = self.said.range((id, 0)..=(id, u32::MAX))?.next_back().transpose()?;
        Ok(last.map_or(0, |(key, _)| key.value().1 + 1))
    }

    pub(super) fn say(&mut self, id: &str, at: u32, said: &Said) -> Result<(), Failed> {
        self.said.insert((id, at), &*serde_json::to_vec(said)?)?;
        Ok(())
    }

    /// How many decisions there are, that are labelled or not.
    pub(super) fn count(&self, is_labelled: bool) -> Result<u64, Failed> {
        match is_labelled {
            true => Ok(self.order.range((true, 0)..)?.count() as u64),
            false => Ok(self.order.len()?),
        }
    }

    /// The oldest decision that nobody has labelled.
    pub(super) fn oldest(&self) -> Result<Option<String>, Failed> {
        let first = self.order.range(..(true, 0))?.next().transpose()?;
        Ok(first.map(|(_, id)| id.value().to_owned()))
    }

    /// The decision whose pictures are given up first, and the oldest of each class.
    pub(super) fn first_on_shelf(&self) -> Result<Option<String>, Failed> {
        Ok(self.shelf.first()?.map(|(_, id)| id.value().to_owned()))
    }

    pub(super) fn oldest_of(&self, class: Class) -> Result<Option<String>, Failed> {
        let number = class.number();
        let first = self.shelf.range((number, 0)..=(number, u64::MAX))?.next().transpose()?;
        Ok(first.map(|(_, id)| id.value().to_owned()))
    }

    pub(super) fn one<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failed> {
        self.ones.get(name)?.map(|row| Ok(serde_json::from_slice(row.value())?)).transpose()
    }

    pub(super) fn set_one(&mut self, name: &str, value: &impl Serialize) -> Result<(), Failed> {
        self.ones.insert(name, &*serde_json::to_vec(value)?)?;
        Ok(())
    }
}

/// The tables, to be read.
pub(super) struct Reading(ReadTransaction);

impl Reading {
    pub(super) fn decision(&self, id: &str) -> Result<Option<Kept>, Failed> {
        let table = self.0.open_table(DECIDED)?;
        let row = table.get(id)?;
        row.map(|row| Ok(serde_json::from_slice(row.value())?)).transpose()
    }

    pub(super) fn said(&self, id: &str) -> Result<Vec<Said>, Failed> {
        let table = self.0.open_table(SAID)?;
        let mut said = Vec::new();
        for row in table.range((id, 0)..=(id, u32::MAX))? {
            said.push(serde_json::from_slice(row?.1.value())?);
        }
        Ok(said)
    }

    /// Ids after `after` that were labelled, by id; `most` at most.
    pub(super) fn labelled_after(&self, after: &str, most: usize) -> Result<Vec<String>, Failed> {
        let table = self.0.open_table(SAID)?;
        let mut ids: Vec<String> = Vec::new();
        for row in table.range((after, u32::MAX)..)? {
            let row = row?.0;
            let id = row.value().0;
            if id == after || ids.last().is_some_and(|last| last == id) {
                continue;
            }
            if ids.len() == most {
                break;
            }
            ids.push(id.to_owned());
        }
        Ok(ids)
    }

    /// Ids of a class whose pictures are kept, by id.
    pub(super) fn shelved(&self, class: Class) -> Result<Vec<String>, Failed> {
        let table = self.0.open_table(SHELF)?;
        let number = class.number();
        let mut ids = Vec::new();
        for row in table.range((number, 0)..=(number, u64::MAX))? {
            ids.push(row?.1.value().to_owned());
        }
        ids.sort_unstable();
        Ok(ids)
    }
}
