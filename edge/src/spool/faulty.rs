//! A disk in memory that fails on purpose: killed at any write, torn, flipped, full.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use super::disk::Disk;

/// Shared with the test, which outlives the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) aside: BTreeMap<String, Vec<u8>>,
    /// Removed since names were last synced: a power cut brings them back.
    pub(crate) removed: BTreeMap<String, File>,
    /// Made since then: a power cut takes them.
    pub(crate) made: BTreeSet<String>,
    /// Changes until the process is killed; `None`: never.
    pub(crate) lives: Option<u32>,
    /// How many bytes of the write it is killed in still get through.
    pub(crate) torn: usize,
    pub(crate) room: Option<usize>,
    pub(crate) sync_fails: bool,
    pub(crate) truncate_fails: bool,
    pub(crate) names_fail: bool,
    pub(crate) remove_fails: bool,
    pub(crate) reads_short: bool,
    pub(crate) writes: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// On the disk.
    pub(crate) synced: usize,
}

impl Faulty {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// The power comes back: what was not synced is cut to `keep` of it, or filled with zeros; names are as they were when
    /// they were last synced.
    pub(crate) fn power_cut(&self, keep: usize, zeros: bool) {
        self.with(|state| {
            for name in std::mem::take(&mut state.made) {
                state.files.remove(&name);
                state.removed.remove(&name);
            }
            state.files.append(&mut state.removed);
            for file in state.files.values_mut() {
                let end = file.bytes.len().min(file.synced + keep);
                match zeros {
                    true => file.bytes[end..].fill(0),
                    false => file.bytes.truncate(end),
                }
            }
            state.lives = None;
        });
    }

    fn alive<T>(&self, change: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| {
            state.writes += 1;
            let is_killed = match &mut state.lives {
                Some(0) => return Err(io::Error::other("killed")),
                Some(lives) => {
                    *lives -= 1;
                    *lives == 0
                }
                None => false,
            };
            change(state, is_killed)
        })
    }
}

fn killed<T>() -> io::Result<T> {
    Err(io::Error::other("killed"))
}

impl Disk for Faulty {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.with(|state| {
            state.files.iter().map(|(name, file)| (name.clone(), file.bytes.len() as u64)).collect()
        }))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.alive(|state, is_killed| {
            let room = state.room.unwrap_or(usize::MAX);
            let len = match is_killed {
                true => state.torn.min(bytes.len()),
                false => room.min(bytes.len()),
            };
            if !state.files.contains_key(name) {
                state.made.insert(name.to_owned());
            }
            state.files.entry(name.to_owned()).or_default().bytes.extend_from_slice(&bytes[..len]);
            if let Some(room) = &mut state.room {
                *room -= len.min(*room);
            }
            if is_killed {
                return killed();
            }
            if len < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.alive(|state, is_killed| {
            if state.sync_fails {
                return Err(io::Error::other("sync failed"));
            }
            if let Some(file) = state.files.get_mut(name) {
                file.synced = file.bytes.len();
            }
            if is_killed { killed() } else { Ok(()) }
        })
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.alive(|state, is_killed| {
            if is_killed || state.names_fail {
                return killed();
            }
            state.made.clear();
            state.removed.clear();
            Ok(())
        })
    }

    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        self.with(|state| {
            let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
            let found = file.bytes.get(at as usize..at as usize + len);
            match found {
                Some(bytes) if !state.reads_short => Ok(bytes.to_vec()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.alive(|state, is_killed| {
            if state.truncate_fails || is_killed {
                return killed();
            }
            if let Some(file) = state.files.get_mut(name) {
                file.bytes.truncate(len as usize);
                file.synced = file.synced.min(len as usize);
            }
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.alive(|state, is_killed| {
            if is_killed || state.remove_fails {
                return killed();
            }
            if let Some(file) = state.files.remove(name) {
                state.removed.insert(name.to_owned(), file);
            }
            Ok(())
        })
    }

    fn set_aside(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        self.alive(|state, _| Ok(state.aside.insert(name.to_owned(), bytes.to_vec()).is_none()))
    }

    fn aside(&mut self) -> io::Result<(u64, u64)> {
        Ok(self.with(|state| {
            (state.aside.len() as u64, state.aside.values().map(|bytes| bytes.len() as u64).sum())
        }))
    }
}

thread_local! {
    static SALT: RefCell<u32> = const { RefCell::new(1) };
}

/// Another one each time.
pub(crate) fn salt() -> u32 {
    SALT.with(|salt| {
        *salt.borrow_mut() += 1;
        *salt.borrow()
    })
}
