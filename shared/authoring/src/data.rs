//! Labelled samples: a folder of classes, a CSV or a JSONL file; split by group, so that pictures of one part never stand on
//! both sides of a split.
//!
//! ```text
//! DIR/<class>/x.png                with a product given: `<product>/<class>`
//! DIR/<product>/<class>/x.png      without; a folder below a class is one group
//! x.template.png beside x.png      the modality `template` of the same sample
//! TABLE.csv, TABLE.jsonl           columns `image` (or `path`), `label`, and if need be `group`, `split` and other modalities
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use millgate_base::bounded;
use millgate_model::manifest::{Manifest, Task};
use millgate_sample::part::{Limits, Part};
use millgate_sample::sample::{self, Read};

mod folder;
mod naming;
mod pictures;
mod split;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use naming::Naming;

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

/// How labelled data is read.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Names the files of a sample.
    pub naming: &'a Naming,
    /// The product of classes that are named without one.
    pub product: Option<&'a str>,
    /// Least pictures of a class; 1 where nothing is fitted.
    pub least_of_a_class: usize,
}

/// Why data cannot be taken. It names the file, and the row or the key where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {message}", path.display())]
    Folder { path: PathBuf, message: String },
    #[error("{}:{row}: `{key}`: {message}", path.display())]
    Row { path: PathBuf, row: u64, key: String, message: String },
    #[error("{}: `{key}`: {message}", path.display())]
    Table { path: PathBuf, key: String, message: String },
    #[error("class `{label}` has {got} picture{}, and at least {least} are needed: add pictures, or take the class away", if *.got == 1 { "" } else { "s" })]
    FewOfAClass { label: String, got: usize, least: usize },
    #[error(
        "`{first}` and `{second}` are the same picture, labelled `{first_label}` and `{second_label}`: one of them is wrong"
    )]
    TwoLabels { first: String, first_label: String, second: String, second_label: String },
    #[error("`{name}` is labelled `{label}`, which is not a label of task `{task}`: it has {known}")]
    UnknownLabel { name: String, label: String, task: String, known: String },
    #[error("{}: modality `{modality}`: {message}", path.display())]
    Picture { path: PathBuf, modality: String, message: String },
}

impl DataError {
    pub(crate) fn folder(path: &Path, message: impl Into<String>) -> Self {
        Self::Folder { path: path.to_path_buf(), message: message.into() }
    }
}

impl Item {
    /// Reads its files.
    pub fn read(&self, manifest: &Manifest) -> Result<Read, DataError> {
        let limits = Limits::default();
        let mut parts = Vec::with_capacity(self.parts.len());
        for (modality, path) in &self.parts {
            let bytes = bounded::read(path, limits.max_bytes);
            let bytes = bytes.map_err(|source| DataError::Io { path: path.clone(), source })?;
            parts.push(Part::file(modality, bytes));
        }
        sample::read(&manifest.modalities, &parts, &limits).map_err(|unread| {
            let path = self.parts.get(&unread.modality).cloned().unwrap_or_default();
            DataError::Picture { path, message: unread.to_string(), modality: unread.modality }
        })
    }
}

/// The file of labelled data in a folder that an agent has exported.
const EXPORTED: &str = "labels.jsonl";

impl Labelled {
    /// Reads a folder of classes, a `.csv` or a `.jsonl`, or a folder with a `labels.jsonl`, in an order that does not depend on the machine. No picture is
    /// decoded; each is hashed, so that the same one in two classes is refused, and twice in one class is one group.
    pub fn read(path: &Path, asked: &Asked<'_>) -> Result<Self, DataError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        let items = match ending.as_deref() {
            // What `millgate-edge label export` has written.
            _ if path.join(EXPORTED).is_file() => table::read_jsonl(&path.join(EXPORTED), asked)?,
            _ if path.is_dir() => folder::read(path, asked)?,
            Some("csv") => table::read_csv(path, asked)?,
            Some("jsonl" | "ndjson") => table::read_jsonl(path, asked)?,
            _ => {
                let source = path.metadata().err();
                let message = "is neither a folder of classes nor a `.csv` or `.jsonl` file";
                return Err(match source {
                    Some(source) => DataError::Io { path: path.to_path_buf(), source },
                    None => DataError::folder(path, message),
                });
            }
        };
        let mut labelled = Self { items };
        if labelled.items.is_empty() {
            return Err(DataError::folder(path, "holds no labelled pictures"));
        }
        labelled.check_classes(asked.least_of_a_class)?;
        pictures::group_same(&mut labelled.items)?;
        Ok(labelled)
    }

    /// Number of samples of each label.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for item in &self.items {
            *counts.entry(item.label.as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// The samples at these places.
    pub fn subset(&self, at: impl IntoIterator<Item = usize>) -> Self {
        Self { items: at.into_iter().filter_map(|at| self.items.get(at)).cloned().collect() }
    }

    /// The samples that the data itself puts into one of these splits.
    pub fn of_splits(&self, names: &[&str]) -> Self {
        let is_of = |item: &&Item| item.split.as_deref().is_some_and(|split| names.contains(&split));
        Self { items: self.items.iter().filter(is_of).cloned().collect() }
    }

    /// Refuses a label that the task does not have.
    pub fn check_labels(&self, task: &Task) -> Result<(), DataError> {
        let Some(item) = self.items.iter().find(|item| !task.labels.contains(&item.label)) else {
            return Ok(());
        };
        Err(DataError::UnknownLabel {
            name: item.name.clone(),
            label: item.label.clone(),
            task: task.name.clone(),
            known: task.labels.join(", "),
        })
    }

    fn check_classes(&self, least: usize) -> Result<(), DataError> {
        match self.counts().into_iter().find(|(_, count)| *count < least) {
            Some((label, got)) => Err(DataError::FewOfAClass { label: label.to_owned(), got, least }),
            None => Ok(()),
        }
    }
}

/// The label of a class as it was named, `<product>/<class>` or, of the product that was given, `<class>`.
fn label(named: &str, product: Option<&str>) -> Result<String, String> {
    let is_whole =
        |product: &str, class: &str| !product.is_empty() && !class.is_empty() && !class.contains('/');
    match (named.split_once('/'), product) {
        (Some((of, class)), Some(product)) if of != product => {
            Err(format!("`{named}` is of product `{of}` (class `{class}`), and `{product}` was asked for"))
        }
        (Some((of, class)), _) if is_whole(of, class) => Ok(named.to_owned()),
        (None, Some(product)) if is_whole(product, named) => Ok(format!("{product}/{named}")),
        (None, None) if !named.is_empty() => {
            Err(format!("`{named}` is not `<product>/<class>`, and no product was given (`--product`)"))
        }
        _ => Err(format!("`{named}` is not `<product>/<class>`")),
    }
}
