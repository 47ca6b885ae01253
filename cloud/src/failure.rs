//! Why a call, or one expert of a call, has no answer. What each means in gRPC stands in `api::status`, in HTTP in
//! `rest::status`.

use std::time::Duration;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::deciding::DecidingError;
use millgate_shared::local::LocalError;
use millgate_shared::runner::RunError;
use millgate_shared::wire::WireError;
use tonic::Code;

use crate::access::book::Denial;
use crate::metrics::RunResult;

mod places;

pub(crate) use places::left_out as without_places;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A field of the request.
    #[error("{0}")]
    Field(#[from] WireError),
    /// The sample as a whole cannot be decided as asked.
    #[error("{0}")]
    Sample(String),
    #[error("`{0}` is not an expert of this bundle")]
    UnknownExpert(String),
    #[error("the request names bundle {asked}, this node holds {held}")]
    Bundle { asked: BundleDigest, held: BundleDigest },
    #[error("this node hosts no bundle")]
    NoBundle,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the pool is stopping")]
    Stopped,
    /// A model did not do what it should.
    #[error("{0}")]
    Model(String),
    #[error("model `{0}` is not here")]
    UnknownModel(String),
    #[error("model `{model}` has no version {version}")]
    UnknownVersion { model: String, version: String },
    /// The model was taken out, and may be loaded again.
    #[error("model `{model}` is not ready: {reason}")]
    NotReady { model: String, reason: String },
    /// As its files stand it is never served, however often it is asked for.
    #[error("model `{model}` cannot be served: {reason}")]
    Unservable { model: String, reason: String },
    /// Nothing more is let in for now.
    #[error("refused: {what}; retry in {} ms", retry_after.as_millis())]
    Refused { what: &'static str, retry_after: Duration },
    #[error("{0}")]
    Unsupported(String),
    /// Who asks, or what is asked for, is not allowed.
    #[error("{0}")]
    Denied(Box<Denial>),
    #[error("{0}")]
    Precondition(String),
    /// No certificate for a device.
    #[error("{message}")]
    Enrolment { code: Code, message: String },
    /// More than is read.
    #[error("{what} is longer than {most} bytes")]
    TooLarge { what: &'static str, most: usize },
}

impl Failure {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field(WireError::new(field, message))
    }

    /// What a client is told. Where the server's own words are passed on, files have no folders: those are no client's
    /// business.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Model(_) | Self::NotReady { .. } | Self::Unservable { .. } => {
                without_places(&self.to_string())
            }
            other => other.to_string(),
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Field(_) | Self::Sample(_) => Code::InvalidArgument,
            Self::UnknownExpert(_) => Code::NotFound,
            Self::Bundle { .. } | Self::NoBundle => Code::FailedPrecondition,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Stopped => Code::Unavailable,
            Self::Model(_) => Code::Internal,
            Self::UnknownModel(_) | Self::UnknownVersion { .. } => Code::NotFound,
            Self::NotReady { .. } => Code::Unavailable,
            Self::Unservable { .. } => Code::FailedPrecondition,
            Self::Refused { .. } => Code::ResourceExhausted,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::Denied(denial) if denial.is_unauthenticated() => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Enrolment { code, .. } => *code,
            Self::TooLarge { .. } => Code::OutOfRange,
        }
    }

    /// The same, as metrics count it for an expert.
    pub(crate) fn run_result(&self) -> RunResult {
        match self {
            Self::Refused { .. } => RunResult::Refused,
            Self::Deadline => RunResult::Expired,
            _ => RunResult::Failed,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Absent(_) => Self::Sample(error.to_string()),
            RunError::NotHeld(name) => Self::UnknownExpert(name),
            RunError::Engine { .. } | RunError::NotFinite { .. } => Self::Model(error.to_string()),
        }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::UnknownTask(_) => Self::field("sample.task", error.to_string()),
            LocalError::Gate(error) => error.into(),
            LocalError::Deciding(error) => error.into(),
        }
    }
}

impl From<DecidingError> for Failure {
    fn from(error: DecidingError) -> Self {
        match error {
            DecidingError::NoExpert { .. } | DecidingError::Pinned { .. } => Self::Sample(error.to_string()),
            DecidingError::UnknownExpert(name) => Self::UnknownExpert(name),
            DecidingError::NoAnswer(_) => Self::Model(error.to_string()),
        }
    }
}
