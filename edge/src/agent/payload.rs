//! A sample's payload for each expert that is asked, under the operator's policy.
//!
//! [`Screened`] takes the sample apart once, by what may leave the device: of a modality under `features` it keeps the
//! embedding and nothing else, and payloads are made of a [`Screened`] alone. What is made is cleared by the uplink's own
//! policy check before it is sent (see `uplink::upload`).

use std::collections::BTreeMap;
use std::time::Instant;

use millgate_shared::bundle::manifest::{ExpertInput, InputKind, Manifest};
use millgate_shared::decision::Missing;
use millgate_shared::driver::Standing;
use millgate_shared::embedding::{Embedding, Embeddings};
use millgate_shared::index::{By, ExpertIx, ModalityIx};
use millgate_shared::local::Local;
use millgate_shared::modality::Effort;
use millgate_shared::part::{Part, Value};
use millgate_shared::proto::v1;
use millgate_shared::sample::Sample;
use millgate_shared::wire::{Numbers, write_packed, write_part};

use crate::uplink::ledger::{Ledger, Traffic};
use crate::uplink::upload::{Form, Upload, UploadPolicy};

/// What one expert is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Payload {
    pub parts: Vec<v1::Part>,
    pub tensors: Vec<v1::Tensor>,
}

/// What may leave the device of one modality.
#[derive(Debug, Clone, Copy)]
enum Allowed<'a> {
    Raw(&'a Value),
    /// Everything may leave, but the smallest form is to that gives the pool what it would make of the value.
    Auto {
        value: &'a Value,
        embedding: Option<&'a Embedding>,
    },
    Tensor {
        value: &'a Value,
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
    /// Parts that are written already.
    written: BTreeMap<Wanted, Written>,
}

/// A part that is to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    modality: ModalityIx,
    /// The shape that all who take it reduce it to; `None`: they differ, or it is to go up as it is.
    reduced: Option<Vec<usize>>,
    /// The modality that it is written against, as that was wanted.
    against: Option<(ModalityIx, Option<Vec<usize>>)>,
}

/// A part on its way.
#[derive(Debug, Clone)]
struct Written {
    part: Part,
    /// What the pool will make of it.
    value: Value,
}

/// What one expert takes of a modality.
#[derive(Debug, Default)]
struct Taken<'a> {
    /// The shape that the value may be reduced to, for each input that is made of it; `None` where it is best as it is.
    reduced: Vec<Option<Vec<usize>>>,
    /// Names of its inputs of embeddings.
    embeddings: Vec<&'a str>,
}

impl<'a> Screened<'a> {
    pub fn new(
        manifest: &'a Manifest,
        policy: &'a UploadPolicy,
        sample: &'a Sample,
        embeddings: &'a Embeddings,
    ) -> Self {
        let screen = |modality: ModalityIx| {
            let embedding = embeddings.of(manifest, &manifest.modalities[modality].name);
            match policy.form(modality) {
                Form::Raw => {
                    let value = sample.value(modality)?;
                    Some(match policy.is_auto(modality) {
                        true => Allowed::Auto { value, embedding },
                        false => Allowed::Raw(value),
                    })
                }
                Form::Tensor => Some(Allowed::Tensor { value: sample.value(modality)?, embedding }),
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
        let mut taken: BTreeMap<ModalityIx, Taken<'_>> = BTreeMap::new();
        for input in &manifest.experts[expert].inputs {
            let modality = manifest.modality_index(&input.modality)?;
            match (self.allowed[modality]?, input.kind) {
                // The pool makes what it needs of the value.
                (Allowed::Raw(value) | Allowed::Auto { value, .. }, InputKind::Value) => {
                    taken.entry(modality).or_default().reduced.push(input.prepare.reduced(value));
                }
                (Allowed::Raw(_) | Allowed::Auto { .. }, InputKind::Embedding) => {
                    taken.entry(modality).or_default().embeddings.push(&input.name);
                }
                (Allowed::Tensor { value, .. }, InputKind::Value) => {
                    payload.tensors.push(self.tensor(input, value)?);
                }
                (Allowed::Tensor { embedding: Some(embedding), .. }, InputKind::Embedding)
                | (Allowed::Features(embedding), InputKind::Embedding) => {
                    let numbers = self.policy.numbers();
                    payload.tensors.push(write_packed(&input.name, embedding.array(), numbers, None));
                }
                (Allowed::Tensor { embedding: None, .. }, InputKind::Embedding)
                | (Allowed::Features(_), InputKind::Value) => return None,
            }
        }
        let mut wanted = Vec::with_capacity(taken.len());
        for (modality, taken) in taken {
            let embeddings = self.embeddings(modality, &taken);
            if embeddings.is_empty() || !taken.reduced.is_empty() {
                wanted.push((modality, self.common(modality, &taken, !embeddings.is_empty())));
            }
            payload.tensors.extend(embeddings);
        }
        payload.parts = self.parts(wanted);
        Some(payload)
    }

    /// The embeddings to send so that the pool need not make them; none where it makes them of the value.
    fn embeddings(&self, modality: ModalityIx, taken: &Taken<'_>) -> Vec<v1::Tensor> {
        let Some(Allowed::Auto { value, embedding: Some(embedding) }) = self.allowed[modality] else {
            return Vec::new();
        };
        let exact = |name: &&str| write_packed(name, embedding.array(), Numbers::Fp32, None);
        let tensors: Vec<v1::Tensor> = taken.embeddings.iter().map(exact).collect();
        let bytes: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
        // A value of few bytes may take less than what was made of it.
        let whole = self.encode(modality, value, None, Effort::Quick);
        let is_smaller = whole.is_some_and(|whole| whole.bytes.len() <= bytes);
        if is_smaller && taken.reduced.is_empty() { Vec::new() } else { tensors }
    }

    /// The shape that all who take the value reduce it to, if it may go up in that one.
    fn common(&self, modality: ModalityIx, taken: &Taken<'_>, has_embeddings: bool) -> Option<Vec<usize>> {
        let Some(Allowed::Auto { .. }) = self.allowed[modality] else { return None };
        let (first, others) = taken.reduced.split_first()?;
        // The pool makes an embedding of the value in another shape.
        let is_common =
            others.iter().all(|shape| shape == first) && (taken.embeddings.is_empty() || has_embeddings);
        first.clone().filter(|_| is_common)
    }

    fn tensor(&self, input: &ExpertInput, value: &Value) -> Option<v1::Tensor> {
        let array = input.prepare.prepare(value).ok()?;
        Some(write_packed(&input.name, &array, self.policy.numbers(), input.prepare.scale()))
    }

    /// References go first, and others are written against them. Each with the shape that it is wanted in.
    fn parts(&mut self, wanted: Vec<(ModalityIx, Option<Vec<usize>>)>) -> Vec<v1::Part> {
        let reference = |modality: ModalityIx| {
            let name = self.manifest.modalities[modality].reference.as_ref()?;
            let index = self.manifest.modality_index(name)?;
            wanted.iter().find(|(modality, _)| *modality == index).cloned()
        };
        let mut all: Vec<Wanted> = (wanted.iter().cloned())
            .map(|(modality, reduced)| Wanted { modality, reduced, against: reference(modality) })
            .collect();
        all.sort_by_key(|wanted| wanted.against.is_some());
        let parts = all.into_iter().filter_map(|wanted| self.written(wanted));
        parts.map(|written| write_part(written.part)).collect()
    }

    /// Writes a part, or gives it as it was written for another expert.
    fn written(&mut self, wanted: Wanted) -> Option<Written> {
        if let Some(written) = self.written.get(&wanted) {
            return Some(written.clone());
        }
        let modality = wanted.modality;
        let reference = wanted.against.clone().and_then(|(modality, reduced)| {
            Some(self.written(Wanted { modality, reduced, against: None })?.value)
        });
        let value = self.value(modality)?;
        let whole = |effort: Effort| {
            let part = self.encode(modality, value, reference.as_ref(), effort)?;
            Some(Written { part, value: value.clone() })
        };
        let modality_of = self.manifest.modalities[modality].modality();
        let reduced = wanted.reduced.as_ref().and_then(|shape| modality_of.reduce(value, shape));
        let written = match reduced {
            None => whole(Effort::Full)?,
            Some(value) => {
                let part = self.encode(modality, &value, reference.as_ref(), Effort::Full)?;
                let whole = whole(Effort::Quick);
                match whole.filter(|whole| whole.part.bytes.len() <= part.bytes.len()) {
                    Some(whole) => whole,
                    None => Written { part, value },
                }
            }
        };
        self.written.insert(wanted, written.clone());
        Some(written)
    }

    fn encode(
        &self,
        modality: ModalityIx,
        value: &Value,
        reference: Option<&Value>,
        effort: Effort,
    ) -> Option<Part> {
        let spec = &self.manifest.modalities[modality];
        spec.modality().encode(spec, value, reference, effort)
    }

    /// A value that may leave as it is.
    fn value(&self, modality: ModalityIx) -> Option<&'a Value> {
        match self.allowed[modality]? {
            Allowed::Raw(value) | Allowed::Auto { value, .. } => Some(value),
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
pub(super) fn prepare(manifest: &Manifest, local: &mut Local<'_>, policy: &UploadPolicy) {
    let sends = |input: &ExpertInput| {
        let form = manifest.modality_index(&input.modality).map(|modality| policy.form(modality));
        input.kind == InputKind::Embedding && form != Some(Form::Raw)
    };
    let is_needed = manifest.experts.iter().any(|expert| expert.inputs.iter().any(sends));
    if is_needed && let Err(error) = local.embeddings() {
        tracing::warn!(%error, "no embedding to send");
    }
}

/// A sample with all that its payloads are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) sample: &'a Sample,
    pub(super) embeddings: &'a Embeddings,
}

/// By expert, what it is to be sent, or why that stays here.
pub(super) type Uploads = Vec<(ExpertIx, Result<Upload, Missing>)>;

/// What each expert would be sent, cleared; nothing is spent for it yet. For calls now and for those that wait.
pub(super) fn uploads(
    manifest: &Manifest,
    policy: &UploadPolicy,
    seen: Seen<'_>,
    experts: impl IntoIterator<Item = ExpertIx>,
) -> Uploads {
    let mut screened = Screened::new(manifest, policy, seen.sample, seen.embeddings);
    let mut upload = |expert: ExpertIx| {
        let Payload { parts, tensors } = screened.payload(expert).ok_or(Missing::Failed)?;
        let experts = vec![manifest.experts[expert].name.clone()];
        let request = v1::RunExpertsRequest { experts, parts, tensors, ..Default::default() };
        policy.clear(manifest, request).map_err(|error| {
            tracing::error!(%error, "a payload is not what policy allows; it stays here");
            Missing::Failed
        })
    };
    experts.into_iter().map(|expert| (expert, upload(expert))).collect()
}

/// One live call for each expert, its bytes spent, or why it does not go; and what the record is to say of those that
/// do not.
pub(super) fn calls(
    manifest: &Manifest,
    seen: Seen<'_>,
    experts: Vec<ExpertIx>,
    outgoing: Outgoing<'_>,
    standing: Standing,
) -> (Uploads, Vec<String>) {
    let mut calls = uploads(manifest, outgoing.policy, seen, experts);
    let (mut notes, Standing { local_risk, deadline }) = (Vec::new(), standing);
    for (expert, call) in &mut calls {
        let Ok(upload) = call else { continue };
        upload.set_timeout(deadline.saturating_duration_since(Instant::now()).as_micros() as u64);
        if let Err(refused) = outgoing.ledger.take(Traffic::Live, upload.form(), upload.bytes(), local_risk) {
            notes.push(format!("{} not asked: {refused}", manifest.experts[*expert].name));
            *call = Err(Missing::Budget);
        }
    }
    (calls, notes)
}

#[cfg(test)]
mod tests;
