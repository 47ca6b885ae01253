//! The binary's subcommands. Each writes what was asked for to the `out` it is given, and gives an error that says
//! whether the input or the work was at fault.

use std::io;
use std::path::PathBuf;

use millgate_shared::bundle::BundleError;
use millgate_shared::identity::dial::DialError;
pub use millgate_shared::output::Output;

use crate::config::ConfigError;
use crate::engines::install::InstallError;
use crate::identity::StateError;
use crate::server::ServeError;

pub mod bundle;
pub mod check;
pub mod engine;
pub mod experts;
pub mod identity;
pub mod serve;
mod table;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(Box<ServeError>),
    #[error("bundle {}: {source}", path.display())]
    Bundle { path: PathBuf, source: Box<BundleError> },
    #[error("pool {0}")]
    Dial(DialError),
    #[error("`{url}` is not a URL such as http://127.0.0.1:8001")]
    Url { url: String },
    #[error("pool {url}: {reason}")]
    Pool { url: String, reason: String },
    #[error("{0} calls were cut when the grace was over")]
    Cut(usize),
    #[error("{0} models cannot be served")]
    NotServed(usize),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("no pool answers for {}: {reason}", state_dir.display())]
    Silent { state_dir: PathBuf, reason: String },
    /// A running pool does not switch its bundle.
    #[error("{message}")]
    Switch { message: String, is_bad_input: bool },
    /// A flag's value.
    #[error("{0}")]
    Value(String),
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

impl CommandError {
    /// What was given is at fault (exit code 2), not the machine, the peer or the work (exit code 1).
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Bundle { source, .. } => !source.is_of_machine(),
            Self::Config(_) | Self::Url { .. } | Self::NotServed(_) | Self::Value(_) => true,
            Self::State(error) => error.is_bad_input(),
            Self::Install(error) => error.is_bad_input(),
            Self::Serve(error) => error.is_bad_input(),
            Self::Switch { is_bad_input, .. } => *is_bad_input,
            Self::Silent { .. } => false,
            Self::Pool { .. } | Self::Dial(_) | Self::Cut(_) | Self::Io(_) => false,
        }
    }
}

impl CommandError {
    /// For a service (`serve`): only a change of the configuration or of the flags helps (exit code 2), and starting again
    /// does not (exit code 1).
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config(error) => error.is_final(),
            Self::Serve(error) => error.is_final(),
            Self::Url { .. } | Self::Value(_) => true,
            Self::Bundle { .. }
            | Self::Dial(_)
            | Self::Pool { .. }
            | Self::Cut(_)
            | Self::NotServed(_)
            | Self::State(_)
            | Self::Install(_)
            | Self::Silent { .. }
            | Self::Switch { .. }
            | Self::Io(_) => false,
        }
    }
}

impl From<ServeError> for CommandError {
    fn from(error: ServeError) -> Self {
        Self::Serve(Box::new(error))
    }
}
