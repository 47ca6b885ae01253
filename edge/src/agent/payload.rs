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
use millgate_shared::image::{Picture, resize};
use millgate_shared::index::{By, ExpertIx, ModalityIx};
use millgate_shared::local::Stay;
use millgate_shared::proto::v1;
use millgate_shared::runner::{Runner, image_tensor};
use millgate_shared::sample::Sample;
use millgate_shared::wire::{
    ImageSource, Numbers, REFERENCE, Scale, write_image, write_image_if_quick, write_packed,
};

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
    Raw {
        image: &'a Picture,
        file: Option<&'a [u8]>,
    },
    /// Likewise, but the smallest form is to leave that gives the pool what it would make of the picture.
    Auto {
        image: &'a Picture,
        file: Option<&'a [u8]>,
        embedding: Option<&'a Embedding>,
    },
    Tensor {
        image: &'a Picture,
        embedding: Option<&'a Embedding>,
    },
    Features(&'a Embedding),
}

/// A sample as policy lets it be seen.
#[derive(Debug)]
pub struct Screened<'a> {
    manifest: &'a Manifest,
    policy: &'a UploadPolicy,
    /// `None` where there is nothing of a modality that may go.
    allowed: By<ModalityIx, Option<Allowed<'a>>>,
    /// Pictures that are written already.
    written: BTreeMap<Wanted, Written>,
}

/// A picture that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    modality: ModalityIx,
    /// Width and height that all who take it resize it to; `None`: they differ, or it is to go up as it is.
    size: Option<(u32, u32)>,
    /// The modality that it is written against, as that was wanted.
    against: Option<(ModalityIx, Option<(u32, u32)>)>,
}

/// A picture on its way.
#[derive(Debug, Clone)]
struct Written {
    wire: v1::Image,
    /// What the pool will make of it; `None`: the picture as it is.
    resized: Option<Arc<Picture>>,
}

/// What one expert takes of a modality.
#[derive(Debug, Default)]
struct Taken<'a> {
    /// Width and height of its inputs of pixels.
    sizes: Vec<(u32, u32)>,
    /// Names of its inputs of embeddings.
    embeddings: Vec<&'a str>,
}

impl<'a> Screened<'a> {
    pub fn new(
        manifest: &'a Manifest,
        policy: &'a UploadPolicy,
        sample: &'a Sample,
        source: &'a ImageSource,
        embeddings: &'a Embeddings,
    ) -> Self {
        let screen = |modality: ModalityIx| {
            let embedding = embeddings.of(manifest, &manifest.modalities[modality].name);
            match policy.form(modality) {
                Form::Raw => {
                    let file = source.files.get(modality).and_then(Option::as_deref);
                    let image = sample.image(modality)?;
                    Some(match policy.is_auto(modality) {
                        true => Allowed::Auto { image, file, embedding },
                        false => Allowed::Raw { image, file },
                    })
                }
                Form::Tensor => Some(Allowed::Tensor { image: sample.image(modality)?, embedding }),
                Form::Features => Some(Allowed::Features(embedding?)),
            }
        };
        let allowed = By::from_fn(manifest.modalities.len(), screen);
        Self { manifest, policy, allowed, written: BTreeMap::new() }
    }

    /// What an expert is sent; `None` if it needs what is absent or may not go.
    pub fn payload(&mut self, expert: ExpertIx) -> Option<Payload> {
        let manifest = self.manifest;
        let mut payload = Payload::default();
        let mut pictures: BTreeMap<ModalityIx, Taken<'_>> = BTreeMap::new();
        for input in &manifest.experts[expert].inputs {
            let modality = manifest.modality_index(&input.modality)?;
            match (self.allowed[modality]?, input.kind) {
                // The pool makes what it needs of the picture.
                (Allowed::Raw { .. } | Allowed::Auto { .. }, _) => {
                    let taken = pictures.entry(modality).or_default();
                    match input.pixels() {
                        Some(spec) => taken.sizes.push((spec.shape[2] as u32, spec.shape[1] as u32)),
                        None => taken.embeddings.push(&input.name),
                    }
                }
                (Allowed::Tensor { image, .. }, InputKind::Pixels) => {
                    payload.tensors.push(self.pixels(input, image)?);
                }
                (Allowed::Tensor { embedding: Some(embedding), .. }, InputKind::Embedding)
                | (Allowed::Features(embedding), InputKind::Embedding) => {
                    let numbers = self.policy.numbers();
                    payload.tensors.push(write_packed(&input.name, embedding.array(), numbers, None));
                }
                (Allowed::Tensor { embedding: None, .. }, InputKind::Embedding)
                | (Allowed::Features(_), InputKind::Pixels) => return None,
            }
        }
        let mut wanted = Vec::with_capacity(pictures.len());
        for (modality, taken) in pictures {
            let embeddings = self.embeddings(modality, &taken);
            if embeddings.is_empty() || !taken.sizes.is_empty() {
                wanted.push((modality, self.common_size(modality, &taken, !embeddings.is_empty())));
            }
            payload.tensors.extend(embeddings);
        }
        payload.images = self.images(wanted);
        Some(payload)
    }

    /// The embeddings to send so that the pool need not make them; none where it makes them of the picture.
    fn embeddings(&self, modality: ModalityIx, taken: &Taken<'_>) -> Vec<v1::Tensor> {
        let Some(Allowed::Auto { image, file, embedding: Some(embedding) }) = self.allowed[modality] else {
            return Vec::new();
        };
        let exact = |name: &&str| write_packed(name, embedding.array(), Numbers::Fp32, None);
        let tensors: Vec<v1::Tensor> = taken.embeddings.iter().map(exact).collect();
        let bytes: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
        // A picture of few pixels may take less than what was made of it.
        let whole = write_image_if_quick("", image, file, None).filter(|whole| whole.data.len() <= bytes);
        if whole.is_some() && taken.sizes.is_empty() { Vec::new() } else { tensors }
    }

    /// The size that all who take the picture resize it to, if it may go up in that one.
    fn common_size(
        &self,
        modality: ModalityIx,
        taken: &Taken<'_>,
        has_embeddings: bool,
    ) -> Option<(u32, u32)> {
        let Some(Allowed::Auto { image, .. }) = self.allowed[modality] else { return None };
        let (first, others) = taken.sizes.split_first()?;
        // The pool makes an embedding of the picture in another size.
        let is_common =
            others.iter().all(|size| size == first) && (taken.embeddings.is_empty() || has_embeddings);
        (is_common && *first != (image.width(), image.height())).then_some(*first)
    }

    fn pixels(&self, input: &ExpertInput, image: &Picture) -> Option<v1::Tensor> {
        let spec = input.pixels()?;
        let tensor = image_tensor(image, &spec.shape, spec.mean, spec.std);
        let scale = Scale::of_pixels(spec.mean, spec.std);
        Some(write_packed(&input.name, &tensor, self.policy.numbers(), scale))
    }

    /// The reference goes first, and others are written against it. Each with the size that it is wanted in.
    fn images(&mut self, mut pictures: Vec<(ModalityIx, Option<(u32, u32)>)>) -> Vec<v1::Image> {
        let reference = self.manifest.modality_index(REFERENCE);
        let reference = pictures.iter().copied().find(|(modality, _)| Some(*modality) == reference);
        pictures.sort_by_key(|picture| Some(*picture) != reference);
        let mut images = Vec::with_capacity(pictures.len());
        for (modality, size) in pictures {
            let against = reference.filter(|reference| reference.0 != modality);
            let wanted = Wanted { modality, size, against };
            images.extend(self.written(wanted).map(|written| written.wire));
        }
        images
    }

    /// Writes a picture, or gives it as it was written for another expert.
    fn written(&mut self, wanted: Wanted) -> Option<Written> {
        if let Some(written) = self.written.get(&wanted) {
            return Some(written.clone());
        }
        let Wanted { modality, size, against } = wanted;
        let reference = against.and_then(|(modality, size)| {
            let reference = self.written(Wanted { modality, size, against: None })?;
            Some((modality, reference.resized))
        });
        let reference = match &reference {
            Some((_, Some(resized))) => Some(&**resized),
            Some((modality, None)) => self.picture(*modality).map(|(image, _)| image),
            None => None,
        };
        let (image, file) = self.picture(modality)?;
        let name = &self.manifest.modalities[modality].name;
        let written = match size {
            None => Written { wire: write_image(name, image, file, reference), resized: None },
            Some((width, height)) => {
                let resized = resize(image, width, height);
                let wire = write_image(name, &resized, None, reference);
                let whole = write_image_if_quick(name, image, file, reference);
                match whole.filter(|whole| whole.data.len() <= wire.data.len()) {
                    Some(wire) => Written { wire, resized: None },
                    None => Written { wire, resized: Some(Arc::new(resized)) },
                }
            }
        };
        self.written.insert(wanted, written.clone());
        Some(written)
    }

    /// A picture that may leave, and the file that gives it.
    fn picture(&self, modality: ModalityIx) -> Option<(&'a Picture, Option<&'a [u8]>)> {
        match self.allowed[modality]? {
            Allowed::Raw { image, file } | Allowed::Auto { image, file, .. } => Some((image, file)),
            Allowed::Tensor { .. } | Allowed::Features(_) => None,
        }
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
    experts: impl IntoIterator<Item = ExpertIx>,
) -> Vec<(ExpertIx, Result<Upload, Missing>)> {
    let mut screened = Screened::new(manifest, policy, seen.sample, seen.source, seen.embeddings);
    let mut upload = |expert: ExpertIx| {
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
    experts: Vec<ExpertIx>,
    outgoing: Outgoing<'_>,
) -> Vec<(ExpertIx, Result<Upload, Missing>)> {
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
