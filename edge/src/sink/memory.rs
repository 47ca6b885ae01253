//! A sink for tests: it keeps what it is given, or takes nothing while it is shut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::worker::{Settings, Worker};
use super::{Opening, Record, SinkSettings, Write, WriteError};

/// `type = "memory"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// The shelf's: [`shelf`].
    pub name: String,
}

/// What a sink has been given.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) lines: Vec<String>,
    pub(crate) is_shut: bool,
}

/// Shelves by name; each test has one of its own.
static SHELVES: Mutex<BTreeMap<String, Arc<Mutex<Shelf>>>> = Mutex::new(BTreeMap::new());

/// Gives the shelf of this name.
pub(crate) fn shelf(name: &str) -> Arc<Mutex<Shelf>> {
    Arc::clone(SHELVES.lock().unwrap().entry(name.to_owned()).or_default())
}

impl SinkSettings for MemoryConfig {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn open(&self, opening: Opening<'_>) -> Result<Worker, String> {
        let settings = Settings::patient(opening.queue);
        Ok(opening.start(settings, Memory(shelf(&self.name))))
    }
}

struct Memory(Arc<Mutex<Shelf>>);

impl Write for Memory {
    const BATCH: usize = 8;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.is_shut {
            return Err(WriteError::Later("is shut".to_owned()));
        }
        let text = |record: &Record| String::from_utf8_lossy(record.json()).into_owned();
        shelf.lines.extend(batch.iter().map(text));
        Ok(())
    }
}
