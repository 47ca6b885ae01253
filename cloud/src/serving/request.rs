//! An inference request and its answer, whatever protocol carried them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::array::Array;

use crate::failure::Failure;
use crate::principal::{Standing, USUAL_PRIORITY};

/// What lives as long as any work of a call does, whether or not somebody still waits for it: what its message holds of the
/// pool's memory.
pub(crate) type Kept = Option<Arc<dyn Any + Send + Sync>>;

/// One call's time and rank, and whom it is for. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) standing: Arc<Standing>,
    /// 0 is served first.
    pub(crate) priority: u8,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
    pub(crate) kept: Kept,
    /// The request's, where its model is made of others; else empty.
    pub(crate) parameters: Arc<Parameters>,
}

/// The share of a call's time that is kept for the answer's way back, one part in so many, and the most that is kept. What
/// is computed up to the very deadline reaches nobody in time.
const WAY_BACK: u32 = 10;
const LONGEST_WAY_BACK: Duration = Duration::from_millis(10);

impl Call {
    /// When it should have been computed.
    pub(super) fn due(&self) -> Instant {
        let time = self.deadline.saturating_duration_since(self.arrived);
        let back = (time / WAY_BACK).min(LONGEST_WAY_BACK);
        self.deadline.checked_sub(back).unwrap_or(self.deadline)
    }

    /// A call that asks for no priority.
    pub(crate) fn new(standing: Arc<Standing>, arrived: Instant, deadline: Instant) -> Self {
        let priority = standing.priority.max(USUAL_PRIORITY);
        Self { standing, priority, arrived, deadline, kept: None, parameters: Arc::default() }
    }

    /// Keeps something until all of its work is done or dropped.
    pub(crate) fn keeping(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    /// Takes the rank that is asked for, or the best that its caller has a right to. False: that is a worse one.
    pub(super) fn rank(&mut self, priority: u8) -> bool {
        self.priority = priority.max(self.standing.priority);
        self.priority == priority
    }
}

/// A named value beside a request, an input, an output or an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    Bool(bool),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    String(String),
}

impl Parameter {
    /// A whole number of at least 0.
    pub(crate) fn whole(&self) -> Option<u64> {
        match self {
            Self::Int64(value) => u64::try_from(*value).ok(),
            Self::Uint64(value) => Some(*value),
            _ => None,
        }
    }
}

pub(crate) type Parameters = BTreeMap<String, Parameter>;

/// A tensor by its port's name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) array: Array,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) parameters: Parameters,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct InferRequest {
    pub(crate) model: String,
    /// Empty: the one that is served by default.
    pub(crate) version: String,
    /// Echoed.
    pub(crate) id: String,
    pub(crate) parameters: Parameters,
    /// Inputs in the client's order.
    pub(crate) inputs: Vec<Named>,
    /// Empty: all.
    pub(crate) outputs: Vec<Wanted>,
}

impl InferRequest {
    /// How long the client waits, from arrival; `None` if the request names no timeout, or 0.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Failure> {
        match self.parameters.get("timeout").map(Parameter::whole) {
            None | Some(Some(0)) => Ok(None),
            Some(Some(micros)) => Ok(Some(Duration::from_micros(micros))),
            Some(None) => Err(Failure::field("parameters `timeout`", "must be microseconds, a whole number")),
        }
    }

    /// The priority as it stands in the request; what it means is the model's matter.
    pub(super) fn priority(&self) -> Result<Option<u64>, Failure> {
        match self.parameters.get("priority").map(Parameter::whole) {
            None => Ok(None),
            Some(Some(priority)) => Ok(Some(priority)),
            Some(None) => Err(Failure::field("parameters `priority`", "must be a whole number")),
        }
    }
}

/// What it gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InferResponse {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) id: String,
    pub(crate) parameters: Parameters,
    /// Outputs in the order in which they were asked for, or in the model's.
    pub(crate) outputs: Vec<Named>,
}

impl InferResponse {
    /// Bytes of its tensors, about.
    pub(crate) fn size(&self) -> usize {
        self.outputs.iter().map(|output| output.array.values().size()).sum()
    }
}

/// Where an answer's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Phases {
    /// Time from arrival until a batch was taken.
    pub(crate) queue: Duration,
    /// Joining the batch's inputs.
    pub(crate) join: Duration,
    /// Time in the engine.
    pub(crate) compute: Duration,
    /// Cutting the batch's outputs apart.
    pub(crate) split: Duration,
    /// Rows computed together.
    pub(crate) batch: usize,
}
