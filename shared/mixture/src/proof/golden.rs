//! Golden samples: inputs with known outputs, run before a bundle is used.
//!
//! They are what catches a model that loads and runs but is wrong: a bad export, weights that are not finite, an engine
//! that reads an operator differently.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_array::{Array, ArrayError};
use millgate_bundle::{Bundle, BundleError};
use millgate_engine::fixed::{FixedModel, FixedPort};
use millgate_model::deciding::{Mode, Policy};
use millgate_model::decision::Missing;
use millgate_model::gate::{Place, tier_places};
use millgate_model::manifest::{FILE_NAME, GoldenDecision, golden_path, model_path};
use millgate_model::novelty::UNKNOWN;
use millgate_model::scope::Scope;
use millgate_sample::part::{Limits, Part};
use millgate_sample::sample;
use safetensors::{Dtype, SafeTensors};

use crate::driver::{Ask, Driver, DriverError};
use crate::local::{Local, to_the_end};
use crate::runner::{Models, RunError, Runner};

/// Most that a golden decision's probability and risk may be off.
const DECISION_TOLERANCE: f64 = 0.01;

/// Counts of what was run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub models: usize,
    pub rows: usize,
    pub decisions: usize,
}

/// Runs every model that is held, and every golden decision.
pub fn check(bundle: &Bundle, models: &Arc<Models>) -> Result<Passed, BundleError> {
    let mut passed = Passed::default();
    for (name, model) in models.all() {
        passed.rows += check_model(bundle, name, model)?;
        passed.models += 1;
    }
    let mut runner = models
        .runner()
        .map_err(|error| BundleError::Golden { file: FILE_NAME.to_owned(), message: error.to_string() })?;
    for golden in &bundle.manifest().golden.decisions {
        check_decision(bundle, &mut runner, golden)?;
        passed.decisions += 1;
    }
    Ok(passed)
}

/// Runs one model against its golden tensors; gives the number of rows.
pub fn check_model(bundle: &Bundle, name: &str, model: &Arc<FixedModel>) -> Result<usize, BundleError> {
    let Samples { inputs, outputs, count } = samples(bundle, name, model.inputs(), model.outputs())?;
    let refuse = |message: String| BundleError::Golden { file: golden_path(name), message };
    let golden = &bundle.manifest().golden;
    let mut session = model.session().map_err(|error| refuse(error.to_string()))?;
    for row in 0..count {
        let got = session
            .run(inputs.iter().map(|port| port[row].clone()).collect())
            .map_err(|error| refuse(format!("row {row}: {error}")))?;
        for ((port, got), expected) in model.outputs().iter().zip(&got).zip(&outputs) {
            let broken = |error: ArrayError| refuse(format!("row {row}: `{}` {error}", port.name));
            let (got, expected) = (got.as_fp32().map_err(broken)?, expected[row].as_fp32().map_err(broken)?);
            let pairs = got.iter().zip(expected);
            for (at, (got, expected)) in pairs.enumerate() {
                let allowed = golden.absolute_tolerance + golden.relative_tolerance * expected.abs();
                let is_close = (got - expected).abs() <= allowed;
                if !is_close {
                    let (model, output) = (model_path(name), &port.name);
                    let message = format!(
                        "row {row}: `{output}`[{at}] of {model} is {got}, expected {expected} ± {allowed}"
                    );
                    return Err(refuse(message));
                }
            }
        }
    }
    Ok(count)
}

/// Golden tensors of a model, by port and by row.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) inputs: Vec<Vec<Array>>,
    pub(super) outputs: Vec<Vec<Array>>,
    /// Number of rows of each port, at least 1.
    pub(super) count: usize,
}

/// Reads the golden tensors of some ports; each port's shape has the batch axis 1.
pub(super) fn samples(
    bundle: &Bundle,
    name: &str,
    inputs: &[FixedPort],
    outputs: &[FixedPort],
) -> Result<Samples, BundleError> {
    let file = golden_path(name);
    let refuse = |message: String| BundleError::Golden { file: file.clone(), message };
    let bytes = bundle.read(&file)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let inputs = rows(&tensors, "in", inputs).map_err(refuse)?;
    let outputs = rows(&tensors, "out", outputs).map_err(refuse)?;
    let count = inputs.first().map_or(0, Vec::len);
    if count == 0 || inputs.iter().chain(&outputs).any(|port| port.len() != count) {
        return Err(refuse("tensors must share a first axis of at least 1".to_owned()));
    }
    Ok(Samples { inputs, outputs, count })
}

/// Reads the tensors named `<prefix>.<port>`, by port and by row.
fn rows(tensors: &SafeTensors<'_>, prefix: &str, ports: &[FixedPort]) -> Result<Vec<Vec<Array>>, String> {
    let read = |port: &FixedPort| {
        let name = format!("{prefix}.{}", port.name);
        let view = tensors.tensor(&name).map_err(|_| format!("tensor `{name}` is missing"))?;
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is {:?}, not F32", view.dtype()));
        }
        if view.shape().get(1..) != port.shape.get(1..) {
            return Err(format!("tensor `{name}` has shape {:?}, the model {:?}", view.shape(), port.shape));
        }
        let size = port.shape.iter().product::<usize>().max(1);
        let row = |bytes: &[u8]| {
            let (values, _) = bytes.as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
            Array::new(port.shape.clone(), values.into()).map_err(|error| format!("tensor `{name}`: {error}"))
        };
        view.data().chunks_exact(4 * size).map(row).collect()
    };
    ports.iter().map(read).collect()
}

/// Decides a whole golden sample by the local experts alone.
fn check_decision(bundle: &Bundle, runner: &mut Runner, golden: &GoldenDecision) -> Result<(), BundleError> {
    let manifest = Arc::clone(runner.models().manifest());
    let main = manifest.modalities.iter().find_map(|spec| golden.parts.get(&spec.name));
    let about = |file: Option<&String>, message: String| BundleError::Golden {
        file: file.cloned().unwrap_or_default(),
        message,
    };
    // The file of its first modality stands for the whole decision.
    let refuse = |message: String| about(main, message);
    let parts = golden.parts.iter().map(|(modality, file)| Ok(Part::file(modality, bundle.read(file)?)));
    let parts = parts.collect::<Result<Vec<_>, BundleError>>()?;
    let read = sample::read(&manifest.modalities, &parts, &Limits::default());
    let read = read.map_err(|error| about(golden.parts.get(&error.modality), error.to_string()))?;
    let policy = Policy {
        mode: Mode::Never,
        deadline: Duration::from_secs(60),
        scope: Scope::of(golden.labels.iter().cloned()),
        ..Policy::for_bundle(&manifest)
    };
    let places = tier_places(&manifest, Place::Absent(Missing::Offline));
    let (presence, started) = (read.sample.presence(), Instant::now());
    let ask = Ask { task: &golden.task, policy, places, presence, started };
    let mut local = Local::new(runner, read.sample, &|| false);
    let decided = to_the_end(async {
        let mut driver = Driver::begin(&manifest, &mut local, ask).await?;
        driver.run(&mut local).await;
        Ok::<_, DriverError<RunError>>(driver.close()?)
    });
    let outcome = decided.map_err(|error| refuse(error.to_string()))?.outcome;
    let task =
        manifest.task(&golden.task).ok_or_else(|| refuse(format!("`{}` is not a task", golden.task)))?;

    let label = match outcome.is_unknown() {
        true => UNKNOWN,
        false => &*task.labels[outcome.mixed.verdict],
    };
    if label != golden.label {
        let (expected, rule) = (&golden.label, &outcome.why.rule);
        return Err(refuse(format!("decided `{label}`, expected `{expected}` ({rule})")));
    }
    let probability = outcome.mixed.probabilities[outcome.mixed.verdict];
    let risk = outcome.why.local_risk.unwrap_or(1.0);
    for (what, got, expected) in
        [("probability", probability, golden.probability), ("risk", risk, golden.risk)]
    {
        let is_close = (got - expected).abs() <= DECISION_TOLERANCE;
        if !is_close {
            return Err(refuse(format!("{what} is {got:.4}, expected {expected:.4} ± {DECISION_TOLERANCE}")));
        }
    }
    let mut carried: Vec<(f64, &str)> = (outcome.mixed.weights.iter().zip(&outcome.answers))
        .filter(|(weight, _)| **weight > 0.0)
        .map(|(weight, weighed)| (*weight, manifest.experts[weighed.answer.expert].name.as_str()))
        .collect();
    carried.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = carried.iter().map(|(_, name)| *name).collect();
    if names != golden.experts {
        return Err(refuse(format!("decided by {names:?}, expected {:?}", golden.experts)));
    }
    Ok(())
}
