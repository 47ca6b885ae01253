//! Why an input got no decision.

use millgate_shared::driver::DriverError;
use millgate_shared::runner::RunError;
use millgate_shared::sample::Unread;
use millgate_shared::workers::WorkError;

/// Messages do not repeat the input's path: whoever reports one knows it.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// A part that the agent cannot read, or that the bundle has no use for.
    #[error("{}{unread}", prefix(unread, *.is_main))]
    Part {
        unread: Unread,
        /// Whether the part is of the bundle's first modality.
        is_main: bool,
    },
    #[error(transparent)]
    Driver(DriverError<RunError>),
    #[error(transparent)]
    Workers(WorkError),
}

/// A part of the first modality needs no naming, nor does one whose message names it.
fn prefix(unread: &Unread, is_main: bool) -> String {
    let is_named = is_main || unread.source.field == "modality";
    if is_named { String::new() } else { format!("{}: ", unread.modality) }
}

impl DecideError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Part { unread, .. } => unread.source.code,
            Self::Driver(DriverError::UnknownTask(_)) => "unknown_task",
            Self::Driver(DriverError::Gate(_)) => "gate_failed",
            Self::Driver(DriverError::Deciding(_)) => "no_answer",
            Self::Workers(WorkError::Full { .. }) => "queue_full",
            Self::Workers(WorkError::Stopped) => "stopped",
            Self::Workers(WorkError::Panicked) => "panicked",
        }
    }
}
