//! What a decision takes on this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use millgate_engine::Tract;
use millgate_mixture::runner::{Holding, Models};

use super::extracting::Reader;
use super::{Made, MakeError};

/// Decisions that are timed.
const COUNT: usize = 25;

/// Median time of one decision by one thread, from a decoded picture to logits, in microseconds.
pub(super) fn decision_us(made: &Made, beside: &Path) -> Result<u64, MakeError> {
    let other = |error: &dyn std::fmt::Display| MakeError::Other(error.to_string());
    let trial = made.draft.trial(beside)?;
    let models = Models::load(trial.bundle(), Holding::Edge, &Tract).map_err(|error| other(&error))?;
    let mut runner = Arc::new(models).runner().map_err(|error| other(&error))?;
    let manifest = Arc::clone(runner.models().manifest());
    let channels = manifest.modalities.first().map_or(1, |spec| spec.channels);
    let reader = Reader::new(channels, manifest.modalities.len() > 1)?;
    let Some(item) = made.held_out.items.first() else { return Ok(0) };
    let sample = reader.read(item)?;
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let started = Instant::now();
        let embeddings = runner.embeddings(&sample).map_err(|error| other(&error))?;
        runner.scores(&sample, &embeddings).map_err(|error| other(&error))?;
        for expert in manifest.experts.indices() {
            runner.answer(expert, &sample, &embeddings).map_err(|error| other(&error))?;
        }
        times.push(started.elapsed().as_micros() as u64);
    }
    times.sort_unstable();
    Ok(times[COUNT / 2])
}
