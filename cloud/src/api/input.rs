//! What a call brings for its experts: parts, read once for all of them, and tensors as the experts take them.

use std::sync::Arc;

use futures_util::future::join_all;
use millgate_shared::array::Array;
use millgate_shared::bundle::manifest::{ExpertInput, InputKind, Manifest};
use millgate_shared::index::{By, EncoderIx, ExpertIx};
use millgate_shared::inputs::{InputError, encoder_input, value_input};
use millgate_shared::part::{Limits, Part};
use millgate_shared::proto::v1;
use millgate_shared::sample::{self, Sample};
use millgate_shared::wire::{read_parts, read_tensor, unread};

use crate::failure::Failure;
use crate::hosted::{Hosted, embed};
use crate::serving::Serving;
use crate::serving::request::Call;

#[derive(Debug)]
pub(super) struct Input {
    parts: Vec<Part>,
    tensors: Vec<v1::Tensor>,
}

/// One expert's inputs in the manifest's order, or why it cannot have them.
pub(super) type Inputs = Result<Vec<Array>, Failure>;

/// An input before the encoders have run.
#[derive(Debug)]
enum Made {
    Ready(Array),
    /// What this encoder makes.
    Embedding(EncoderIx),
}

/// What a model thread makes of what came.
#[derive(Debug)]
struct Read {
    /// By expert that was asked for.
    experts: Vec<Result<Vec<Made>, Failure>>,
    /// `None` where nobody needs it.
    encoders: By<EncoderIx, Option<Array>>,
}

impl Input {
    /// Checks names; what is in them is looked at later.
    pub(super) fn new(
        manifest: &Manifest,
        parts: Vec<v1::Part>,
        tensors: Vec<v1::Tensor>,
    ) -> Result<Self, Failure> {
        if parts.is_empty() && tensors.is_empty() {
            return Err(Failure::field("parts", "are missing, and so are `tensors`"));
        }
        for (at, tensor) in tensors.iter().enumerate() {
            let name = &tensor.name;
            let refuse = |message: String| Err(Failure::field(format!("tensors[{at}].name"), message));
            let mut embeddings = manifest.encoders.iter();
            let is_embedding = embeddings.any(|encoder| manifest.embedding_name(&encoder.modality) == *name);
            if manifest.modality_index(name).is_none() && !is_embedding {
                return refuse(format!("`{name}` is not a modality of this bundle"));
            }
            if tensors[..at].iter().any(|earlier| earlier.name == *name) {
                return refuse(format!("`{name}` stands twice"));
            }
            if parts.iter().any(|part| part.modality == *name) {
                return refuse(format!("`{name}` is among the `parts` as well"));
            }
        }
        Ok(Self { parts: read_parts("parts", parts)?, tensors })
    }

    /// Each expert's inputs. What is wrong with a part is wrong with the whole call; what is wrong with a tensor, with the
    /// experts that take it.
    pub(super) async fn inputs(
        self,
        hosted: &Hosted,
        experts: &[ExpertIx],
        serving: &Serving,
        call: Call,
    ) -> Result<Vec<Inputs>, Failure> {
        let manifest = Arc::clone(hosted.manifest());
        // To copy plain tensors costs less than to hand them to a thread.
        let is_light = |tensor: &v1::Tensor| tensor.encoding == i32::from(v1::Encoding::Unspecified);
        let read = if self.parts.is_empty() && self.tensors.iter().all(is_light) {
            self.read(&manifest, experts)?
        } else {
            let parts = self.parts.iter().map(|part| part.bytes.len());
            let bytes = parts.chain(self.tensors.iter().map(|tensor| tensor.data.len())).sum();
            let experts = experts.to_vec();
            serving.on_thread(call.clone(), bytes, move || self.read(&manifest, &experts)).await?
        };
        let call = &call;
        let runs = read.encoders.into_pairs().map(|(encoder, input)| async move {
            Some(embed(hosted, serving, encoder, input?, call.clone()).await)
        });
        let embeddings: By<EncoderIx, _> = join_all(runs).await.into();
        let array = |made| match made {
            Made::Ready(tensor) => Ok(tensor),
            Made::Embedding(encoder) => embeddings[encoder]
                .clone()
                .unwrap_or_else(|| Err(Failure::Model(format!("encoder {encoder} was not run")))),
        };
        let complete = |made: Result<Vec<Made>, Failure>| made?.into_iter().map(array).collect();
        Ok(read.experts.into_iter().map(complete).collect())
    }

    fn read(self, manifest: &Manifest, experts: &[ExpertIx]) -> Result<Read, Failure> {
        let sample = sample::read(&manifest.modalities, &self.parts, &Limits::default());
        let sample = sample.map_err(|error| unread("parts", &error))?.sample;
        let mut encoders = By::filled(manifest.encoders.len(), None);
        let experts = experts.iter().map(|expert| {
            let inputs = manifest.experts[*expert].inputs.iter();
            inputs.map(|input| self.make(manifest, &sample, input, &mut encoders)).collect()
        });
        let experts = experts.collect();
        Ok(Read { experts, encoders })
    }

    /// What was sent under the input's own name, or else what its part gives.
    fn make(
        &self,
        manifest: &Manifest,
        sample: &Sample,
        input: &ExpertInput,
        encoders: &mut By<EncoderIx, Option<Array>>,
    ) -> Result<Made, Failure> {
        if let Some(at) = self.tensors.iter().position(|tensor| tensor.name == input.name) {
            let shape: Vec<usize> = [1].iter().chain(&input.shape).copied().collect();
            return Ok(Made::Ready(read_tensor(&format!("tensors[{at}]"), &self.tensors[at], &shape)?));
        }
        if input.kind == InputKind::Value {
            return Ok(Made::Ready(value_input(manifest, input, sample)?));
        }
        let encoder = manifest.encoder_index(&input.modality);
        let encoder = encoder.ok_or_else(|| InputError::Absent(input.name.clone()))?;
        if encoders[encoder].is_none() {
            encoders[encoder] = encoder_input(manifest, &manifest.encoders[encoder], sample)?;
        }
        match encoders[encoder] {
            Some(_) => Ok(Made::Embedding(encoder)),
            None => Err(InputError::Absent(input.name.clone()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        Manifest::parse(&text).unwrap()
    }

    #[test]
    fn what_is_given_has_known_names_each_once() {
        let manifest = manifest();
        let tensor = |name: &str| v1::Tensor { name: name.to_owned(), ..v1::Tensor::default() };
        let field = |parts: usize, tensors: &[&str]| {
            let part = v1::Part { modality: "image".to_owned(), ..v1::Part::default() };
            let parts = vec![part; parts];
            let tensors = tensors.iter().map(|name| tensor(name)).collect();
            match Input::new(&manifest, parts, tensors) {
                Err(Failure::Field(error)) => error.field,
                Err(failure) => panic!("{failure}"),
                Ok(_) => String::new(),
            }
        };
        assert_eq!(field(0, &[]), "parts");
        assert_eq!(field(1, &["image"]), "tensors[0].name");
        assert_eq!(field(0, &["image", "sound"]), "tensors[1].name");
        assert_eq!(field(0, &["image", "image"]), "tensors[1].name");
        assert_eq!(field(0, &["image", "template"]), "");
        assert_eq!(field(1, &[]), "");
        assert_eq!(field(1, &["template", "embedding"]), "");
        assert_eq!(field(0, &["embedding.template"]), "tensors[0].name");
    }
}
