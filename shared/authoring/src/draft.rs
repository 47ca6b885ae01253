//! A bundle that is being written: its manifest and files in memory, and what is written at once in the end.

use std::collections::BTreeMap;

use toml_edit::DocumentMut;

/// A bundle in memory.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// `bundle.toml`; its digests are filled in when it is written.
    pub manifest: DocumentMut,
    /// Content of every other file by its path in the bundle.
    pub files: BTreeMap<String, Vec<u8>>,
}
