//! What may wait, what a model is like, and why something is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Curve;

/// Waking another worker costs about this much; less is not worth it.
pub(super) const WORTH_WAKING: Duration = Duration::from_micros(100);

/// Bounds of the whole queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub workers: usize,
    /// Entries that may wait.
    pub entries: usize,
    /// Bytes of inputs that may wait.
    pub bytes: usize,
    /// Compute that may wait, by estimate, for all workers together.
    pub work: Duration,
    /// More than one row is only computed together if that should take less.
    pub longest_batch: Duration,
}

/// What a model is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    pub curve: Curve,
    /// 1: never batch.
    pub most_rows: usize,
    /// How long a lone entry waits for company; zero: not at all.
    pub delay: Duration,
    /// Row counts that end the wait; empty: as many as pay.
    pub preferred: Vec<usize>,
    pub most_waiting: MostWaiting,
}

impl Profile {
    /// Row by row, without a wait or a bound of its own.
    pub fn alone(curve: Curve) -> Self {
        Self {
            curve,
            most_rows: 1,
            delay: Duration::ZERO,
            preferred: Vec::new(),
            most_waiting: MostWaiting::default(),
        }
    }
}

/// Entries of one model that may wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MostWaiting {
    #[default]
    Unbounded,
    /// So many in all.
    All(usize),
    /// So many of each priority; others without a bound.
    ByPriority(BTreeMap<u8, usize>),
}

/// Why something is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The most entries that may wait do so.
    Full,
    /// The most entries of this model that may wait do so.
    ModelFull,
    /// A run of the model has not ended in time, and the most entries that may wait for that do so.
    Held,
    /// The most bytes that may wait do so.
    Bytes,
    /// The most compute that may wait does so.
    Work,
    /// What waits before the entry takes until after its deadline.
    Hopeless,
    /// The entry's deadline is nearer than its own computing takes.
    TooShort,
    /// The model is gone.
    UnknownModel,
}

impl Refusal {
    /// Whether the refusal depends on what else waits, so that a later try may be let in.
    pub fn is_for_now(self) -> bool {
        !matches!(self, Self::TooShort | Self::UnknownModel)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "the queue is full",
            Self::ModelFull => "the model's queue is full",
            Self::Held => "a run of the model does not end, and enough wait for that",
            Self::Bytes => "too many bytes wait",
            Self::Work => "too much work waits",
            Self::Hopeless => "the deadline cannot be met",
            Self::TooShort => "the deadline is shorter than the computing",
            Self::UnknownModel => "the model is gone",
        }
    }
}
