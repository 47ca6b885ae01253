//! Why a model cannot be loaded or run.

use millgate_array::{ArrayError, Datatype};

use crate::ending::Ending;

/// Opsets of the default ONNX domain that a bundle may use.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=20;

/// Advice for models that the built-in engine cannot run, or is not trusted with.
pub const REMEDY: &str =
    "serve it with ONNX Runtime: `millgate-cloud engine install onnxruntime-*.whl` (docs/serving.md)";

#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    #[error("`{name}` is {what}, which cannot be served")]
    Kind { name: String, what: String },
    #[error("external data `{location}`: {what}")]
    External { location: String, what: String },
    #[error("opset {found} of the default domain is not in {}..={}", OPSETS.start(), OPSETS.end())]
    Opset { found: i64 },
    #[error("inputs are {found:?}, the manifest says {expected:?}")]
    Inputs { expected: Vec<String>, found: Vec<String> },
    #[error("input `{name}` has shape {found}, the manifest says {expected:?}")]
    InputShape { name: String, expected: Vec<usize>, found: String },
    #[error("output `{0}` is missing")]
    MissingOutput(String),
    #[error("output `{name}` has shape {found}, the manifest says {expected:?}")]
    OutputShape { name: String, expected: Vec<usize>, found: String },
    #[error("output `{name}` is {found}, the file says {expected}")]
    OutputType { name: String, expected: Datatype, found: String },
    #[error("the engine does not take {0}")]
    Datatype(Datatype),
    #[error("cannot be prepared: {0}")]
    Prepare(String),
    /// Refused although the model would run: what it answers may be wrong.
    #[error("{0}; {REMEDY}")]
    Untrusted(String),
    #[error("got {got} inputs, needs {expected}")]
    InputCount { expected: usize, got: usize },
    #[error("input `{name}` needs shape {expected:?}, got {got:?}")]
    InputValue { name: String, expected: Vec<usize>, got: Vec<usize> },
    #[error("input `{name}` needs {expected}, got {found}")]
    InputType { name: String, expected: Datatype, found: Datatype },
    #[error(transparent)]
    Array(#[from] ArrayError),
    #[error("failed while running: {0}")]
    Run(String),
    /// Refused because an input holds NaN or infinity (`what`), of which a node of this engine would make a number
    /// without a word.
    #[error("input `{name}` holds {what}, of which tract's {node} makes a number; {REMEDY}")]
    Unheard { name: String, what: &'static str, node: String },
    /// The process that the model ran in has ended, and with it whatever it computed.
    #[error("{0}")]
    Ended(Ending),
    /// What another process said that has no kind of its own here.
    #[error("{0}")]
    Told(String),
}
