//! What an expert takes: a modality's value, or what its encoder made of it.

use std::sync::Arc;

use millgate_sample::modality::{Modality, Prepare, Refused, Spec, Table, unprepared};
use serde::Deserialize;

use super::Manifest;

/// Name of the embedding of the bundle's first encoder; that of another is `embedding.<modality>`.
pub const EMBEDDING: &str = "embedding";

/// One input of an expert.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertInput {
    pub modality: String,
    #[serde(default)]
    pub kind: InputKind,
    /// Shape of the input as its modality's kind has it, without the batch axis: of a picture channels, height, width; of an
    /// embedding its width alone.
    pub shape: Vec<usize>,
    /// Keys of its modality's kind; none of an embedding.
    #[serde(default)]
    pub preprocess: Table,
    /// Name that the model, a tensor on the wire and a golden tensor give the input: the modality, or [`EMBEDDING`] with or
    /// without a modality. Filled in when the manifest is read.
    #[serde(skip)]
    pub name: String,
    /// What makes the input of a value. Filled in when the manifest is read; an embedding is not made so.
    #[serde(skip, default = "unprepared")]
    pub prepare: Arc<dyn Prepare>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// The modality's value, prepared: a picture resized and normalised.
    #[default]
    Value,
    /// The modality's embedding: all that leaves a device whose operator says `features`.
    Embedding,
}

impl InputKind {
    /// The name that manifests write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Embedding => "embedding",
        }
    }
}

impl Manifest {
    /// What the embedding of a modality is called; see [`EMBEDDING`].
    pub fn embedding_name(&self, modality: &str) -> String {
        match self.encoders.first() {
            Some(first) if first.modality == modality => EMBEDDING.to_owned(),
            _ => format!("{EMBEDDING}.{modality}"),
        }
    }
}

/// Has each modality find its kind and check itself.
pub(super) fn resolve(
    manifest: &mut Manifest,
    kinds: &[&'static dyn Modality],
) -> Result<(), (String, String)> {
    for (at, spec) in manifest.modalities.iter_mut().enumerate() {
        spec.resolve(kinds).map_err(under(&format!("modalities[{at}]")))?;
    }
    Ok(())
}

/// Has each input's modality check it and say how it is made, and names the inputs.
pub(super) fn fill(manifest: &mut Manifest) -> Result<(), (String, String)> {
    let names: Vec<Vec<String>> = (manifest.experts.iter())
        .map(|expert| {
            let name = |input: &ExpertInput| match input.kind {
                InputKind::Value => input.modality.clone(),
                InputKind::Embedding => manifest.embedding_name(&input.modality),
            };
            expert.inputs.iter().map(name).collect()
        })
        .collect();
    let modalities = manifest.modalities.clone();
    let spec = |name: &str| -> Result<&Spec, Refused> {
        let spec = modalities.iter().find(|spec| spec.name == name);
        spec.ok_or_else(|| Refused::new("modality", format!("`{name}` is not a modality of this bundle")))
    };
    for (at, encoder) in manifest.encoders.iter_mut().enumerate() {
        let of = spec(&encoder.modality);
        let input = of.and_then(|spec| spec.modality().input(spec, &encoder.shape, &encoder.preprocess));
        encoder.prepare = input.map_err(under(&format!("encoders[{at}]")))?;
    }
    for ((expert_at, expert), names) in manifest.experts.iter_mut().enumerate().zip(names) {
        for ((at, input), name) in expert.inputs.iter_mut().enumerate().zip(names) {
            input.name = name;
            if input.kind == InputKind::Value {
                let of = spec(&input.modality);
                let prepare =
                    of.and_then(|spec| spec.modality().input(spec, &input.shape, &input.preprocess));
                input.prepare = prepare.map_err(under(&format!("experts[{expert_at}].inputs[{at}]")))?;
            }
        }
    }
    Ok(())
}

/// Names what is wrong from the manifest's root.
fn under(key: &str) -> impl Fn(Refused) -> (String, String) + '_ {
    move |Refused { key: inner, message }| (format!("{key}.{inner}"), message)
}
