//! `bundle.toml`: parsed strictly, then checked for names that refer to nothing and numbers that mean nothing.
//!
//! The format is described in `docs/bundles.md`; field names are the file's keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use millgate_base::toml_file::{self, TomlError};
use millgate_sample::index::{By, EncoderIx, ExpertIx, ModalityIx, TaskIx};
use millgate_sample::modality::{MODALITIES, Modality, Prepare, Spec, Table, unprepared};
use serde::Deserialize;

use crate::recipe::Recipe;

mod check;
mod input;
mod product;
#[cfg(test)]
pub(crate) mod tests;

pub use input::{EMBEDDING, ExpertInput, InputKind};
pub use product::{NoveltyBank, PictureBounds, Product};

/// The file's name in every bundle.
pub const FILE_NAME: &str = "bundle.toml";
/// A model's file in its folder.
pub const MODEL_FILE: &str = "model.onnx";
/// Two risks that are closer are the same, written or computed differently.
const SAME_RISK: f64 = 1e-9;
/// The only `format` this version reads.
pub const FORMAT: u32 = 2;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub version: String,
    pub description: String,
    pub licence: String,
    pub modalities: By<ModalityIx, Spec>,
    pub tasks: By<TaskIx, Task>,
    pub encoders: By<EncoderIx, Encoder>,
    pub gate: Gate,
    pub experts: By<ExpertIx, Expert>,
    /// What is known of products; one that is not here has neither recipe nor checks nor a bank.
    #[serde(default)]
    pub products: Vec<Product>,
    pub combine: Combine,
    pub offload: Offload,
    pub golden: Golden,
    pub digests: BTreeMap<String, String>,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub name: String,
    /// Experts chosen per sample.
    pub k: usize,
    /// The union of what its experts answer, `<product>/<class>`.
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    pub name: String,
    pub modality: String,
    /// Width of `embedding[N,dims]`.
    pub dims: usize,
    /// Shape of the input as its modality's kind has it, without the batch axis; of a picture channels, height, width.
    pub shape: Vec<usize>,
    /// Keys of its modality's kind.
    #[serde(default)]
    pub preprocess: Table,
    pub cost: Cost,
    /// Makes its input. Filled in when the manifest is read.
    #[serde(skip, default = "unprepared")]
    pub prepare: Arc<dyn Prepare>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub name: String,
    pub cost: Cost,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expert {
    pub name: String,
    pub tier: Tier,
    pub tasks: Vec<String>,
    /// Labels of the expert's logits, in order.
    pub labels: Vec<String>,
    pub feature_dims: usize,
    #[serde(default)]
    pub substitutes: Vec<String>,
    #[serde(default)]
    pub price: f64,
    pub cost: Cost,
    pub competence: Competence,
    pub inputs: Vec<ExpertInput>,
    /// Optional quantised copies of this expert, for engines that run them faster.
    #[serde(default)]
    pub variants: Vec<Variant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Small: runs on the device, and may run in the pool.
    Edge,
    /// Heavy: runs in the pool only.
    Cloud,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud => "cloud",
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Mean bytes that go up when it is asked for one sample.
    #[serde(default)]
    pub uplink_bytes: u64,
}

/// Weights of the logistic model of "this expert is right on this sample"; see [`crate::competence`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Competence {
    pub bias: f64,
    pub confidence: f64,
    pub gate: f64,
}

/// An expert with its weights and sums in fewer bits; see the room `proof::variant` of `millgate-mixture`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Stands beside the expert's `model.onnx`.
    pub file: String,
    pub precision: Precision,
    /// The engine that it was made for, by name: none that every agent and pool has. Who does not have it serves the
    /// expert without.
    pub engine: String,
    /// How far a logit of a golden sample may be from FP32's.
    pub logit_tolerance: f32,
    pub measured: Measured,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Int8,
}

impl Precision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
        }
    }
}

/// What whoever packed a variant found: for people to read, never for a choice.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// FP32's time over the variant's, both on the variant's engine; the least of the batch sizes tried.
    pub speed_up: f64,
    /// Share of samples outside the training data; negative where it won some.
    pub accuracy_lost: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combine {
    /// Answers needed for a decision.
    pub k_min: usize,
    pub drop_below: f64,
    pub sharpness: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offload {
    pub default_risk: f64,
    pub delta: f64,
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub product: String,
    /// Certified for samples of which it is known that they are of this product, and for no others.
    #[serde(default)]
    pub restricted: bool,
    pub risk: f64,
    pub threshold: f64,
    pub calibration_samples: u64,
    pub calibration_kept: u64,
    pub calibration_errors: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    pub relative_tolerance: f32,
    pub absolute_tolerance: f32,
    #[serde(default)]
    pub decisions: Vec<GoldenDecision>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenDecision {
    /// By modality, a file of the bundle.
    pub parts: BTreeMap<String, String>,
    pub task: String,
    /// Products and labels that may be the answer; empty: all of the task's.
    #[serde(default)]
    pub labels: Vec<String>,
    /// A label of the task, or `unknown`.
    pub label: String,
    /// That of the likeliest label, of an unknown sample too.
    pub probability: f64,
    pub risk: f64,
    pub experts: Vec<String>,
}

impl Threshold {
    /// Whether the threshold was certified for this very risk, and not for a stricter one.
    pub fn is_for(&self, risk: f64) -> bool {
        (self.risk - risk).abs() <= SAME_RISK
    }
}

impl Manifest {
    /// Parses and checks; an error names the file and the key.
    pub fn parse(text: &str) -> Result<Self, TomlError> {
        Self::parse_with(text, MODALITIES)
    }

    /// Parses and checks a manifest whose modalities are of these kinds; see [`Manifest::parse`].
    pub fn parse_with(text: &str, kinds: &[&'static dyn Modality]) -> Result<Self, TomlError> {
        let refuse = |(key, message)| TomlError { file: FILE_NAME.to_owned(), key, line: None, message };
        // A file of another format has other keys, and the first of them would be named instead.
        if let Ok(Head { format }) = toml_file::parse(FILE_NAME, text)
            && format != FORMAT
        {
            return Err(refuse(check::other_format(format)));
        }
        let mut manifest: Self = toml_file::parse(FILE_NAME, text)?;
        input::resolve(&mut manifest, kinds).map_err(refuse)?;
        check::check(&manifest).map_err(refuse)?;
        input::fill(&mut manifest).map_err(refuse)?;
        Ok(manifest)
    }

    /// The first modality of the bundle: that of a file that is given without saying which.
    pub fn main_modality(&self) -> Option<&Spec> {
        self.modalities.first()
    }

    /// What is known of a product.
    pub fn product(&self, name: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.name == name)
    }

    /// What the bundle itself makes of verdicts, with what mistakes cost at a product.
    pub fn recipe(&self, product: &str) -> Recipe {
        let dispositions = self.products.iter().flat_map(|product| &product.dispositions);
        let labels = dispositions.map(|(label, disposition)| (label.clone(), *disposition)).collect();
        Recipe { labels, costs: self.product(product).and_then(|product| product.costs) }
    }

    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    pub fn task_index(&self, name: &str) -> Option<TaskIx> {
        self.tasks.find_ix(|task| task.name == name)
    }

    pub fn expert_index(&self, name: &str) -> Option<ExpertIx> {
        self.experts.find_ix(|expert| expert.name == name)
    }

    pub fn modality_index(&self, name: &str) -> Option<ModalityIx> {
        self.modalities.find_ix(|modality| modality.name == name)
    }

    /// The encoder of a modality.
    pub fn encoder_index(&self, modality: &str) -> Option<EncoderIx> {
        self.encoders.find_ix(|encoder| encoder.modality == modality)
    }

    /// The threshold on the local risk that holds where this risk is accepted: the one certified for it, or else for the
    /// next stricter one, which keeps that promise too. `None`: none is certified for this product at it or below.
    ///
    /// `restricted`: the sample is known to be of this product, and nothing else may be the answer.
    pub fn certified(&self, product: &str, risk: f64, restricted: bool) -> Option<&Threshold> {
        let certified = self.offload.thresholds.iter().filter(|entry| entry.restricted == restricted);
        certified
            .filter(|entry| entry.product == product && entry.risk <= risk + SAME_RISK)
            .max_by(|a, b| a.risk.total_cmp(&b.risk))
    }
}

/// `deeppcb/short` is a label of product `deeppcb`.
pub fn product_of(label: &str) -> &str {
    label.split_once('/').map_or(label, |(product, _)| product)
}

/// Where a model's ONNX file stands in a bundle.
pub fn model_path(model: &str) -> String {
    format!("{model}/1/{MODEL_FILE}")
}

/// Where a variant's ONNX file stands in a bundle.
pub fn variant_path(expert: &str, file: &str) -> String {
    format!("{expert}/1/{file}")
}

/// Where a model's golden tensors stand in a bundle.
pub fn golden_path(model: &str) -> String {
    format!("golden/{model}.safetensors")
}
