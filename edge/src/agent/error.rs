//! Why an input got no decision.

use millgate_shared::image::DecodeError;
use millgate_shared::local::LocalError;
use millgate_shared::workers::WorkError;

/// Messages do not repeat the input's path: whoever reports one knows it.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    #[error("modality `{0}`: is not one of this bundle")]
    UnknownModality(String),
    #[error("modality `{0}`: is given twice")]
    DoubleModality(String),
    #[error("{}{source}", modality_prefix(modality))]
    Decode { modality: String, source: DecodeError },
    #[error(transparent)]
    Local(LocalError),
    #[error(transparent)]
    Workers(WorkError),
}

/// The picture itself needs no naming.
fn modality_prefix(modality: &str) -> String {
    if modality == "image" { String::new() } else { format!("{modality}: ") }
}

impl DecideError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownModality(_) => "unknown_modality",
            Self::DoubleModality(_) => "double_modality",
            Self::Decode { source, .. } => source.code(),
            Self::Local(LocalError::UnknownTask(_)) => "unknown_task",
            Self::Local(LocalError::Gate(_)) => "gate_failed",
            Self::Local(LocalError::Deciding(_)) => "no_answer",
            Self::Workers(WorkError::Full { .. }) => "queue_full",
            Self::Workers(WorkError::Stopped) => "stopped",
            Self::Workers(WorkError::Panicked) => "panicked",
        }
    }
}
