//! The bundles that a process keeps copies of in its state directory, so that a switch, a rollback and a restart depend on
//! no path that somebody may change.
//!
//! ```text
//! <state directory>/bundles/active.toml    which is active, which was before, which was configured: see `record`
//!                           <sha256>/       a whole bundle, under its digest
//!                           <sha256>.toml   the manifest alone of one that has gone: somebody still needs it
//!                           .new, .old-…    half of a copy, half removed: swept when the store is opened
//! ```
//!
//! A switch is [`Store::take`] (copy, check), whatever else the process wants to prove, and [`Store::commit`], which
//! replaces one file by rename. A kill or a power cut at any point leaves the old record or the new one, and each bundle
//! that a record names is whole before the record is. [`Store::tidy`] removes what is not needed any more.
//!
//! One process has a store at a time; [`look`], [`bundle_in`] and [`manifest_in`] read one that is in use.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::manifest::{self, Manifest};
use super::{Bundle, BundleDigest, BundleError, SIGNATURE};
use disk::{Disk, OnDisk};
use millgate_base::digest::hex;
use millgate_base::trouble::{self, Fault};
use millgate_base::{bounded, files};
pub use record::{NotARecord, Record};

mod disk;
mod record;
#[cfg(test)]
mod tests;

/// The store's folder in the state directory.
pub const DIR_NAME: &str = "bundles";
/// The record's file in that folder.
pub const RECORD_NAME: &str = "active.toml";
/// A record that could not be understood is kept under this name.
const DAMAGED_NAME: &str = "active.toml.damaged";
const NEW: &str = ".new";
const OLD: &str = ".old-";

/// Why a store could not do what it was asked for. What was active before is active still.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: another process has these bundles in use", path.display())]
    Busy { path: PathBuf },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// What was copied is not what was to be copied: the source has changed meanwhile, or the disk does not keep what it is given.
    #[error("the copy of the bundle: {0}")]
    Copy(Box<BundleError>),
    #[error("the copy of the bundle has the digest {found}, not {expected}")]
    Changed { expected: BundleDigest, found: BundleDigest },
}

/// Bundles of one state directory, held by this process.
#[derive(Debug)]
pub struct Store<D = OnDisk> {
    dir: PathBuf,
    record: Option<Record>,
    disk: D,
    /// The folder, locked.
    _lock: File,
}

/// Reads the record of a state directory without holding its store; `None` where there is none, or none that can be
/// understood.
pub fn look(state_dir: &Path) -> Result<Option<Record>, StoreError> {
    Ok(read_record(&state_dir.join(DIR_NAME))?.and_then(Result::ok))
}

/// Opens the copy that a state directory has of a bundle, without holding its store; its files are checked.
pub fn bundle_in(state_dir: &Path, digest: BundleDigest) -> Result<Bundle, BundleError> {
    open(&state_dir.join(DIR_NAME), digest)
}

/// Reads the manifest of a bundle that a state directory has, or had and still needs, without holding its store; `None`
/// where nothing of it is left.
pub fn manifest_in(state_dir: &Path, digest: BundleDigest) -> Result<Option<Manifest>, StoreError> {
    manifest_of(&state_dir.join(DIR_NAME), digest)
}

fn manifest_of(dir: &Path, digest: BundleDigest) -> Result<Option<Manifest>, StoreError> {
    for path in [dir.join(name(digest)).join(manifest::FILE_NAME), dir.join(format!("{}.toml", name(digest)))]
    {
        let text = match bounded::read_to_string(&path, super::MANIFEST_LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        // One that is damaged is as good as none.
        if Sha256::digest(&text)[..] == digest.as_bytes()[..] {
            return Ok(Manifest::parse(&text).ok());
        }
    }
    Ok(None)
}

impl Store {
    /// Opens the store of a state directory, or makes an empty one. Removes what a kill has left half done.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        Self::open_on(OnDisk, state_dir)
    }

    /// Opens the store of a state directory, if there is one.
    pub fn existing(state_dir: &Path) -> Result<Option<Self>, StoreError> {
        if state_dir.join(DIR_NAME).is_dir() { Self::open(state_dir).map(Some) } else { Ok(None) }
    }
}

impl<D: Disk> Store<D> {
    fn open_on(mut disk: D, state_dir: &Path) -> Result<Self, StoreError> {
        let dir = state_dir.join(DIR_NAME);
        // A link whose end cannot be looked at says nothing: the disk behind it may not be there yet.
        if dir.metadata().is_ok_and(|found| !found.is_dir()) {
            let aside = files::set_aside(&dir);
            tracing::error!(path = %dir.display(), ?aside, "what should be the folder of bundles is none; it is set aside and begun anew");
        }
        disk.make_folder(&dir).map_err(|source| StoreError::Write { path: dir.clone(), source })?;
        let lock = File::open(&dir).map_err(|source| StoreError::Read { path: dir.clone(), source })?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StoreError::Busy { path: dir.clone() },
            error => StoreError::Read { path: dir.clone(), source: error.into() },
        })?;
        let record = match read_record(&dir) {
            // No file at all: a folder lies in its place.
            Err(StoreError::Read { path, source }) if trouble::judge(&source) == Fault::Itself => {
                let aside = files::set_aside(&path);
                tracing::error!(path = %path.display(), error = %source, ?aside, "which bundle was active cannot be read; set aside");
                None
            }
            read => read?,
        };
        let record = match record {
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => {
                let path = dir.join(RECORD_NAME);
                tracing::error!(path = %path.display(), %error, "which bundle was active cannot be read; set aside");
                disk.rename(&path, &dir.join(DAMAGED_NAME))
                    .map_err(|source| StoreError::Write { path, source })?;
                None
            }
            None => None,
        };
        let mut this = Self { dir, record, disk, _lock: lock };
        this.sweep(|name| name == NEW || name.starts_with(OLD));
        Ok(this)
    }

    /// Which bundles are active, before and configured; `None` until the first [`Self::commit`].
    pub fn record(&self) -> Option<Record> {
        self.record
    }

    /// Opens this store's own copy of a bundle; its files are checked. An error with [`BundleError::is_absent`]: there is
    /// no copy.
    pub fn bundle(&self, digest: BundleDigest) -> Result<Bundle, BundleError> {
        open(&self.dir, digest)
    }

    /// Reads the manifest of a bundle that is here, or was here and is still needed; `None` where nothing of it is left.
    pub fn manifest(&self, digest: BundleDigest) -> Result<Option<Manifest>, StoreError> {
        manifest_of(&self.dir, digest)
    }

    /// Makes a copy of a bundle, or finds the one that is there, and checks it. Nothing is switched yet: a copy that no
    /// record names goes with the next [`Self::tidy`].
    pub fn take(&mut self, bundle: &Bundle) -> Result<Bundle, StoreError> {
        let digest = bundle.digest();
        let path = self.dir.join(name(digest));
        if path.exists() {
            match self.bundle(digest) {
                Ok(own) => {
                    // The name may be one that a kill has kept from being synced.
                    self.sync_names()?;
                    return Ok(own);
                }
                Err(error) => {
                    tracing::error!(%digest, %error, "the copy of this bundle is damaged; it is made anew");
                    self.remove(&name(digest))?;
                }
            }
        }
        let new = self.dir.join(NEW);
        let copied = self.copy(bundle, &new).and_then(|()| {
            let copy = Bundle::open(&new).map_err(|error| StoreError::Copy(Box::new(error)))?;
            if copy.digest() != digest {
                return Err(StoreError::Changed { expected: digest, found: copy.digest() });
            }
            self.disk
                .rename(&new, &path)
                .map_err(|source| StoreError::Write { path: path.clone(), source })?;
            self.sync_names()
        });
        if let Err(error) = copied {
            // A full disk needs the room.
            self.sweep(|name| name == NEW);
            return Err(error);
        }
        self.bundle(digest).map_err(|error| StoreError::Copy(Box::new(error)))
    }

    /// Writes which bundle is active from now on; each that the record names must have been taken. After an error the
    /// record is the one before, on the disk too.
    pub fn commit(&mut self, record: Record) -> Result<(), StoreError> {
        if self.record == Some(record) {
            return Ok(());
        }
        let before = self.record;
        self.write_record(&record)?;
        self.record = Some(record);
        let synced = self.sync_names();
        if synced.is_err() {
            // Which of both a power cut would leave is not known; the process goes on with the one before.
            let restored = match before {
                Some(before) => self.write_record(&before),
                None => self.remove(RECORD_NAME),
            };
            if restored.is_ok() {
                self.record = before;
            }
        }
        synced
    }

    /// Removes the bundles that are neither active nor the one before. Of those in `manifests` the manifest is kept, until
    /// a later call names them no more. What cannot be removed is tried again the next time.
    pub fn tidy(&mut self, manifests: &BTreeSet<BundleDigest>) {
        let kept: BTreeSet<String> = self.record.iter().flat_map(Record::bundles).map(name).collect();
        let wanted: BTreeSet<String> = manifests.iter().copied().map(name).collect();
        for found in self.names() {
            let Some(digest) = found.strip_suffix(".toml").or(Some(&found)).filter(|it| is_digest(it)) else {
                continue;
            };
            let is_needed = match found.ends_with(".toml") {
                true => wanted.contains(digest),
                false => kept.contains(digest),
            };
            if is_needed || wanted.contains(digest) && !self.keep_manifest(&found) {
                continue;
            }
            if let Err(error) = self.remove(&found) {
                tracing::warn!(%error, "a bundle that is needed no more stays for now");
            }
        }
    }

    /// Keeps the manifest of a bundle that is about to go; false if that did not work.
    fn keep_manifest(&mut self, found: &str) -> bool {
        let to = self.dir.join(format!("{found}.toml"));
        if to.exists() {
            return true;
        }
        let (from, new) = (self.dir.join(found).join(manifest::FILE_NAME), self.dir.join(NEW));
        let kept = (self.disk.copy(&from, &new))
            .and_then(|()| self.disk.rename(&new, &to))
            .and_then(|()| self.disk.sync_names(&self.dir));
        if let Err(error) = &kept {
            tracing::warn!(bundle = found, %error, "its manifest cannot be kept apart; the whole bundle stays");
            self.sweep(|name| name == NEW);
        }
        kept.is_ok()
    }

    /// Copies every file of a bundle; all of it is on the disk when this returns.
    fn copy(&mut self, bundle: &Bundle, to: &Path) -> Result<(), StoreError> {
        self.sweep(|name| name == NEW);
        let write = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Write { path, source }
        };
        self.disk.make_folder(to).map_err(write(to))?;
        let signature = bundle.is_signed().then_some(SIGNATURE);
        let files = [manifest::FILE_NAME].into_iter().chain(signature).chain(bundle.files());
        let mut folders = BTreeSet::from([to.to_path_buf()]);
        for file in files {
            let target = to.join(file);
            for folder in target.ancestors().skip(1).take_while(|folder| *folder != to) {
                if folders.insert(folder.to_path_buf()) {
                    self.disk.make_folder(folder).map_err(write(folder))?;
                }
            }
            self.disk.copy(&bundle.dir().join(file), &target).map_err(write(&target))?;
        }
        // Inner folders first.
        for folder in folders.iter().rev() {
            self.disk.sync_names(folder).map_err(write(folder))?;
        }
        Ok(())
    }

    fn write_record(&mut self, record: &Record) -> Result<(), StoreError> {
        let (path, new) = (self.dir.join(RECORD_NAME), self.dir.join(NEW));
        self.sweep(|name| name == NEW);
        let written = (self.disk.write(&new, record.to_string().as_bytes()))
            .and_then(|()| self.disk.rename(&new, &path))
            .map_err(|source| StoreError::Write { path, source });
        if written.is_err() {
            self.sweep(|name| name == NEW);
        }
        written
    }

    fn sync_names(&mut self) -> Result<(), StoreError> {
        let path = &self.dir;
        self.disk.sync_names(path).map_err(|source| StoreError::Write { path: path.clone(), source })
    }

    /// Under another name first, so that half a bundle never has the name of a whole one.
    fn remove(&mut self, found: &str) -> Result<(), StoreError> {
        let (path, old) = (self.dir.join(found), self.dir.join(format!("{OLD}{found}")));
        let refuse = |source| StoreError::Write { path: path.clone(), source };
        if old.exists() {
            self.disk.remove(&old).map_err(refuse)?;
        }
        self.disk.rename(&path, &old).map_err(refuse)?;
        self.disk.sync_names(&self.dir).map_err(refuse)?;
        self.disk.remove(&old).map_err(refuse)
    }

    /// Removes what has such a name; what cannot be removed is left for the next time.
    fn sweep(&mut self, is_swept: impl Fn(&str) -> bool) {
        for found in self.names().iter().filter(|found| is_swept(found)) {
            if let Err(error) = self.disk.remove(&self.dir.join(found)) {
                tracing::warn!(name = found, %error, "cannot be removed from the bundles");
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).map_err(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot be listed");
        });
        let named = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        entries.into_iter().flatten().filter_map(named).collect()
    }
}

/// Opens the copy of a bundle that lies in a store's folder.
fn open(dir: &Path, digest: BundleDigest) -> Result<Bundle, BundleError> {
    let bundle = Bundle::open(&dir.join(name(digest)))?;
    if bundle.digest() == digest {
        return Ok(bundle);
    }
    let (expected, found) = (digest.to_string(), hex(bundle.digest().as_bytes()));
    Err(BundleError::Digest { file: manifest::FILE_NAME.to_owned(), expected, found })
}

/// A bundle's folder in the store.
fn name(digest: BundleDigest) -> String {
    hex(digest.as_bytes())
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The record of a store's folder; `None` where there is none.
fn read_record(dir: &Path) -> Result<Option<Result<Record, NotARecord>>, StoreError> {
    let path = dir.join(RECORD_NAME);
    match bounded::read(&path, bounded::RECORD) {
        Ok(bytes) => Ok(Some(Record::read(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path, source }),
    }
}
