//! Variants of experts: the same network in fewer bits, for an engine that runs it faster so.
//!
//! Nobody needs one. Whoever has no such engine, or finds a variant slow or unlike FP32, uses `model.onnx` and says why.
//! [`open`] checks what needs no engine, [`compare`] runs the golden samples, [`judge`] decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millgate_array::{Array, ArrayError};
use millgate_bundle::{Bundle, BundleError};
use millgate_engine::fixed::FixedPort;
use millgate_engine::{EngineError, Model, OPSETS, OnnxFile, Port, Signature};
use millgate_model::manifest::{Expert, MODEL_FILE, Variant, model_path, variant_path};

use super::golden::{Samples, samples};
use crate::runner::port;

#[cfg(test)]
mod tests;

/// A variant must be this many times as fast as FP32, or it is not worth what it may lose.
pub const LEAST_SPEED_UP: f64 = 1.15;

/// The output that is compared.
const LOGITS: &str = "logits";

/// Reads a variant's file; it must take and give what its expert's `model.onnx` does.
pub fn open(bundle: &Bundle, expert: &Expert, variant: &Variant) -> Result<OnnxFile, BundleError> {
    let read = |file: &str| {
        let bytes = Bytes::from(bundle.read(file)?);
        OnnxFile::read(bytes, None)
            .map_err(|error| BundleError::Model { file: file.to_owned(), source: error.into() })
    };
    let own = read(&model_path(&expert.name))?;
    let file = variant_path(&expert.name, &variant.file);
    let found = read(&file)?;
    if let Some(version) = found.signature.opsets.get("").copied().filter(|version| !OPSETS.contains(version))
    {
        return Err(BundleError::Model { file, source: EngineError::Opset { found: version }.into() });
    }
    alike(&own.signature, &found.signature).map_err(|message| BundleError::Variant { file, message })?;
    Ok(found)
}

/// Opens every variant of a bundle; gives their number.
pub fn check_all(bundle: &Bundle) -> Result<usize, BundleError> {
    let mut count = 0;
    for expert in &bundle.manifest().experts {
        for variant in &expert.variants {
            open(bundle, expert, variant)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Checks that both files have the same inputs and outputs, in the same order. A free axis may have another name.
fn alike(own: &Signature, found: &Signature) -> Result<(), String> {
    if !found.external_files.is_empty() {
        return Err("has weights in other files".to_owned());
    }
    for (what, own, found) in
        [("input", &own.inputs, &found.inputs), ("output", &own.outputs, &found.outputs)]
    {
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        if names(own) != names(found) {
            return Err(format!("has the {what}s {:?}, {MODEL_FILE} {:?}", names(found), names(own)));
        }
        for (own, found) in own.iter().zip(found) {
            let name = &own.name;
            if own.datatype != found.datatype {
                let (own, found) = (own.datatype, found.datatype);
                return Err(format!("{what} `{name}` is {found}, in {MODEL_FILE} {own}"));
            }
            let shape = |port: &Port| port.shape.as_ref().map(|_| port.wire_shape());
            if shape(own) != shape(found) {
                let text = |port: &Port| shape(port).map_or("any".to_owned(), |axes| format!("{axes:?}"));
                return Err(format!(
                    "{what} `{name}` has shape {}, in {MODEL_FILE} {}",
                    text(found),
                    text(own)
                ));
            }
        }
    }
    Ok(())
}

/// How a variant's answers on its expert's golden samples compare with those of FP32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Samples that were run.
    pub rows: usize,
    /// Largest distance of a logit; NaN if one was NaN.
    pub difference: f32,
    /// What the manifest allows.
    pub tolerance: f32,
    /// The first sample that got another label.
    pub relabelled: Option<usize>,
}

/// Runs an expert's golden samples, one at a time, through whatever `run` is. Its inputs come in the manifest's order, each
/// with batch axis 1; it gives `logits`.
pub fn compare(
    bundle: &Bundle,
    expert: &Expert,
    variant: &Variant,
    mut run: impl FnMut(Vec<Array>) -> Result<Array, EngineError>,
) -> Result<Agreement, BundleError> {
    let file = || variant_path(&expert.name, &variant.file);
    let inputs: Vec<FixedPort> = expert.inputs.iter().map(|input| port(&input.name, &input.shape)).collect();
    let logits = FixedPort { name: LOGITS.to_owned(), shape: vec![1, expert.labels.len()] };
    let shape = logits.shape.clone();
    let Samples { inputs, outputs, count } = samples(bundle, &expert.name, &inputs, &[logits])?;
    let mut agreement =
        Agreement { rows: count, difference: 0.0, tolerance: variant.logit_tolerance, relabelled: None };
    for (row, expected) in outputs.iter().flatten().enumerate() {
        let got = run(inputs.iter().map(|port| port[row].clone()).collect())
            .map_err(|error| BundleError::Model { file: file(), source: error.into() })?;
        if got.shape() != shape {
            let message = format!("golden row {row}: `{LOGITS}` has shape {:?}, not {shape:?}", got.shape());
            return Err(BundleError::Variant { file: file(), message });
        }
        let refuse = |source: ArrayError| BundleError::Model { file: file(), source: source.into() };
        let (got, expected) = (got.as_fp32().map_err(refuse)?, expected.as_fp32().map_err(refuse)?);
        for (got, expected) in got.iter().zip(expected) {
            let difference = (got - expected).abs();
            if difference.is_nan() || difference > agreement.difference {
                agreement.difference = difference;
            }
        }
        if agreement.relabelled.is_none() && best(got) != best(expected) {
            agreement.relabelled = Some(row);
        }
    }
    Ok(agreement)
}

/// [`compare`] with a loaded model.
pub fn compare_model(
    bundle: &Bundle,
    expert: &Expert,
    variant: &Variant,
    model: &Arc<dyn Model>,
) -> Result<Agreement, BundleError> {
    let file = || variant_path(&expert.name, &variant.file);
    let refuse = |error: EngineError| BundleError::Model { file: file(), source: error.into() };
    let signature = model.signature();
    let logits = signature.output(LOGITS);
    let logits = logits.ok_or_else(|| refuse(EngineError::MissingOutput(LOGITS.to_owned())))?;
    let names = || expert.inputs.iter().map(|input| input.name.clone()).collect();
    let places = signature.inputs.iter();
    let places = places.map(|port| expert.inputs.iter().position(|input| input.name == port.name));
    let places: Option<Vec<usize>> = places.collect();
    let places = places.filter(|places| places.len() == expert.inputs.len()).ok_or_else(|| {
        let found = signature.inputs.iter().map(|port| port.name.clone()).collect();
        refuse(EngineError::Inputs { expected: names(), found })
    })?;
    let mut session = Arc::clone(model).session().map_err(refuse)?;
    compare(bundle, expert, variant, |inputs| {
        let inputs = places.iter().map(|at| inputs[*at].clone()).collect();
        let mut outputs = session.run(inputs)?;
        if outputs.len() <= logits {
            return Err(EngineError::MissingOutput(LOGITS.to_owned()));
        }
        Ok(outputs.swap_remove(logits))
    })
}

/// Index of the highest value; of equals the first, as a decision has it.
fn best(logits: &[f32]) -> Option<usize> {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).reduce(better)
}

/// One run of as many rows by both, each on the engine that it would be served with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    pub rows: usize,
    pub fp32: Duration,
    pub variant: Duration,
}

impl Timed {
    fn speed_up(&self) -> f64 {
        self.fp32.as_nanos() as f64 / self.variant.as_nanos().max(1) as f64
    }
}

/// Why a variant is not used; reads on from its name.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unused {
    #[error("gives golden sample {row} another label than FP32")]
    Label { row: usize },
    #[error("gives logits up to {difference:.3} off FP32's on the golden samples, {tolerance:.3} is allowed")]
    Logits { difference: f32, tolerance: f32 },
    #[error("was not timed beside FP32")]
    Untimed,
    #[error("is {speed_up:.2} times as fast as FP32 at {rows} rows, {least} is needed", least = LEAST_SPEED_UP)]
    Slow { rows: usize, speed_up: f64 },
}

/// Whether to use a variant: if it agrees with FP32 and is faster, by enough, at every batch size that was timed. Gives
/// the least speed-up.
pub fn judge(agreement: &Agreement, times: &[Timed]) -> Result<f64, Unused> {
    let Agreement { difference, tolerance, relabelled, .. } = *agreement;
    if let Some(row) = relabelled {
        return Err(Unused::Label { row });
    }
    let is_close = difference <= tolerance;
    if !is_close {
        return Err(Unused::Logits { difference, tolerance });
    }
    let slower = |a: &&Timed, b: &&Timed| a.speed_up().total_cmp(&b.speed_up());
    let slowest = times.iter().min_by(slower).ok_or(Unused::Untimed)?;
    let (rows, speed_up) = (slowest.rows, slowest.speed_up());
    let is_faster = speed_up >= LEAST_SPEED_UP;
    if is_faster { Ok(speed_up) } else { Err(Unused::Slow { rows, speed_up }) }
}
