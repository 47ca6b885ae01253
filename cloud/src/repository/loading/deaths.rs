//! Models over whose loading the pool has died: native code that crashes, memory that runs out. What has ended the pool
//! three times in a row is left out, so that everything else is served.
//!
//! One small file a node in `state_dir` says which model is being loaded, and of which the loading has ended the pool.
//! Nothing is synced: it has to survive the process and not the machine. Without it, models are loaded all the same.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millgate_shared::{bounded, files};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often the pool may die over a model before the model is left out.
const MOST: u32 = 3;
/// Files of a model's folder that are looked at to tell whether it has changed.
const FILES: usize = 4096;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// What each model's files look like, by the model's name.
    loading: BTreeMap<String, String>,
    died: BTreeMap<String, Died>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Died {
    face: String,
    times: u32,
}

/// What is known of models over whose loading the pool died.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// `None`: nothing is kept.
    file: Option<File>,
    kept: Mutex<Kept>,
}

/// A model is being loaded, until this is dropped.
#[derive(Debug)]
pub(super) struct Loading<'a> {
    deaths: &'a Deaths,
    name: String,
}

impl Deaths {
    /// Opens the memory of this node in a folder, which is made where it is missing.
    pub(super) fn open(dir: &Path, node: &str) -> Self {
        match open(&dir.join(format!("loading-{node}.json"))) {
            Ok((file, kept)) => {
                let this = Self { file: Some(file), kept: Mutex::new(judge(kept)) };
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
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the pool has died over it, if that is too often.
    pub(super) fn of(&self, name: &str, folders: &[PathBuf]) -> Option<u32> {
        let died = self.kept().died.get(name).cloned()?;
        (died.times >= MOST && died.face == face(folders)).then_some(died.times)
    }

    /// Begins to load it.
    pub(super) fn enter(&self, name: &str, folders: &[PathBuf]) -> Loading<'_> {
        if self.file.is_some() {
            let mut kept = self.kept();
            kept.loading.insert(name.to_owned(), face(folders));
            self.write(&kept);
        }
        Loading { deaths: self, name: name.to_owned() }
    }

    fn write(&self, kept: &Kept) {
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec_pretty(kept).unwrap_or_default();
        let written = file.write_all_at(&text, 0).and_then(|()| file.set_len(text.len() as u64));
        if let Err(error) = written {
            tracing::debug!(%error, "what is being loaded cannot be noted");
        }
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut kept = self.deaths.kept();
        kept.loading.remove(&self.name);
        // Served or refused: it did not end the pool.
        kept.died.remove(&self.name);
        self.deaths.write(&kept);
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
    Ok((file, serde_json::from_slice(&text).unwrap_or_default()))
}

/// What was being loaded when the pool died. Of several nobody knows which it was.
fn judge(before: Kept) -> Kept {
    let Kept { loading, mut died } = before;
    if loading.len() == 1 {
        for (name, face) in loading {
            let times = died.get(&name).filter(|died| died.face == face).map_or(0, |died| died.times) + 1;
            tracing::warn!(model = name, times, "the pool died while it loaded this");
            died.insert(name, Died { face, times });
        }
    }
    Kept { loading: BTreeMap::new(), died }
}

/// Names, sizes and times of a model's files.
fn face(folders: &[PathBuf]) -> String {
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
mod tests {
    use super::*;

    /// Leaves the directory as a pool does that dies while it loads these models.
    fn die(dir: &Path, names: &[&str], folders: &[PathBuf]) {
        let deaths = Deaths::open(dir, "node-1");
        let loading: Vec<Loading<'_>> = names.iter().map(|name| deaths.enter(name, folders)).collect();
        let path = dir.join("loading-node-1.json");
        let text = std::fs::read(&path).unwrap();
        drop(loading);
        drop(deaths);
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn what_has_ended_the_pool_three_times_is_known_until_its_files_change() {
        let (dir, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [models.path().to_path_buf()];
        std::fs::write(models.path().join("model.onnx"), b"1").unwrap();
        for times in 1..=3 {
            assert_eq!(Deaths::open(dir.path(), "node-1").of("bad", &folders), None, "{times}");
            die(dir.path(), &["bad"], &folders);
        }
        let deaths = Deaths::open(dir.path(), "node-1");
        assert_eq!((deaths.of("bad", &folders), deaths.of("good", &folders)), (Some(3), None));
        drop(deaths);
        assert_eq!(
            Deaths::open(dir.path(), "node-1").of("bad", &folders),
            Some(3),
            "a start more changes nothing"
        );
        assert_eq!(Deaths::open(dir.path(), "node-2").of("bad", &folders), None);
        std::fs::write(models.path().join("model.onnx"), b"12").unwrap();
        assert_eq!(Deaths::open(dir.path(), "node-1").of("bad", &folders), None);
    }

    #[test]
    fn a_load_that_ends_clears_it_and_of_several_none_is_blamed() {
        let (dir, folders) = (tempfile::tempdir().unwrap(), []);
        for _ in 0..2 {
            die(dir.path(), &["slow"], &folders);
        }
        drop(Deaths::open(dir.path(), "node-1").enter("slow", &folders));
        die(dir.path(), &["slow"], &folders);
        for _ in 0..5 {
            die(dir.path(), &["a", "b"], &folders);
        }
        let deaths = Deaths::open(dir.path(), "node-1");
        for name in ["slow", "a", "b"] {
            assert_eq!(deaths.of(name, &folders), None);
        }
        // A second pool on the same folder does not take the first one's loads for deaths.
        let _loading = deaths.enter("a", &folders);
        assert!(Deaths::open(dir.path(), "node-1").file.is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_made_keeps_no_model_from_being_loaded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state"), b"a file").unwrap();
        let deaths = Deaths::open(&dir.path().join("state"), "node-1");
        drop(deaths.enter("a", &[]));
        assert_eq!(deaths.of("a", &[]), None);
    }
}
