//! A file's bytes as ONNX's own messages.

use millgate_base::memory;
use tract_onnx::onnx;
use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::error::EngineError;
use crate::unfolded;

pub(crate) fn parse(file: &[u8]) -> Result<pb::ModelProto, EngineError> {
    let _room = memory::reserve(unfolded::bytes(file))
        .map_err(|error| EngineError::NotOnnx(format!("its description {error}")))?;
    let framework = onnx();
    framework.proto_model_for_read(&mut &*file).map_err(|error| EngineError::NotOnnx(chain(&error)))
}

/// Writes the whole chain of causes on one line.
pub(crate) fn chain(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}
