//! A sample's payload for each expert that is asked, under the operator's policy.
//!
//! [`Screened`] takes the sample apart once, by what may leave the device: of a modality under `features` it keeps the
//! embedding and nothing else, and payloads are made of a [`Screened`] alone. What is made is cleared by the uplink's own
//! policy check before it is sent (see `uplink::upload`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::manifest::{ExpertInput, InputKind, Manifest};
use millgate_shared::decision::Missing;
use millgate_shared::embedding::{Embedding, Embeddings};
use millgate_shared::image::GreyImage;
use millgate_shared::local::Stay;
use millgate_shared::proto::v1;
use millgate_shared::runner::{Runner, image_tensor};
use millgate_shared::sample::Sample;
use millgate_shared::wire::{ImageSource, REFERENCE, Scale, write_image, write_packed};

use crate::uplink::ledger::{Ledger, Traffic};
use crate::uplink::upload::{Form, Upload, UploadPolicy};

/// What one expert is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload {
    pub images: Vec<v1::Image>,
    pub tensors: Vec<v1::Tensor>,
}

/// What may leave the device of one modality.
#[derive(Debug, Clone, Copy)]
enum Allowed<'a> {
    Raw { image: &'a GreyImage, file: Option<&'a [u8]> },
    Tensor { image: &'a GreyImage, embedding: Option<&'a Embedding> },
    Features(&'a Embedding),
}

/// A sample as policy lets it be seen.
#[derive(Debug)]
pub struct Screened<'a> {
    manifest: &'a Manifest,
    policy: &'a UploadPolicy,
    /// By modality index; `None` where there is nothing that may go.
    allowed: Vec<Option<Allowed<'a>>>,
    /// Pictures that are written already, by modality and whether against the reference.
    written: BTreeMap<(usize, bool), v1::Image>,
}

impl<'a> Screened<'a> {
    pub fn new(
        manifest: &'a Manifest,
        policy: &'a UploadPolicy,
        sample: &'a Sample,
        source: &'a ImageSource,
        embeddings: &'a Embeddings,
    ) -> Self {
        let screen = |modality: usize| {
            let embedding = embeddings.of(manifest, &manifest.modalities[modality].name);
            match policy.form(modality) {
                Form::Raw => {
                    let file = source.files.get(modality).and_then(Option::as_deref);
                    Some(Allowed::Raw { image: sample.image(modality)?, file })
                }
                Form::Tensor => Some(Allowed::Tensor { image: sample.image(modality)?, embedding }),
                Form::Features => Some(Allowed::Features(embedding?)),
            }
        };
        let allowed = (0..manifest.modalities.len()).map(screen).collect();
        Self { manifest, policy, allowed, written: BTreeMap::new() }
    }

    /// For an expert by index; `None` if it needs what is absent or may not go.
    pub fn payload(&mut self, expert: usize) -> Option<Payload> {
        let manifest = self.manifest;
        let mut payload = Payload::default();
        let mut raw = Vec::new();
        for input in &manifest.experts[expert].inputs {
            let modality = manifest.modality_index(&input.modality)?;
            match (self.allowed[modality]?, input.kind) {
                // The pool makes what it needs of the picture.
                (Allowed::Raw { .. }, _) => raw.push(modality),
                (Allowed::Tensor { image, .. }, InputKind::Pixels) => {
                    payload.tensors.push(self.pixels(input, image)?);
                }
                (Allowed::Tensor { embedding: Some(embedding), .. }, InputKind::Embedding)
                | (Allowed::Features(embedding), InputKind::Embedding) => {
                    let numbers = self.policy.numbers();
                    payload.tensors.push(write_packed(&input.name, embedding.tensor(), numbers, None));
                }
                (Allowed::Tensor { embedding: None, .. }, InputKind::Embedding)
                | (Allowed::Features(_), InputKind::Pixels) => return None,
            }
        }
        raw.sort_unstable();
        raw.dedup();
        payload.images = self.images(raw);
        Some(payload)
    }

    fn pixels(&self, input: &ExpertInput, image: &GreyImage) -> Option<v1::Tensor> {
        let spec = input.pixels()?;
        let tensor = image_tensor(image, &spec.shape, spec.mean, spec.std);
        let scale = Scale::of_pixels(spec.mean, spec.std);
        Some(write_packed(&input.name, &tensor, self.policy.numbers(), scale))
    }

    /// The reference goes first, and others are written against it, if it goes up as it is.
    fn images(&mut self, mut modalities: Vec<usize>) -> Vec<v1::Image> {
        let reference = self.manifest.modality_index(REFERENCE).filter(|index| modalities.contains(index));
        modalities.sort_by_key(|modality| Some(*modality) != reference);
        let mut images = Vec::with_capacity(modalities.len());
        for modality in modalities {
            let against = reference.filter(|reference| *reference != modality);
            let Some(Allowed::Raw { image, file }) = self.allowed[modality] else { continue };
            let reference = against.and_then(|index| match self.allowed[index] {
                Some(Allowed::Raw { image, .. }) => Some(image),
                _ => None,
            });
            let name = &self.manifest.modalities[modality].name;
            let write = || write_image(name, image, file, reference);
            images.push(self.written.entry((modality, reference.is_some())).or_insert_with(write).clone());
        }
        images
    }
}

/// What decides whether a call goes up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) policy: &'a UploadPolicy,
    pub(super) ledger: &'a Ledger,
}

/// Has the sample's embeddings made, if the policy sends any: the rest of this module runs no model.
pub(super) fn prepare(runner: &mut Runner, stay: &mut Stay, policy: &UploadPolicy) {
    let models = Arc::clone(runner.models());
    let manifest = models.manifest();
    let sends = |input: &ExpertInput| {
        let form = manifest.modality_index(&input.modality).map(|modality| policy.form(modality));
        input.kind == InputKind::Embedding && form != Some(Form::Raw)
    };
    let is_needed = manifest.experts.iter().any(|expert| expert.inputs.iter().any(sends));
    if is_needed && let Err(error) = stay.embeddings(runner) {
        tracing::warn!(%error, "no embedding to send");
    }
}

/// A sample with all that its payloads are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) sample: &'a Sample,
    pub(super) source: &'a ImageSource,
    pub(super) embeddings: &'a Embeddings,
}

/// What each expert would be sent, cleared; nothing is spent for it yet. For calls now and for those that wait.
pub(super) fn uploads(
    manifest: &Manifest,
    policy: &UploadPolicy,
    seen: Seen<'_>,
    experts: impl IntoIterator<Item = usize>,
) -> Vec<(usize, Result<Upload, Missing>)> {
    let mut screened = Screened::new(manifest, policy, seen.sample, seen.source, seen.embeddings);
    let mut upload = |expert: usize| {
        let Payload { images, tensors } = screened.payload(expert).ok_or(Missing::Failed)?;
        let experts = vec![manifest.experts[expert].name.clone()];
        let request = v1::RunExpertsRequest { experts, images, tensors, ..Default::default() };
        policy.clear(manifest, request).map_err(|error| {
            tracing::error!(%error, "a payload is not what policy allows; it stays here");
            Missing::Failed
        })
    };
    experts.into_iter().map(|expert| (expert, upload(expert))).collect()
}

/// One live call for each expert, its bytes spent, or why it does not go.
pub(super) fn calls(
    manifest: &Manifest,
    stay: &mut Stay,
    source: &ImageSource,
    experts: Vec<usize>,
    outgoing: Outgoing<'_>,
) -> Vec<(usize, Result<Upload, Missing>)> {
    let none = Embeddings::default();
    let embeddings = stay.known_embeddings().unwrap_or(&none);
    let seen = Seen { sample: &stay.sample, source, embeddings };
    let mut calls = uploads(manifest, outgoing.policy, seen, experts);
    let (risk, deadline) = (stay.deciding.local_risk(), stay.deciding.deadline());
    for (expert, call) in &mut calls {
        let Ok(upload) = call else { continue };
        upload.set_timeout(deadline.saturating_duration_since(Instant::now()).as_micros() as u64);
        if let Err(refused) = outgoing.ledger.take(Traffic::Live, upload.form(), upload.bytes(), risk) {
            stay.deciding.note(&format!("{} not asked: {refused}", manifest.experts[*expert].name));
            *call = Err(Missing::Budget);
        }
    }
    calls
}

#[cfg(test)]
mod tests;
