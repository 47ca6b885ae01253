//! The byte budget's file in the state directory. It is replaced as a whole, so that it is never half of one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use millgate_shared::trouble::{self, Fault};
use millgate_shared::{bounded, files};
use serde::{Deserialize, Serialize};

use super::budget::Saved;
use super::elapsed::Moment;

/// The file's name in the state directory.
pub(super) const FILE_NAME: &str = "budget.json";

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// When it was written.
    pub(super) moment: Moment,
    /// The metered switch, if it was used.
    pub(super) metered: Option<bool>,
    pub(super) budget: Saved,
}

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: is not what the agent wrote: {source}", path.display())]
    Text { path: PathBuf, source: serde_json::Error },
}

impl KeptError {
    /// Whether reading the file again changes nothing.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::File { source, .. } => trouble::judge(source) == Fault::Itself,
            Self::Text { .. } => true,
        }
    }
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

impl Kept {
    /// `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, KeptError> {
        let text = match bounded::read(path, bounded::RECORD) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeptError::File { path: path.to_owned(), source }),
        };
        let kept = serde_json::from_slice(&text);
        kept.map(Some).map_err(|source| KeptError::Text { path: path.to_owned(), source })
    }

    /// On disk when it returns, or not there at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), KeptError> {
        let text =
            serde_json::to_vec(self).map_err(|source| KeptError::Text { path: path.to_owned(), source })?;
        files::replace(path, &text, files::PRIVATE)
            .map_err(|source| KeptError::File { path: path.to_owned(), source })
    }
}
