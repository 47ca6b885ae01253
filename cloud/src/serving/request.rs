//! An inference request and its answer, whatever protocol carried them.

use std::collections::BTreeMap;
use std::time::Duration;

use millgate_shared::array::{Array, Datatype};

/// A named value beside a request, an input, an output or an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    Bool(bool),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    String(String),
}

pub type Parameters = BTreeMap<String, Parameter>;

/// A tensor by its port's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub name: String,
    pub array: Array,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wanted {
    pub name: String,
    pub parameters: Parameters,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InferRequest {
    pub model: String,
    /// Empty: the one that is served by default.
    pub version: String,
    /// Echoed.
    pub id: String,
    pub parameters: Parameters,
    /// In the client's order.
    pub inputs: Vec<Named>,
    /// Empty: all.
    pub outputs: Vec<Wanted>,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct InferResponse {
    pub model: String,
    pub version: String,
    pub id: String,
    pub parameters: Parameters,
    /// In the order in which they were asked for, or the model's.
    pub outputs: Vec<Named>,
    pub phases: Phases,
}

/// Where an answer's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// From arrival until a batch was taken.
    pub queue: Duration,
    /// Joining the batch's inputs.
    pub join: Duration,
    /// In the engine.
    pub compute: Duration,
    /// Cutting the batch's outputs apart.
    pub split: Duration,
    /// Rows computed together; 0 if the answer came from the cache.
    pub batch: usize,
}

/// One port, as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    pub name: String,
    pub datatype: Datatype,
    /// -1 where any length goes.
    pub shape: Vec<i64>,
}

/// A model, as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    pub name: String,
    /// Those that are ready.
    pub versions: Vec<String>,
    pub platform: &'static str,
    pub inputs: Vec<PortInfo>,
    pub outputs: Vec<PortInfo>,
    /// What the file says of itself.
    pub properties: BTreeMap<String, String>,
}
