//! What encoders make of a sample: the one form of it that may leave a device under the policy `features`.
//!
//! An [`Embedding`] comes out of an encoder and from nowhere else, so whoever is handed one holds no pixels.

use millgate_array::Array;
use millgate_model::manifest::Manifest;
use millgate_sample::index::{By, EncoderIx};

/// Place of one modality's value in the shared space, `[1, dims]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Array);

impl Embedding {
    /// Takes what an encoder gave, which is FP32.
    pub fn of_encoder(output: Array) -> Self {
        Self(output)
    }

    pub fn array(&self) -> &Array {
        &self.0
    }

    fn values(&self) -> &[f32] {
        self.0.as_fp32().unwrap_or(&[])
    }
}

/// Embeddings of one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    /// Embedding by encoder; `None` where its modality is absent.
    by_encoder: By<EncoderIx, Option<Embedding>>,
}

impl Embeddings {
    pub fn new(by_encoder: By<EncoderIx, Option<Embedding>>) -> Self {
        Self { by_encoder }
    }

    /// Gives the embedding of a modality, if it is present and has an encoder.
    pub fn of(&self, manifest: &Manifest, modality: &str) -> Option<&Embedding> {
        self.by_encoder.get(manifest.encoder_index(modality)?)?.as_ref()
    }

    /// Gives the embeddings one after the other in the encoders' order, as the gate takes them: zeros where a
    /// modality is absent.
    pub fn row(&self, manifest: &Manifest) -> Vec<f32> {
        let mut row = Vec::new();
        for (encoder, embedding) in manifest.encoders.iter().zip(&self.by_encoder) {
            match embedding {
                Some(embedding) => row.extend_from_slice(embedding.values()),
                None => row.resize(row.len() + encoder.dims, 0.0),
            }
        }
        row
    }
}
