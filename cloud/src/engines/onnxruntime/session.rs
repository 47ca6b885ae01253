//! What a session is made with.

use std::sync::Arc;

use millgate_shared::engine::{EngineError, OnnxFile};
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider, TensorRT};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::Tuning;
use super::convert::text;
use super::library::Library;
use crate::engines::providers::{self, Provider, Selection};

/// Constant weights of 8 bits are made such without a sign, on CPUs where the others overflow. Nothing elsewhere.
const EXACT_PRODUCTS: &str = "session.x64quantprecision";

/// Whether the library was built with it; that it works shows when it is registered.
pub(super) fn is_available(provider: Provider) -> bool {
    match provider {
        Provider::Cpu => true,
        Provider::Cuda(_) => CUDA::is_available().unwrap_or(false),
        Provider::TensorRt(_) => TensorRT::is_available().unwrap_or(false),
    }
}

pub(super) fn make(library: &Library, tuning: &Tuning, file: &OnnxFile) -> Result<Session, EngineError> {
    let mut builder =
        options(library.environment(), tuning).map_err(|error| EngineError::Prepare(text(&error)))?;
    builder = with_providers(builder, tuning)?;
    for weights in &file.external {
        let bytes = Arc::clone(&weights.bytes);
        let with = builder.with_external_initializer_file_in_memory(&weights.location, bytes);
        builder = with.map_err(|error| EngineError::External {
            location: weights.location.clone(),
            what: text(&error),
        })?;
    }
    // From memory, whatever has become of the file.
    builder.commit_from_memory(&file.bytes).map_err(|error| EngineError::Prepare(text(&error)))
}

pub(super) fn options(environment: &Environment, tuning: &Tuning) -> ort::Result<SessionBuilder> {
    let level = if tuning.plain { GraphOptimizationLevel::Disable } else { GraphOptimizationLevel::All };
    let builder = Session::builder(environment)?
        .with_optimization_level(level)?
        // Where the CPU has no instruction for it, products of 8-bit numbers overflow without this.
        .with_config_entry(EXACT_PRODUCTS, "1")?
        .with_intra_threads(tuning.threads.max(1))?
        .with_inter_threads(1)?
        // A thread that spins takes a core from the pool's other threads.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A pattern is kept for each set of shapes for ever: a client that sends ever new ones would cost memory.
        .with_memory_pattern(false)?;
    Ok(builder)
}

fn with_providers(mut builder: SessionBuilder, tuning: &Tuning) -> Result<SessionBuilder, EngineError> {
    let selection = providers::select(&tuning.providers, tuning.may_lack, is_available);
    let Selection { register, missing, cpu } = selection.map_err(EngineError::Prepare)?;
    for provider in missing {
        tracing::warn!(%provider, "the library was built without this execution provider; going on without it");
    }
    for provider in register {
        let dispatch = match provider {
            Provider::Cpu => continue,
            Provider::Cuda(device) => CUDA::default().with_device_id(device as i32).build(),
            Provider::TensorRt(device) => TensorRT::default().with_device_id(device as i32).build(),
        };
        builder = match builder.with_execution_providers([dispatch.error_on_failure()]) {
            Ok(builder) => builder,
            Err(error) if cpu => {
                let reason = text(&error);
                tracing::warn!(%provider, reason, "this execution provider cannot be used; going on without it");
                error.recover()
            }
            Err(error) => return Err(EngineError::Prepare(providers::lacking(provider, &text(&error)))),
        };
    }
    if cpu {
        return Ok(builder);
    }
    builder.with_disable_cpu_fallback().map_err(|error| EngineError::Prepare(text(&error)))
}
