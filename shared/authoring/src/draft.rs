//! A bundle that is being written: its manifest and files in memory, and what is written at once in the end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use millgate_base::bounded;
use millgate_base::digest::sha256_hex;
use millgate_base::toml_file::TomlError;
use millgate_bundle::{Bundle, BundleDigest, BundleError};
use millgate_model::manifest::{FILE_NAME, Manifest};
use toml_edit::{DocumentMut, Item, Table, value};

mod keys;
#[cfg(test)]
mod tests;
mod version;
mod write;

pub use keys::{lines, replace};
pub use version::Step;

/// A manifest larger than this is not read, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;

/// A bundle in memory.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// `bundle.toml`; its digests are filled in when it is written.
    pub manifest: DocumentMut,
    /// Content of every other file by its path in the bundle.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Why a draft cannot be had, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: is there already, and not as an empty folder: name another place (`--out`)", .0.display())]
    Occupied(PathBuf),
    #[error("bundle.toml: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    #[error("bundle.toml: `{key}`: {message}")]
    Key { key: String, message: String },
    #[error(transparent)]
    Manifest(#[from] TomlError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl DraftError {
    pub(crate) fn key(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Key { key: key.into(), message: message.into() }
    }
}

impl Draft {
    /// A draft of a bundle as it is, with the comments and the order of its manifest. A signature is not taken over: it is
    /// not one of what will be written.
    pub fn open(bundle: &Bundle) -> Result<Self, DraftError> {
        let path = bundle.dir().join(FILE_NAME);
        let text = bounded::read_to_string(&path, MANIFEST_LIMIT);
        let text = text.map_err(|source| DraftError::Io { path: path.clone(), source })?;
        if BundleDigest::of(text.as_bytes()) != bundle.digest() {
            let source = io::Error::other("has changed since it was opened");
            return Err(DraftError::Io { path, source });
        }
        let files = bundle.files().map(|file| Ok((file.to_owned(), bundle.read(file)?)));
        Ok(Self { manifest: text.parse()?, files: files.collect::<Result<_, BundleError>>()? })
    }

    /// Puts a file in, in the place of one that is there.
    pub fn insert(&mut self, file: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.files.insert(file.into(), content.into());
    }

    /// Takes out every file whose path begins so.
    pub fn remove_below(&mut self, prefix: &str) {
        self.files.retain(|file, _| !file.starts_with(prefix));
    }

    /// The text of `bundle.toml`, its digests being those of the files.
    pub fn text(&self) -> String {
        let mut manifest = self.manifest.clone();
        let mut digests = Table::new();
        for (file, content) in &self.files {
            digests.insert(file, value(format!("sha256:{}", sha256_hex(content))));
        }
        let digests = match manifest.get_mut("digests").and_then(Item::as_table_mut) {
            Some(old) => {
                // What stands around the table stays.
                *digests.decor_mut() = old.decor().clone();
                digests.set_position(old.position());
                digests
            }
            None => digests,
        };
        manifest.insert("digests", Item::Table(digests));
        manifest.to_string()
    }

    /// The manifest as it would be read of what is written.
    pub fn parsed(&self) -> Result<Manifest, DraftError> {
        Ok(Manifest::parse(&self.text())?)
    }

    /// Writes the bundle: whole, or not at all. It is opened, and so checked, before it is moved to its place, which must
    /// not be there yet or be an empty folder.
    pub fn write(&self, dir: &Path) -> Result<Bundle, DraftError> {
        write::write(self, dir)
    }

    /// A copy on disk that goes away with what is given, to be run before it is written.
    pub fn trial(&self, beside: &Path) -> Result<Trial, DraftError> {
        write::trial(self, beside)
    }
}

pub use write::Trial;
