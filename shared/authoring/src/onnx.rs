//! ONNX graphs, written: a builder of the few operations that heads and detectors need, and other graphs taken into one.
//!
//! A graph is written in FP32; weights that are large are stored as FP16 with a `Cast` behind each, which engines fold when
//! they load it. Only the first axis of inputs and outputs is free.
//!
//! * `graph`: the builder. `cost`: what a graph costs. `included`: a graph inside another. `tensors`: weights and what is said of values. `shuffled`: a
//!   graph with its weights in another order, to compare with.

use millgate_engine::EngineError;
use millgate_engine::pb;
use prost::Message;

mod cost;
mod graph;
mod included;
mod shuffled;
mod tensors;
#[cfg(test)]
pub(crate) mod tests;

pub use cost::macs;
pub use graph::{GraphBuilder, Included, Value};
pub use shuffled::shuffled;
pub use tensors::{elements, numbers};

/// Operator sets that a graph may be written in or taken from.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=20;
/// The operator set of a graph that takes in no other.
pub const OPSET: i64 = 17;

#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file is not an ONNX model that can be read.
    #[error("{0}")]
    Unreadable(EngineError),
    #[error("is written in opset {0}; 13 to 20 are taken: export it anew")]
    Opset(i64),
    #[error("has no output `{wanted}` (it has {found}): {advice}")]
    NoOutput { wanted: String, found: String, advice: &'static str },
    #[error("{0}")]
    Other(String),
}

/// Reads a model. An error if it is none, or keeps weights in other files.
pub fn read(file: &[u8]) -> Result<pb::ModelProto, OnnxError> {
    let bytes = bytes::Bytes::copy_from_slice(file);
    // The signature is read first: it refuses what is too large once unfolded, and weights that lie elsewhere.
    millgate_engine::OnnxFile::read(bytes, None).map_err(OnnxError::Unreadable)?;
    let model = pb::ModelProto::decode(file).map_err(|error| OnnxError::Other(error.to_string()))?;
    let opset = opset(&model);
    if !OPSETS.contains(&opset) {
        return Err(OnnxError::Opset(opset));
    }
    if let Some(other) = model.opset_import.iter().find(|set| !is_default(&set.domain)) {
        let message = format!("uses operators of `{}`; only those of ONNX itself are taken", other.domain);
        return Err(OnnxError::Other(message));
    }
    Ok(model)
}

/// The version of ONNX's own operators that a model is written in.
pub fn opset(model: &pb::ModelProto) -> i64 {
    model.opset_import.iter().find(|set| is_default(&set.domain)).map_or(1, |set| set.version)
}

fn is_default(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}
