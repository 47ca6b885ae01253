//! Labelled samples: a folder of classes, a CSV or a JSONL file; split by group, so that pictures of one part never stand on
//! both sides of a split.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One labelled sample, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As people call it: its path below the folder, or the path in the table.
    pub name: String,
    /// File of each modality.
    pub parts: BTreeMap<String, PathBuf>,
    /// `<product>/<class>`.
    pub label: String,
    /// Samples of one group are never split; its own name if nothing else is known.
    pub group: String,
    /// The split that the data itself names: `train`, `val`, `test`.
    pub split: Option<String>,
}

/// Labelled samples of one or more products.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    pub items: Vec<Item>,
}
