//! Why a call, or one expert of a call, has no answer. What each kind means in gRPC stands in `api::status`, what each
//! failure means in HTTP in `rest::status`.

use std::time::Duration;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::deciding::DecidingError;
use millgate_shared::driver::DriverError;
use millgate_shared::inputs::InputError;
use millgate_shared::runner::RunError;
use millgate_shared::wire::WireError;

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
    /// Neither the active bundle, `held`, nor the one `before` it is the one that was `asked` for.
    #[error("the request names bundle {asked}, this node holds {held}{}", and(before))]
    Bundle { asked: BundleDigest, held: BundleDigest, before: Option<BundleDigest> },
    #[error("this node hosts no bundle")]
    NoBundle,
    #[error("the deadline has passed")]
    Deadline,
    /// What comes in comes too slowly, or not at all any more.
    #[error("{0} took too long to arrive")]
    Late(&'static str),
    #[error("the pool is stopping")]
    Stopped,
    /// Work waits, and none gets finished: no more is taken.
    #[error("the pool is stalled: work waits, and none gets finished")]
    Stalled,
    /// The process that ran a model has ended, and with it what was computed in it.
    #[error("model `{model}`: {how}")]
    Ended {
        model: String,
        how: String,
        /// Number of the process, if what this model did has ended it.
        blames: Option<u64>,
    },
    /// A run would take more memory than there is for it.
    #[error("{0}")]
    Memory(String),
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
    /// The model's files as they stand can never be served, however often the model is asked for.
    #[error("model `{model}` cannot be served: {reason}")]
    Unservable { model: String, reason: String },
    /// Nothing more is let in for now.
    #[error("refused: {what}; retry in {} ms", retry_after.as_millis())]
    Refused { what: &'static str, retry_after: Duration },
    #[error("{0}")]
    Unsupported(String),
    /// Nobody who is known here asks.
    #[error("{0}")]
    Unauthenticated(String),
    /// Whoever asks is known, and may not ask for this.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Precondition(String),
    /// No certificate for a device.
    #[error("{message}")]
    Enrolment { kind: Kind, message: String },
    /// A body is longer than what is read.
    #[error("{what} is longer than {most} bytes")]
    TooLarge { what: &'static str, most: usize },
}

fn and(before: &Option<BundleDigest>) -> String {
    before.map(|before| format!(" and {before}")).unwrap_or_default()
}

/// What sort of failure it is, whatever protocol tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is not one that can be answered.
    Invalid,
    /// What is named is not here.
    NotFound,
    /// What is named is here already, and another one's.
    Taken,
    /// The pool is not in the state that the request needs.
    Precondition,
    /// The deadline has passed.
    Deadline,
    /// The pool is stopping, or what is asked for was taken out: to be asked elsewhere, or later.
    Unavailable,
    /// A model or the pool did not do what it should.
    Internal,
    /// Nothing more is let in for now.
    Refused,
    /// What is asked for is not offered.
    Unsupported,
    /// Nobody who is known here asks.
    Unauthenticated,
    /// Whoever asks may not ask for this.
    Denied,
    /// More came than is read.
    TooLarge,
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

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Field(_) | Self::Sample(_) => Kind::Invalid,
            Self::UnknownExpert(_) | Self::UnknownModel(_) | Self::UnknownVersion { .. } => Kind::NotFound,
            Self::Bundle { .. } | Self::NoBundle | Self::Unservable { .. } | Self::Precondition(_) => {
                Kind::Precondition
            }
            Self::Deadline | Self::Late(_) => Kind::Deadline,
            Self::Stopped | Self::Stalled | Self::Ended { .. } | Self::NotReady { .. } => Kind::Unavailable,
            Self::Model(_) => Kind::Internal,
            Self::Refused { .. } | Self::Memory(_) => Kind::Refused,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Unauthenticated(_) => Kind::Unauthenticated,
            Self::Denied(_) => Kind::Denied,
            Self::Enrolment { kind, .. } => *kind,
            Self::TooLarge { .. } => Kind::TooLarge,
        }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Absent(_) => Self::Sample(error.to_string()),
            InputError::Array { .. } => Self::Model(error.to_string()),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Input(error) => error.into(),
            RunError::NotHeld(name) => Self::UnknownExpert(name),
            RunError::Engine { .. } | RunError::NotFinite { .. } => Self::Model(error.to_string()),
        }
    }
}

impl From<DriverError<Self>> for Failure {
    fn from(error: DriverError<Self>) -> Self {
        match error {
            DriverError::UnknownTask(_) => Self::field("sample.task", error.to_string()),
            DriverError::Gate(failure) => failure,
            DriverError::Deciding(error) => error.into(),
        }
    }
}

impl From<DecidingError> for Failure {
    fn from(error: DecidingError) -> Self {
        match error {
            DecidingError::NoExpert { .. } | DecidingError::Pinned { .. } => Self::Sample(error.to_string()),
            DecidingError::UnknownExpert(name) => Self::UnknownExpert(name),
            DecidingError::NoAnswer(_) => Self::Model(error.to_string()),
            DecidingError::Scope(source) => Self::field("labels", source.to_string()),
        }
    }
}
