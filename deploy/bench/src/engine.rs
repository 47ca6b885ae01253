//! The engine without a server around it: what a machine can do with a model at most.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millgate_shared::array::Array;
use millgate_shared::engine::{Axis, Engine, EngineError, Model, OnnxFile, Shapes, Signature, Tract};
use millgate_shared::proto::inference::ModelMetadataResponse;
use millgate_shared::proto::inference::model_metadata_response::TensorMetadata;
use serde::Serialize;

use crate::LoadError;
use crate::random::Random;
use crate::requests::{Requests, Shaping};
use crate::summary::percentile;

/// One line of results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    pub engine: &'static str,
    pub threads: usize,
    pub batch: usize,
    pub items_per_second: f64,
    pub call_us_p50: f64,
}

pub fn load(path: &Path) -> Result<Arc<dyn Model>, LoadError> {
    let what = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| LoadError::Io { what: what(), source })?;
    let file = OnnxFile::read(Bytes::from(bytes), path.parent().map(Path::to_path_buf))?;
    Ok(Tract.load(&file, Shapes::Any)?)
}

/// `threads` threads with a session each, on batches of `rows`, for so long.
pub fn measure(
    model: &Arc<dyn Model>,
    threads: usize,
    rows: usize,
    shaping: &Shaping,
    length: Duration,
) -> Result<Rate, LoadError> {
    let inputs = inputs(model.signature(), rows, shaping)?;
    let start = Arc::new(Barrier::new(threads));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (model, inputs, start) = (Arc::clone(model), inputs.clone(), Arc::clone(&start));
            std::thread::spawn(move || work(model, &inputs, &start, length))
        })
        .collect();
    let mut calls = Vec::new();
    let mut per_second = 0.0;
    for worker in workers {
        let times = worker.join().map_err(|_| EngineError::Run("it panicked".to_owned()))??;
        per_second += times.len() as f64 / times.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        calls.extend(times);
    }
    calls.sort_by(f64::total_cmp);
    Ok(Rate {
        engine: model.engine(),
        threads,
        batch: rows,
        items_per_second: per_second * rows as f64,
        call_us_p50: percentile(&calls, 0.5) * 1e6,
    })
}

/// Seconds of each call.
fn work(
    model: Arc<dyn Model>,
    inputs: &[Array],
    start: &Barrier,
    length: Duration,
) -> Result<Vec<f64>, EngineError> {
    // Nobody may stay away from the barrier, whatever fails.
    let warmed = model.session().and_then(|mut session| session.run(inputs.to_vec()).map(|_| session));
    start.wait();
    let mut session = warmed?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < length {
        let inputs = inputs.to_vec();
        let before = Instant::now();
        session.run(inputs)?;
        times.push(before.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// Makes inputs with the values that a request to a server has.
fn inputs(signature: &Signature, rows: usize, shaping: &Shaping) -> Result<Vec<Array>, LoadError> {
    let fixed_rows = |axes: &[Axis]| matches!(axes.first(), Some(Axis::Fixed(fixed)) if *fixed != rows);
    if rows > 1 && signature.inputs.iter().any(|port| port.shape.as_deref().is_some_and(fixed_rows)) {
        let message = format!("the model does not take {rows} rows");
        return Err(LoadError::Flag { flag: "--batch", message });
    }
    let tensor = |port: &millgate_shared::engine::Port| TensorMetadata {
        name: port.name.clone(),
        datatype: port.datatype.name().to_owned(),
        shape: port.wire_shape(),
    };
    let inputs = signature.inputs.iter().map(tensor).collect();
    let metadata = ModelMetadataResponse { inputs, ..ModelMetadataResponse::default() };
    let shaping = Shaping { rows: rows as i64, distinct: 1, ..shaping.clone() };
    let made = Requests::new(&metadata, &shaping, &mut Random::new(1))?;
    let Some(request) = made.good.first() else { return Ok(Vec::new()) };
    let array = |((port, tensor), raw): ((&millgate_shared::engine::Port, _), &Bytes)| {
        let tensor: &millgate_shared::proto::inference::model_infer_request::InferInputTensor = tensor;
        let shape = tensor.shape.iter().map(|axis| *axis as usize).collect();
        Array::from_raw(port.datatype, shape, raw).map_err(EngineError::from)
    };
    let parts = signature.inputs.iter().zip(&request.inputs).zip(&request.raw_input_contents);
    Ok(parts.map(array).collect::<Result<_, _>>()?)
}
