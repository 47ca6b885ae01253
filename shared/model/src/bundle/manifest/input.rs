//! What an expert takes: a modality's pixels, or what the shared encoder made of them.

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
    /// Channels, height, width; of an embedding its width alone.
    pub shape: Vec<usize>,
    /// Of pixels alone.
    pub mean: Option<f32>,
    /// Of pixels alone.
    pub std: Option<f32>,
    /// As the model, a tensor on the wire and a golden tensor name it: the modality, or [`EMBEDDING`] with or without a
    /// modality. Filled in when the manifest is read.
    #[serde(skip)]
    pub name: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// The picture, resized and normalised.
    #[default]
    Pixels,
    /// The modality's embedding: all that leaves a device whose operator says `features`.
    Embedding,
}

/// How a picture becomes an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// Channels, height, width.
    pub shape: [usize; 3],
    pub mean: f32,
    pub std: f32,
}

impl ExpertInput {
    /// How it is made of a picture; `None` if it is an embedding.
    pub fn pixels(&self) -> Option<Pixels> {
        let shape = <[usize; 3]>::try_from(self.shape.as_slice()).ok()?;
        let is_pixels = self.kind == InputKind::Pixels;
        is_pixels.then_some(Pixels { shape, mean: self.mean?, std: self.std? })
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

/// Fills in [`ExpertInput::name`].
pub(super) fn name(manifest: &mut Manifest) {
    let names: Vec<Vec<String>> = (manifest.experts.iter())
        .map(|expert| {
            let name = |input: &ExpertInput| match input.kind {
                InputKind::Pixels => input.modality.clone(),
                InputKind::Embedding => manifest.embedding_name(&input.modality),
            };
            expert.inputs.iter().map(name).collect()
        })
        .collect();
    for (expert, names) in manifest.experts.iter_mut().zip(names) {
        for (input, name) in expert.inputs.iter_mut().zip(names) {
            input.name = name;
        }
    }
}
