//! Folders of plain ONNX models, served besides the bundle.
//!
//! A repository holds a folder a model:
//!
//! * `<model>/<version>/model.onnx`, with an optional `<model>/config.pbtxt`, as Triton has them;
//! * `<model>/MLmodel`, or `<model>/<version>/MLmodel`, with an `onnx` flavor, as MLflow writes them;
//! * `<model>/model.onnx`: version 1.
//!
//! What is given may also be such a model's folder itself. It is one if it holds an `MLmodel`, a `config.pbtxt` or a
//! `model.onnx`, or if all of its folders are named by version numbers and hold a model; it is served under its own name.
//!
//! [`loading`]: brings models into the serving room, and keeps what is served when that fails. `layout`: where files
//! lie. `config` and `mlflow`: what is said of a model, held against its file. `followed`: what of it is done.
//! `warmup`: first runs. `file`: reads within bounds. `turns`: one load of a model at a time.

use std::path::{Path, PathBuf};

use millgate_shared::engine::EngineError;

mod config;
mod file;
mod followed;
mod labels;
mod layout;
pub mod loading;
mod mlflow;
mod turns;
mod warmup;

#[cfg(feature = "fuzzing")]
pub(crate) use config::{check as check_config, parse as parse_config};

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("`{0}` must be 1 to 128 letters, digits, `.`, `_` or `-`")]
    Name(String),
    #[error("{}: there is no folder named by a version number, no MLmodel and no model.onnx", .0.display())]
    NoVersion(PathBuf),
    #[error("{}: {message}", path.display())]
    Layout { path: PathBuf, message: String },
    #[error("{}: longer than the {most} bytes that are read", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("{}: leads out of the repository", .0.display())]
    Outside(PathBuf),
    #[error("{}: is no plain file", .0.display())]
    NoFile(PathBuf),
    #[error("{}: changed while it was read; load it again when it is whole", .0.display())]
    Changed(PathBuf),
    #[error("{}: {source}", path.display())]
    Onnx { path: PathBuf, source: EngineError },
    /// In `config.pbtxt`.
    #[error("{}: {message}", path.display())]
    Config { path: PathBuf, message: String },
    /// In `MLmodel`.
    #[error("{}: {message}", path.display())]
    Mlflow { path: PathBuf, message: String },
}

impl RepositoryError {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Layout { path, .. } | Self::TooLarge { path, .. } => Some(path),
            Self::Onnx { path, .. } | Self::Config { path, .. } | Self::Mlflow { path, .. } => Some(path),
            Self::NoVersion(path) | Self::Outside(path) | Self::NoFile(path) | Self::Changed(path) => {
                Some(path)
            }
            Self::Name(_) => None,
        }
    }

    /// The error as clients are told: a file has its name, and not the folders that it lies in.
    pub(crate) fn told(&self) -> String {
        let text = self.to_string();
        let Some(path) = self.path() else { return text };
        let name = path.file_name().unwrap_or_default().display();
        match text.strip_prefix(&path.display().to_string()) {
            Some(rest) => format!("{name}{rest}"),
            None => text,
        }
    }
}
