//! A look into the spool of an agent that does not run. Changes nothing; [`Look::discard`] tells the journal alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;

use super::config::SpoolConfig;
use super::disk::{Dir, Disk};
use super::entry::{Head, Origin};
use super::keeper::{born, when_full};
use super::log::{Found, Log, Place, Sync};
use super::status::{Listed, Status};
use super::{OpenError, wall};
use crate::journal::{Journal, JournalError};

/// A directory that cannot be written to from here.
struct ReadOnly(Option<Dir>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnly {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.0.as_mut().map_or(Ok(Vec::new()), Disk::list)
    }
    fn append(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        refused()
    }
    fn sync(&mut self, _: &str) -> io::Result<()> {
        refused()
    }
    fn sync_names(&mut self) -> io::Result<()> {
        refused()
    }
    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.as_mut().map_or_else(refused, |dir| dir.read(name, at, len))
    }
    fn truncate(&mut self, _: &str, _: u64) -> io::Result<()> {
        refused()
    }
    fn remove(&mut self, _: &str) -> io::Result<()> {
        refused()
    }
    /// The agent's next start sets it aside, and says so.
    fn set_aside(&mut self, _: &str, _: &[u8]) -> io::Result<bool> {
        Ok(false)
    }
    fn aside(&mut self) -> io::Result<(u64, u64)> {
        self.0.as_mut().map_or(Ok((0, 0)), Disk::aside)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

pub struct Look {
    log: Log<ReadOnly>,
    /// `None`: no agent was ever here.
    journal: Option<Journal>,
    config: SpoolConfig,
    entries: Vec<(u64, Place, Listed)>,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Look {
    /// Fails with [`JournalError::InUse`] while an agent has it.
    pub fn open(state_dir: &Path, config: &SpoolConfig) -> Result<Self, LookError> {
        let journal = Journal::existing(state_dir)?;
        let spooled = journal.as_ref().map(Journal::spooled).transpose()?.unwrap_or_default();
        let outbox = journal.as_ref().map(Journal::outbox).transpose()?.unwrap_or_default();
        let undelivered: HashSet<String> = outbox.into_iter().map(|(_, post)| post.id).collect();
        let path = super::dir(state_dir);
        let dir = path.is_dir().then(|| Dir::existing(path.clone()));
        let wall = wall();
        let mut found: HashMap<String, (u64, Place, Listed)> = HashMap::new();
        let meet = |Found { seq, place, body }: Found| {
            let Ok(head) = Head::read(&body) else { return false };
            let is_awaited = match (spooled.get(&head.id), head.origin) {
                (Some(is_closed), _) => !is_closed,
                (None, origin) => origin == Origin::Api,
            };
            if is_awaited {
                let is_held = undelivered.contains(&head.id) || !spooled.contains_key(&head.id);
                let listed = Listed {
                    id: head.id.clone(),
                    state: if is_held { "held" } else { "waiting" }.to_owned(),
                    bytes: place.len,
                    age_seconds: -born(head.decided_at, wall) as f64 / 1e3,
                    tries: 0,
                    bundle: head.digest.to_string(),
                };
                found.insert(head.id, (seq, place, listed));
            }
            true
        };
        let log = Log::open(ReadOnly(dir), Sync::Never, u64::MAX, || 0, |_| Some(()), meet);
        let log = log.map_err(|source| OpenError { path, source })?;
        let mut entries: Vec<_> = found.into_values().collect();
        entries.sort_by_key(|(seq, ..)| *seq);
        Ok(Self { log, journal, config: config.clone(), entries })
    }

    pub fn status(&mut self) -> Status {
        let (quarantined, quarantined_bytes) = self.log.aside();
        let ages = self.entries.iter().map(|(.., listed)| listed.age_seconds);
        let oldest_seconds = ages.max_by(f64::total_cmp);
        let live_bytes = self.entries.iter().map(|(_, place, _)| place.len).sum();
        let bundles = self.entries.iter().fold(BTreeMap::new(), |mut bundles, (.., listed)| {
            *bundles.entry(listed.bundle.clone()).or_default() += 1;
            bundles
        });
        let bytes = self.log.bytes();
        let bytes_per_hour =
            oldest_seconds.map_or(0.0, |oldest| live_bytes as f64 * 3600.0 / oldest.max(600.0));
        let left = self.config.max_bytes.saturating_sub(bytes) as f64;
        Status {
            entries: self.entries.len(),
            bundles,
            bytes,
            live_bytes,
            max_bytes: self.config.max_bytes,
            oldest_seconds,
            bytes_per_hour,
            hours_left: (bytes_per_hour > 0.0).then(|| left / bytes_per_hour),
            quarantined,
            quarantined_bytes,
            when_full: when_full(&self.config),
            ..Status::default()
        }
    }

    pub fn list(&self) -> Vec<Listed> {
        self.entries.iter().map(|(.., listed)| listed.clone()).collect()
    }

    /// An entry's bytes as they lie on the disk; `None` if it is not there or cannot be read.
    pub(crate) fn body(&mut self, id: &str) -> Option<Vec<u8>> {
        let (seq, place, _) = self.entries.iter().find(|(.., listed)| listed.id == id)?;
        self.log.read(*seq, *place).ok().flatten()
    }

    /// Drops the entries of these ids, or all where `ids` is `None`, but leaves alone those whose first decision has yet to
    /// reach the sinks. Gives how many were dropped.
    pub fn discard(&mut self, ids: Option<&[String]>) -> Result<usize, LookError> {
        let is_meant =
            |listed: &Listed| listed.state == "waiting" && ids.is_none_or(|ids| ids.contains(&listed.id));
        let meant = self.entries.iter().map(|(.., listed)| listed).filter(|listed| is_meant(listed));
        let meant: Vec<String> = meant.map(|listed| listed.id.clone()).collect();
        if let Some(journal) = &self.journal {
            journal.close_now(&meant)?;
        }
        self.entries.retain(|(.., listed)| !meant.contains(&listed.id));
        Ok(meant.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut look = Look::open(dir.path(), &SpoolConfig::default()).unwrap();
        assert_eq!((look.status().entries, look.discard(None).unwrap()), (0, 0));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::create_dir(super::super::dir(dir.path())).unwrap();
        Look::open(dir.path(), &SpoolConfig::default()).unwrap();
        assert_eq!(std::fs::read_dir(super::super::dir(dir.path())).unwrap().count(), 0);
    }
}
