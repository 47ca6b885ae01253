//! The folder of what must survive restarts: authority, devices, tokens. Tables are small JSON files, written whole and
//! put in place at once; one lock orders those who change them, be it this pool, another one, or a command.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use millgate_shared::identity::certificate::CertificateError;
use millgate_shared::identity::held::HeldError;
use millgate_shared::identity::pem::PemError;
use millgate_shared::identity::roots::RootsError;
use millgate_shared::{bounded, files};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error("{}: {source}", path.display())]
    Certificate { path: PathBuf, source: CertificateError },
    #[error("{}: {source}", path.display())]
    Roots { path: PathBuf, source: RootsError },
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("no random numbers: {0}")]
    Random(io::Error),
}

impl StateError {
    /// What was given is at fault, not the machine.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Sign(_) | Self::Random(_))
    }
}

/// The folder. It is made when something is first written.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
}

/// Whoever holds it is alone in changing the folder.
#[derive(Debug)]
pub struct Locked {
    _file: File,
}

impl StateDir {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until nobody else changes it. Blocks. Makes the folder, for its owner only.
    pub fn lock(&self) -> Result<Locked, StateError> {
        let path = self.file("lock");
        let refuse = |source| StateError::Io { path: path.clone(), source };
        files::make_private_folder(&self.dir).map_err(refuse)?;
        let file = files::open_lock(&path).map_err(refuse)?;
        file.lock().map_err(refuse)?;
        Ok(Locked { _file: file })
    }

    /// The authority has signed something, or has been promised to somebody.
    pub fn is_in_use(&self) -> Result<bool, StateError> {
        let refuse = |source| StateError::Io { path: self.dir.clone(), source };
        for entry in std::fs::read_dir(&self.dir).map_err(refuse)? {
            let name = entry.map_err(refuse)?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".json") || name.starts_with("server") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn write(&self, _locked: &Locked, name: &str, content: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.file(name);
        files::replace(&path, content, mode).map_err(|source| StateError::Io { path, source })
    }

    /// The rows of a table; none if it was never written.
    pub fn rows<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, StateError> {
        let path = self.file(table);
        let text = match bounded::read(&path, bounded::TABLE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let table: Result<Table<Vec<T>>, _> = serde_json::from_slice(&text);
        table.map(|table| table.rows).map_err(|error| StateError::Content { path, reason: error.to_string() })
    }

    pub fn write_rows<T: Serialize>(
        &self,
        locked: &Locked,
        table: &str,
        rows: &[T],
    ) -> Result<(), StateError> {
        let path = self.file(table);
        let text = serde_json::to_vec_pretty(&Table { rows });
        let text = text.map_err(|error| StateError::Content { path, reason: error.to_string() })?;
        self.write(locked, table, &text, files::PRIVATE)
    }
}

/// An object, so that a later version can say more.
#[derive(Debug, Serialize, Deserialize)]
struct Table<R> {
    rows: R,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_change_a_table_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(&dir.path().join("state"));
        assert_eq!(state.rows::<u64>("numbers.json").unwrap(), Vec::<u64>::new());
        std::thread::scope(|scope| {
            for number in 0..8u64 {
                let state = state.clone();
                scope.spawn(move || {
                    for step in 0..10u64 {
                        let locked = state.lock().unwrap();
                        let mut rows: Vec<u64> = state.rows("numbers.json").unwrap();
                        rows.push(number * 10 + step);
                        state.write_rows(&locked, "numbers.json", &rows).unwrap();
                    }
                });
            }
        });
        let mut rows: Vec<u64> = state.rows("numbers.json").unwrap();
        rows.sort_unstable();
        assert_eq!(rows, (0..80).collect::<Vec<_>>());
        std::fs::write(state.file("numbers.json"), "{").unwrap();
        let error = state.rows::<u64>("numbers.json").unwrap_err().to_string();
        assert!(error.contains("numbers.json"), "{error}");
    }
}
