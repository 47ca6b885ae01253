//! A bundle on disk: opened, its digests checked. The format is `docs/bundles.md`.
//!
//! [`Bundle::open`] checks everything that needs no model; the crate `millgate-mixture` runs the models against their golden
//! samples (its room `proof`). Nothing is used before both.
//!
//! * [`archive`]: a bundle as one file. [`store`]: the bundles that a process keeps copies of, and which is active.
//!   [`report`]: what commands are told of them.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use millgate_bundle::Bundle;
//!
//! let bundle = Bundle::open(Path::new("models/factory"))?;
//! println!("{} {} ({})", bundle.manifest().name, bundle.manifest().version, bundle.digest());
//! # Ok::<(), millgate_bundle::BundleError>(())
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use millgate_base::bounded::{self, TooLarge};
use millgate_base::digest::hex;
use millgate_base::toml_file::TomlError;
use millgate_base::trouble::{self, Fault};

pub mod archive;
pub mod report;
pub mod store;

pub use millgate_model::digest::{BundleDigest, NotADigest};
pub use millgate_model::manifest::{self, Manifest};

/// The detached signature's name; it is not among the digests.
pub const SIGNATURE: &str = "model.sig";
/// A manifest larger than this is refused unread, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// Most files of a bundle.
const MAX_FILES: usize = 10_000;
/// Most bytes of a bundle's files together.
const MAX_BYTES: u64 = 8 << 30;

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Manifest(#[from] TomlError),
    #[error("{file}: is named in bundle.toml but missing")]
    MissingFile { file: String },
    #[error("{file}: digest is sha256:{found}, `digests` says {expected}")]
    Digest { file: String, expected: String, found: String },
    #[error("{file}: is not listed in `digests`")]
    Unlisted { file: String },
    #[error("{file}: {source}")]
    Model { file: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{file}: {message}")]
    Golden { file: String, message: String },
    #[error("{file}: {message}")]
    Variant { file: String, message: String },
    #[error("{file}: {source}")]
    Archive { file: String, source: io::Error },
}

impl BundleError {
    /// There is no bundle at the place that was named.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The machine did not let the bundle be read, which says nothing of it.
    pub fn is_of_machine(&self) -> bool {
        let cause = trouble::cause(self);
        cause.is_some_and(|error| matches!(trouble::judge(error), Fault::Machine(_)))
    }
}

/// A bundle whose files are all there and unaltered.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    digest: BundleDigest,
    /// Where an archive was unpacked to; removed with the bundle.
    _unpacked: Option<tempfile::TempDir>,
}

impl Bundle {
    /// Opens a directory or a `.tar.zst`, and checks manifest and digests.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        if path.is_file() {
            let unpacked = archive::unpack(path)?;
            let mut bundle = Self::open_dir(unpacked.path())?;
            bundle._unpacked = Some(unpacked);
            return Ok(bundle);
        }
        Self::open_dir(path)
    }

    fn open_dir(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(manifest::FILE_NAME);
        let io = |source| BundleError::Io { path: path.clone(), source };
        let text = bounded::read_to_string(&path, MANIFEST_LIMIT).map_err(io)?;
        let manifest = Manifest::parse(&text)?;
        let digest = BundleDigest::of(text.as_bytes());
        let bundle = Self { dir: dir.to_path_buf(), manifest, digest, _unpacked: None };
        bundle.check_files()?;
        Ok(bundle)
    }

    /// The digest of the bundle at a path, without a look at its other files: enough to tell one bundle from another.
    pub fn digest_at(path: &Path) -> Result<BundleDigest, BundleError> {
        if path.is_file() {
            return archive::manifest_bytes(path).map(|bytes| BundleDigest::of(&bytes));
        }
        let path = path.join(manifest::FILE_NAME);
        let io = |source| BundleError::Io { path: path.clone(), source };
        let bytes = bounded::read(&path, MANIFEST_LIMIT).map_err(io)?;
        Ok(BundleDigest::of(&bytes))
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn digest(&self) -> BundleDigest {
        self.digest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn is_signed(&self) -> bool {
        self.dir.join(SIGNATURE).is_file()
    }

    /// A file of the bundle; what is read is what was checked, or an error.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, BundleError> {
        let path = self.dir.join(file);
        let bytes = bounded::read(&path, MAX_BYTES).map_err(|source| BundleError::Io { path, source })?;
        self.check_digest(file, &hex(&Sha256::digest(&bytes)))?;
        Ok(bytes)
    }

    /// Files of the bundle, relative, sorted; without `bundle.toml`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.manifest.digests.keys().map(String::as_str)
    }

    fn check_files(&self) -> Result<(), BundleError> {
        let count = self.files().count();
        if count > MAX_FILES {
            let path = self.dir.join(manifest::FILE_NAME);
            let message = format!("lists {count} files, a bundle has at most {MAX_FILES}");
            let source = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(BundleError::Io { path, source });
        }
        let mut left = MAX_BYTES;
        for file in self.files() {
            let path = self.dir.join(file);
            if !path.is_file() {
                return Err(BundleError::MissingFile { file: file.to_owned() });
            }
            let found = file_digest(&path, &mut left).map_err(|source| BundleError::Io { path, source })?;
            self.check_digest(file, &found)?;
        }
        self.check_unlisted(&self.dir, "")
    }

    fn check_digest(&self, file: &str, found: &str) -> Result<(), BundleError> {
        let expected = self.manifest.digests.get(file).map_or("", String::as_str);
        if expected.strip_prefix("sha256:") == Some(found) {
            return Ok(());
        }
        Err(BundleError::Digest {
            file: file.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
    }

    fn check_unlisted(&self, dir: &Path, prefix: &str) -> Result<(), BundleError> {
        let io = |source| BundleError::Io { path: dir.to_path_buf(), source };
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let file = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(io)?.is_dir() {
                self.check_unlisted(&entry.path(), &format!("{file}/"))?;
            } else if file != manifest::FILE_NAME
                && file != SIGNATURE
                && !self.manifest.digests.contains_key(&file)
            {
                return Err(BundleError::Unlisted { file });
            }
        }
        Ok(())
    }
}

/// Digest of a file, and what is left of the bytes that a bundle may have.
fn file_digest(path: &Path, left: &mut u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    // A sparse file is refused by its size, and one that grows once it has grown too much.
    let most = *left;
    bounded::size_of(&file, most).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => beyond(&error),
        // The machine's trouble is none of the bundle's.
        _ => error,
    })?;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        *left = left
            .checked_sub(read as u64)
            .ok_or_else(|| beyond(&io::Error::from(TooLarge::Endless { most })))?;
        hasher.update(&buffer[..read]);
    }
}

fn beyond(error: &io::Error) -> io::Error {
    let what = format!("{error}: a bundle's files are at most {MAX_BYTES} bytes together");
    io::Error::new(io::ErrorKind::FileTooLarge, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_bundle_have_a_bound_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.onnx");
        std::fs::write(&path, b"12345").unwrap();
        let mut left = 12;
        for expected in [7, 2] {
            assert_eq!(file_digest(&path, &mut left).unwrap(), hex(&Sha256::digest(b"12345")));
            assert_eq!(left, expected);
        }
        let error = file_digest(&path, &mut left).unwrap_err().to_string();
        assert!(error.starts_with("is 5 bytes, more than the 2 that are read"), "{error}");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = file_digest(&path, &mut { MAX_BYTES }).unwrap_err().to_string();
        assert!(error.contains("1099511627776") && error.contains("8589934592 bytes together"), "{error}");
        let error = file_digest(Path::new("/dev/zero"), &mut 1_000_000).unwrap_err().to_string();
        assert!(error.contains("more than the 1000000"), "{error}");
    }
}
