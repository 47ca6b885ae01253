//! A real disk under a store that stops after so many changes, is full, or loses what was not synced.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::disk::{Disk, OnDisk};

/// Shared with the test, which outlives the store.
#[derive(Debug, Clone)]
pub(super) struct Faulty(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    /// Changes until the process is killed; in the last one it gets half through.
    lives: Option<u32>,
    has_stopped: bool,
    /// Bytes that still fit.
    room: Option<usize>,
    /// What a power cut undoes, in the order in which it was done, and the folder whose syncing makes it last.
    unsynced: Vec<(PathBuf, Undo)>,
}

#[derive(Debug)]
enum Undo {
    /// Remove what was made.
    Made(PathBuf),
    /// Rename back; what was at the new name comes back too.
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
}

impl Faulty {
    pub(super) fn new(lives: u32) -> Self {
        Self(Rc::new(RefCell::new(State {
            lives: Some(lives),
            has_stopped: false,
            room: None,
            unsynced: vec![],
        })))
    }

    pub(super) fn full_after(room: usize) -> Self {
        Self(Rc::new(RefCell::new(State {
            lives: None,
            has_stopped: false,
            room: Some(room),
            unsynced: vec![],
        })))
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.0.borrow().has_stopped
    }

    /// Names are as they were when their folder was last synced.
    pub(super) fn cut_power(&self) {
        for (_, undo) in self.0.borrow_mut().unsynced.drain(..).rev() {
            match undo {
                Undo::Made(path) if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                Undo::Made(path) if path.exists() => fs::remove_file(path).unwrap(),
                Undo::Made(_) => {}
                Undo::Renamed { from, to, replaced } => {
                    // A removal that came after it has taken the content.
                    if to.exists() {
                        fs::rename(&to, from).unwrap();
                    }
                    if let Some(bytes) = replaced {
                        fs::write(to, bytes).unwrap();
                    }
                }
            }
        }
    }

    /// Errors once the process is dead; true if it dies in this change.
    fn change(&self) -> io::Result<bool> {
        let mut state = self.0.borrow_mut();
        match &mut state.lives {
            Some(0) => {
                state.has_stopped = true;
                Err(io::Error::other("killed"))
            }
            Some(lives) => {
                *lives -= 1;
                let dies = *lives == 0;
                state.has_stopped |= dies;
                Ok(dies)
            }
            None => Ok(false),
        }
    }

    fn note(&self, path: &Path, undo: Undo) {
        let folder = path.parent().unwrap().to_path_buf();
        self.0.borrow_mut().unsynced.push((folder, undo));
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let dies = self.change()?;
        let room = self.0.borrow().room.unwrap_or(usize::MAX);
        let len = if dies { bytes.len() / 2 } else { bytes.len().min(room) };
        fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(&bytes[..len])?;
        self.note(path, Undo::Made(path.to_path_buf()));
        if let Some(room) = &mut self.0.borrow_mut().room {
            *room -= len;
        }
        match (dies, len < bytes.len()) {
            (true, _) => Err(io::Error::other("killed")),
            (false, true) => Err(io::ErrorKind::StorageFull.into()),
            (false, false) => Ok(()),
        }
    }
}

fn dead<T>(dies: bool, value: T) -> io::Result<T> {
    if dies { Err(io::Error::other("killed")) } else { Ok(value) }
}

impl Disk for Faulty {
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let dies = self.change()?;
        let first = path.ancestors().take_while(|it| !it.exists()).last().unwrap().to_path_buf();
        OnDisk.make_folder(path)?;
        self.note(&first.clone(), Undo::Made(first));
        dead(dies, ())
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.put(to, &fs::read(from)?)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, bytes)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let dies = self.change()?;
        let replaced = fs::read(to).ok();
        OnDisk.rename(from, to)?;
        self.note(to, Undo::Renamed { from: from.to_path_buf(), to: to.to_path_buf(), replaced });
        dead(dies, ())
    }

    fn sync_names(&mut self, folder: &Path) -> io::Result<()> {
        let dies = self.change()?;
        if !dies {
            self.0.borrow_mut().unsynced.retain(|(of, _)| of != folder);
        }
        dead(dies, ())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let dies = self.change()?;
        // Half of it: one file.
        let half = path.join(millgate_model::manifest::FILE_NAME);
        match dies && half.exists() {
            true => fs::remove_file(half)?,
            false => OnDisk.remove(path)?,
        }
        dead(dies, ())
    }
}
