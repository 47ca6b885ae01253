//! What may leave the device: the operator's policy, and requests that it has cleared.
//!
//! Everything that goes to the pool's experts is an [`Upload`], and [`UploadPolicy::clear`] is the only way to one. It looks
//! at each part of a request, so that neither a new code path nor an old spool entry, written under another policy, can
//! put on the wire what the policy of now keeps. `agent::payload` builds requests in which there is nothing to find.

use std::collections::BTreeMap;

use millgate_shared::bundle::manifest::{InputKind, Manifest};
use millgate_shared::index::{By, ExpertIx, ModalityIx};
use millgate_shared::proto::v1;
use millgate_shared::wire::{Numbers, framed_len};
use serde::Deserialize;

/// How much of a modality may leave the device; each allows what those after it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The value itself: its file's bytes, a smaller lossless form of them, or a picture in the size that experts take.
    Raw,
    /// The value as the expert takes it: a picture resized and normalised.
    Tensor,
    /// The embedding alone.
    Features,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Raw, Self::Tensor, Self::Features];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tensor => "tensor",
            Self::Features => "features",
        }
    }
}

/// What the operator says of a modality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendForm {
    /// All may leave; what does is the smallest form that leaves the pool's answer what it is.
    #[default]
    Auto,
    Raw,
    Tensor,
    Features,
}

impl SendForm {
    /// The most telling form that may leave.
    pub fn allows(self) -> Form {
        match self {
            Self::Auto | Self::Raw => Form::Raw,
            Self::Tensor => Form::Tensor,
            Self::Features => Form::Features,
        }
    }
}

impl From<Form> for SendForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Raw => Self::Raw,
            Form::Tensor => Self::Tensor,
            Form::Features => Self::Features,
        }
    }
}

/// The table `[offload.send]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SendConfig {
    /// Form of the modalities that `modality` does not name.
    pub default: SendForm,
    /// How the numbers of tensors and embeddings are written, where `auto` does not see to it that they are exact.
    pub datatype: Numbers,
    /// Form of each modality, by name.
    pub modality: BTreeMap<String, SendForm>,
}

/// The operator's policy for the modalities of one bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPolicy {
    /// The form that the operator says for each modality.
    forms: By<ModalityIx, SendForm>,
    numbers: Numbers,
}

/// A part of a request that must not go up; a fault of the program, or an entry from before the policy changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCleared {
    #[error("policy: only {} of `{modality}` may leave the device, not its {}", may.as_str(), asked.as_str())]
    Withheld { modality: String, may: Form, asked: Form },
    #[error("`{0}` is neither a modality nor an embedding of this bundle")]
    Unknown(String),
    #[error("tensor `{name}` is not an embedding of {dims} numbers")]
    NotAnEmbedding { name: String, dims: usize },
}

/// A request that policy lets go.
#[derive(Debug, Clone)]
pub struct Upload {
    request: v1::RunExpertsRequest,
    form: Form,
}

impl UploadPolicy {
    /// Gives the name of a modality that the bundle does not have.
    pub fn new(config: &SendConfig, manifest: &Manifest) -> Result<Self, String> {
        if let Some(unknown) = config.modality.keys().find(|name| manifest.modality_index(name).is_none()) {
            return Err(unknown.clone());
        }
        let form = |name: &String| config.modality.get(name).copied().unwrap_or(config.default);
        let forms = manifest.modalities.map(|modality| form(&modality.name));
        Ok(Self { forms, numbers: config.datatype })
    }

    /// The most telling form that may leave of a modality; one that is not there has nothing to send.
    pub fn form(&self, modality: ModalityIx) -> Form {
        self.forms.get(modality).map_or(Form::Features, |form| form.allows())
    }

    /// Whether of a modality the smallest form is to leave.
    pub fn is_auto(&self, modality: ModalityIx) -> bool {
        self.forms.get(modality) == Some(&SendForm::Auto)
    }

    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// The modality whose pixels an expert needs, and may not have.
    pub fn withheld(&self, manifest: &Manifest, expert: ExpertIx) -> Option<ModalityIx> {
        let pixels = manifest.experts[expert].inputs.iter().filter(|input| input.kind == InputKind::Value);
        let mut modalities = pixels.filter_map(|input| manifest.modality_index(&input.modality));
        modalities.find(|modality| self.form(*modality) == Form::Features)
    }

    /// Looks at every part of a request.
    pub fn clear(&self, manifest: &Manifest, request: v1::RunExpertsRequest) -> Result<Upload, NotCleared> {
        let mut least = Form::Features;
        for part in &request.parts {
            self.may(manifest, &part.modality, Form::Raw)?;
            least = Form::Raw;
        }
        for tensor in &request.tensors {
            let embedded = manifest.encoders.iter();
            let encoder =
                embedded.clone().find(|encoder| manifest.embedding_name(&encoder.modality) == tensor.name);
            let Some(encoder) = encoder else {
                self.may(manifest, &tensor.name, Form::Tensor)?;
                least = least.min(Form::Tensor);
                continue;
            };
            // In numbers of four bytes at most, so that nothing else fits into it.
            let is_one = tensor.shape == [1, encoder.dims as i64] && tensor.data.len() <= 4 * encoder.dims;
            if !is_one {
                let name = tensor.name.clone();
                return Err(NotCleared::NotAnEmbedding { name, dims: encoder.dims });
            }
        }
        Ok(Upload { request, form: least })
    }

    fn may(&self, manifest: &Manifest, modality: &str, asked: Form) -> Result<(), NotCleared> {
        let index = manifest.modality_index(modality);
        let may = self.form(index.ok_or_else(|| NotCleared::Unknown(modality.to_owned()))?);
        if asked < may {
            return Err(NotCleared::Withheld { modality: modality.to_owned(), may, asked });
        }
        Ok(())
    }
}

impl Upload {
    /// The most telling form in it.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What goes up, for whoever keeps it for later: it must be cleared again before it goes.
    pub fn request(&self) -> &v1::RunExpertsRequest {
        &self.request
    }

    /// On a gRPC stream, framing and the call's number included.
    pub fn bytes(&self) -> u64 {
        /// HTTP/2 sends a message in frames of at most so many bytes, each with a head of nine.
        const FRAME: u64 = 16 << 10;
        /// The field that the uplink fills in: its tag, and a number of up to 21 bits.
        const CALL_ID: u64 = 4;
        let message = framed_len(&self.request) + CALL_ID;
        message + 9 * message.div_ceil(FRAME)
    }

    /// What the caller will wait, microseconds.
    pub fn set_timeout(&mut self, micros: u64) {
        self.request.timeout_us = micros;
    }

    pub(crate) fn into_request(self) -> v1::RunExpertsRequest {
        self.request
    }
}

#[cfg(test)]
mod tests;
