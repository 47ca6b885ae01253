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

use millgate_base::digest::hex;
use millgate_base::toml_file::TomlError;

pub mod archive;
pub mod report;
pub mod store;

pub use millgate_model::digest::{BundleDigest, NotADigest};
pub use millgate_model::manifest::{self, Manifest};

/// The detached signature's name; it is not among the digests.
pub const SIGNATURE: &str = "model.sig";
/// A manifest larger than this is refused unread, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;

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
    #[error("{file}: {message}")]
    Archive { file: String, message: String },
}

impl BundleError {
    /// There is no bundle at the place that was named.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
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
        let size = path.metadata().map_err(io)?.len();
        if size > MANIFEST_LIMIT {
            return Err(io(io::Error::other(format!("is {size} bytes, over the limit of {MANIFEST_LIMIT}"))));
        }
        let text = std::fs::read_to_string(&path).map_err(io)?;
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
        let mut bytes = Vec::new();
        File::open(&path).map_err(io)?.take(MANIFEST_LIMIT).read_to_end(&mut bytes).map_err(io)?;
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
        let bytes = std::fs::read(&path).map_err(|source| BundleError::Io { path, source })?;
        self.check_digest(file, &hex(&Sha256::digest(&bytes)))?;
        Ok(bytes)
    }

    /// Files of the bundle, relative, sorted; without `bundle.toml`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.manifest.digests.keys().map(String::as_str)
    }

    fn check_files(&self) -> Result<(), BundleError> {
        for file in self.files() {
            let path = self.dir.join(file);
            if !path.is_file() {
                return Err(BundleError::MissingFile { file: file.to_owned() });
            }
            let found = file_digest(&path).map_err(|source| BundleError::Io { path, source })?;
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

fn file_digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}
