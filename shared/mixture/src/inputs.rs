//! What models are given, made of a sample: once for the agent's model threads and the pool's scheduler alike.

use millgate_array::{Array, ArrayError};
use millgate_model::manifest::{Encoder, ExpertInput, InputKind, Manifest};
use millgate_sample::index::ExpertIx;
use millgate_sample::sample::Sample;

use crate::embedding::Embeddings;

/// Names of the gate's inputs.
pub const GATE_INPUTS: [&str; 2] = ["embeddings", "presence"];

/// Reason why an input cannot be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputError {
    #[error("modality `{0}` is absent")]
    Absent(String),
    #[error("input `{input}`: {source}")]
    Array { input: String, source: ArrayError },
}

/// Makes the gate's inputs, in the order of [`GATE_INPUTS`]: the embeddings one after the other, zeros where a
/// modality is absent, and 1 for each modality that is there.
pub fn gate_inputs(
    manifest: &Manifest,
    sample: &Sample,
    embeddings: &Embeddings,
) -> Result<[Array; 2], InputError> {
    let dims = manifest.encoders.first().map_or(0, |encoder| encoder.dims);
    let presence: Vec<f32> =
        sample.presence().iter().map(|present| if *present { 1.0 } else { 0.0 }).collect();
    let array = |input: &str, shape: Vec<usize>, values: Vec<f32>| {
        let refuse = |source| InputError::Array { input: input.to_owned(), source };
        Array::new(shape, values.into()).map_err(refuse)
    };
    let [embedded, present] = GATE_INPUTS;
    Ok([
        array(embedded, vec![1, manifest.encoders.len(), dims], embeddings.row(manifest))?,
        array(present, vec![1, presence.len()], presence)?,
    ])
}

/// Makes an encoder's input; `None` where its modality is absent.
pub fn encoder_input(
    manifest: &Manifest,
    encoder: &Encoder,
    sample: &Sample,
) -> Result<Option<Array>, InputError> {
    let value = manifest.modality_index(&encoder.modality).and_then(|index| sample.value(index));
    let refuse = |source| InputError::Array { input: encoder.modality.clone(), source };
    value.map(|value| encoder.prepare.prepare(value).map_err(refuse)).transpose()
}

/// Makes an expert's input that is a modality's value.
pub fn value_input(manifest: &Manifest, input: &ExpertInput, sample: &Sample) -> Result<Array, InputError> {
    let value = manifest.modality_index(&input.modality).and_then(|index| sample.value(index));
    let value = value.ok_or_else(|| InputError::Absent(input.modality.clone()))?;
    input.prepare.prepare(value).map_err(|source| InputError::Array { input: input.name.clone(), source })
}

/// Makes an expert's inputs, in the manifest's order.
pub fn expert_inputs(
    manifest: &Manifest,
    expert: ExpertIx,
    sample: &Sample,
    embeddings: &Embeddings,
) -> Result<Vec<Array>, InputError> {
    let make = |input: &ExpertInput| match input.kind {
        InputKind::Value => value_input(manifest, input, sample),
        InputKind::Embedding => {
            let embedding = embeddings.of(manifest, &input.modality);
            Ok(embedding.ok_or_else(|| InputError::Absent(input.name.clone()))?.array().clone())
        }
    };
    manifest.experts[expert].inputs.iter().map(make).collect()
}
