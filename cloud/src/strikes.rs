//! Models that end what runs them: native code that crashes, memory that runs out, a run that does not end. What has done so
//! three times is set aside, so that everything else is served; a model whose files change is a new one.
//!
//! Three things are counted: loads that ended the pool, loads that ended their worker, and runs that ended theirs. The first
//! two are forgotten when a load ends nothing, the third falls by one with so many batches that go well.
//!
//! One small file a node in `state_dir` remembers it. Nothing is synced: it has to survive the process and not the machine.
//! Without it, models are loaded all the same.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use millgate_shared::{bounded, files};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often a model may end what runs it before it is set aside.
pub(crate) const MOST: u32 = 3;
/// Batches that go well and make up for one run that ended a worker.
const MAKES_UP: u64 = 1_000;
/// Files of a model's folder that are looked at to tell whether it has changed.
const FILES: usize = 4096;
/// How the reason of a model that is set aside begins.
pub(crate) const SET_ASIDE: &str = "set aside: ";
/// What brings a model back.
const BACK: &str = "it is tried again when its files change, or when it is loaded by name";

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// What each model's files look like, by the model's name.
    loading: BTreeMap<String, String>,
    /// Loads that ended the pool.
    died: BTreeMap<String, Count>,
    /// Loads that ended their worker.
    loads: BTreeMap<String, Count>,
    /// Runs that ended their worker.
    runs: BTreeMap<String, Count>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    face: String,
    times: u32,
    /// How the last one ended, in words.
    #[serde(default)]
    how: String,
}

impl Count {
    /// Counts one more in a map, and gives how many there are of the same files.
    fn up(map: &mut BTreeMap<String, Self>, name: &str, face: &str, how: &str) -> u32 {
        let count = map.entry(name.to_owned()).or_default();
        if count.face != face {
            *count = Self { face: face.to_owned(), ..Self::default() };
        }
        count.times += 1;
        how.clone_into(&mut count.how);
        count.times
    }
}

impl Kept {
    /// Why a model is set aside, if it is.
    fn aside(&self, name: &str, face: &str) -> Option<String> {
        let over = |map: &BTreeMap<String, Count>| {
            map.get(name).filter(|count| count.times >= MOST && count.face == face).cloned()
        };
        if let Some(Count { times, .. }) = over(&self.died) {
            return Some(format!("{SET_ASIDE}the pool died {times} times while it loaded it; {BACK}"));
        }
        let ended = over(&self.runs).or_else(|| over(&self.loads));
        ended.map(|Count { times, how, .. }| {
            format!("{SET_ASIDE}it has ended its worker {times} times, the last time {how}; {BACK}")
        })
    }
}

#[derive(Debug, Default)]
struct Book {
    /// `None`: nothing outlives this process.
    file: Option<File>,
    kept: Mutex<Kept>,
}

/// What is known of models that ended what ran them. Clones are cheap, and agree.
#[derive(Debug, Default, Clone)]
pub(crate) struct Strikes(Arc<Book>);

/// A model is being loaded, until this is dropped.
#[derive(Debug)]
pub(crate) struct Loading {
    strikes: Strikes,
    name: String,
    face: String,
    /// How the load ended its worker, if it did.
    ended: Option<String>,
}

impl Strikes {
    /// Opens the memory of this node in a folder, which is made where it is missing.
    pub(crate) fn open(dir: &Path, node: &str) -> Self {
        match open(&dir.join(format!("loading-{node}.json"))) {
            Ok((file, kept)) => {
                let this = Self(Arc::new(Book { file: Some(file), kept: Mutex::new(judge(kept)) }));
                this.write(&this.kept());
                this
            }
            Err(error) => {
                tracing::debug!(dir = %dir.display(), %error, "what ends the pool while it is loaded is not remembered");
                Self::default()
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a model is set aside, if it is. `face`: what its files look like.
    pub(crate) fn aside(&self, name: &str, face: &str) -> Option<String> {
        self.kept().aside(name, face)
    }

    /// Gives a model another chance.
    pub(crate) fn forgive(&self, name: &str) {
        let mut kept = self.kept();
        let Kept { died, loads, runs, .. } = &mut *kept;
        let known = [died.remove(name), loads.remove(name), runs.remove(name)];
        if known.iter().any(Option::is_some) {
            self.write(&kept);
        }
    }

    /// Begins to load it.
    pub(crate) fn enter(&self, name: &str, face: &str) -> Loading {
        if self.0.file.is_some() {
            let mut kept = self.kept();
            kept.loading.insert(name.to_owned(), face.to_owned());
            self.write(&kept);
        }
        Loading { strikes: self.clone(), name: name.to_owned(), face: face.to_owned(), ended: None }
    }

    /// Keeps count of a model that is served.
    pub(crate) fn record(&self, name: &str, face: &str) -> Record {
        let (name, face) = (name.to_owned(), face.to_owned());
        Record { strikes: self.clone(), name, face, ..Record::default() }
    }

    fn write(&self, kept: &Kept) {
        let Some(file) = &self.0.file else { return };
        let text = serde_json::to_vec_pretty(kept).unwrap_or_default();
        let written = file.write_all_at(&text, 0).and_then(|()| file.set_len(text.len() as u64));
        if let Err(error) = written {
            tracing::debug!(%error, "what is being loaded cannot be noted");
        }
    }
}

impl Loading {
    /// Notes that the load has ended the worker that it was done in.
    pub(crate) fn ended(&mut self, how: String) {
        self.ended = Some(how);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let mut kept = self.strikes.kept();
        kept.loading.remove(&self.name);
        // Served or refused: it did not end the pool.
        kept.died.remove(&self.name);
        match &self.ended {
            None => drop(kept.loads.remove(&self.name)),
            Some(how) => {
                let times = Count::up(&mut kept.loads, &self.name, &self.face, how);
                tracing::warn!(model = self.name, times, how, "a load has ended its worker");
            }
        }
        self.strikes.write(&kept);
    }
}

/// The count of one model that is served.
#[derive(Debug, Default)]
pub(crate) struct Record {
    strikes: Strikes,
    name: String,
    face: String,
    /// Batches that went well.
    well: AtomicU64,
    /// Number of the worker that a run has last ended.
    last: AtomicU64,
    aside: OnceLock<String>,
}

impl Record {
    /// Why the model is set aside, if it is.
    pub(crate) fn aside(&self) -> Option<&str> {
        self.aside.get().map(String::as_str)
    }

    /// How many runs have ended their worker, as far as they count.
    pub(crate) fn times(&self) -> u32 {
        let kept = self.strikes.kept();
        kept.runs.get(&self.name).filter(|count| count.face == self.face).map_or(0, |count| count.times)
    }

    /// Counts a batch that went well.
    pub(crate) fn went_well(&self) {
        if (self.well.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(MAKES_UP) {
            let mut kept = self.strikes.kept();
            let Some(count) = kept.runs.get_mut(&self.name).filter(|count| count.face == self.face) else {
                return;
            };
            count.times = count.times.saturating_sub(1);
            if count.times == 0 {
                kept.runs.remove(&self.name);
            }
            self.strikes.write(&kept);
        }
    }

    /// Counts a run that ended its worker, which has this number; sets the model aside if that was one too many. Runs that
    /// ended with the same worker count once.
    pub(crate) fn ended(&self, worker: u64, how: &str) {
        if self.last.swap(worker, Ordering::Relaxed) == worker {
            return;
        }
        let mut kept = self.strikes.kept();
        let times = Count::up(&mut kept.runs, &self.name, &self.face, how);
        let aside = kept.aside(&self.name, &self.face);
        self.strikes.write(&kept);
        drop(kept);
        match aside {
            None => tracing::warn!(model = self.name, times, how, "a run has ended its worker"),
            Some(reason) => {
                tracing::error!(model = self.name, reason, "a model is served no more");
                self.aside.get_or_init(|| reason);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Kept)> {
    if let Some(dir) = path.parent() {
        files::make_private_folder(dir)?;
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // Of a pool that runs beside this one under the same name.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let text = bounded::read_open(&file, bounded::TEXT)?;
    file.rewind()?;
    // A kill between the writing and the shortening leaves a tail behind what counts.
    let kept = serde_json::Deserializer::from_slice(&text).into_iter().next();
    Ok((file, kept.and_then(Result::ok).unwrap_or_default()))
}

/// What was being loaded when the pool died. Of several nobody knows which it was.
fn judge(before: Kept) -> Kept {
    let Kept { loading, mut died, loads, runs } = before;
    if loading.len() == 1 {
        for (name, face) in loading {
            let times = Count::up(&mut died, &name, &face, "");
            tracing::warn!(model = name, times, "the pool died while it loaded this");
        }
    }
    Kept { loading: BTreeMap::new(), died, loads, runs }
}

/// What a model's files look like: their names, sizes and times.
pub(crate) fn face(folders: &[PathBuf]) -> String {
    let mut files: Vec<PathBuf> = folders.to_vec();
    let mut hash = Sha256::new();
    let mut seen = 0;
    while let Some(path) = files.pop() {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        hash.update(path.as_os_str().as_encoded_bytes());
        seen += 1;
        if metadata.is_dir() && seen < FILES {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            entries.sort();
            files.extend(entries);
        } else {
            hash.update(metadata.len().to_le_bytes());
            hash.update(metadata.mtime().to_le_bytes());
            hash.update(metadata.mtime_nsec().to_le_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
