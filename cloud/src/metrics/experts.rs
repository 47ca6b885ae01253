//! What came of asking a bundle's expert through `millgate.v1`.

use prometheus_client::encoding::EncodeLabelSet;

use crate::failure::Failure;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RunLabels {
    pub(super) expert: String,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ExpertLabels {
    pub(super) expert: String,
}

/// What came of asking an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    Ok,
    /// The expert ran, or was to run, and gave an error.
    Failed,
    /// The queue was full.
    Refused,
    /// The request's deadline had passed.
    Expired,
}

impl RunResult {
    pub(crate) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Refused { .. } => Self::Refused,
            Failure::Deadline => Self::Expired,
            _ => Self::Failed,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}
