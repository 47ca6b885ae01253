//! A sample beside the known ones of its product: features, banks, and the comparison.
//!
//! What is compared is what has been computed anyway: the encoder's embedding, statistics of the picture, and the features of
//! the experts that answered. Each detector has a bank of known samples; the score is the distance to the k-th nearest.

use std::collections::BTreeMap;

use millgate_bundle::{Bundle, BundleError};
use millgate_model::manifest::Manifest;
use millgate_model::novelty::{Neighbour, Score, p_value, together};
use millgate_sample::image::{Picture, statistics};
use millgate_sample::sample::Sample;

use crate::embedding::Embeddings;

mod bank;
#[cfg(test)]
mod tests;

pub use bank::{Bank, BankError, Detector, Known, Row};

/// The detector that compares embedding and picture statistics.
pub const PICTURE: &str = "picture";
/// What the names of the other detectors begin with: each compares the features of one expert.
pub const EXPERT: &str = "expert:";
/// Known samples that are named.
const NAMED: usize = 3;

/// The banks of a bundle, by product.
#[derive(Debug, Default)]
pub struct Banks(BTreeMap<String, Bank>);

impl Banks {
    /// Reads and checks every bank of a bundle.
    pub fn load(bundle: &Bundle) -> Result<Self, BundleError> {
        let manifest = bundle.manifest();
        let mut banks = BTreeMap::new();
        for product in &manifest.products {
            let Some(spec) = &product.novelty else { continue };
            let refuse =
                |source: BankError| BundleError::Model { file: spec.file.clone(), source: source.into() };
            let bank =
                Bank::read(&bundle.read(&spec.file)?, &spec.detectors, spec.neighbours).map_err(refuse)?;
            bank.check(&labels_of(manifest), |detector| dims_of(manifest, detector)).map_err(refuse)?;
            banks.insert(product.name.clone(), bank);
        }
        Ok(Self(banks))
    }

    /// Refuses detectors of experts whose features have another width; `width` gives that of an expert that is held here.
    pub(crate) fn check_widths(
        &self,
        manifest: &Manifest,
        width: impl Fn(&str) -> Option<usize>,
    ) -> Result<(), BundleError> {
        for (product, bank) in &self.0 {
            let file = manifest.product(product).and_then(|product| product.novelty.as_ref());
            let file = file.map_or_else(String::new, |spec| spec.file.clone());
            let width = |detector: &str| width(detector.strip_prefix(EXPERT)?);
            bank.check(&labels_of(manifest), width)
                .map_err(|source| BundleError::Model { file, source: source.into() })?;
        }
        Ok(())
    }

    /// Whether nothing is known of any product.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bank of a product.
    pub fn of(&self, product: &str) -> Option<&Bank> {
        self.0.get(product)
    }
}

/// The labels that rows of banks are numbered by: those of all tasks, in order, each once.
pub fn labels_of(manifest: &Manifest) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for label in manifest.tasks.iter().flat_map(|task| &task.labels) {
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    labels
}

/// Width of a detector's features, where the manifest says it: that of an expert with an output `nov` is the model's own.
fn dims_of(manifest: &Manifest, detector: &str) -> Option<usize> {
    if detector != PICTURE {
        return None;
    }
    let main = manifest.main_modality()?;
    let encoder = manifest.encoder_index(&main.name).map(|index| manifest.encoders[index].dims);
    let statistics = if main.kind == "image" { millgate_sample::image::STATISTICS } else { 0 };
    Some(encoder.unwrap_or(0) + statistics)
}

/// The features of detector [`PICTURE`]: the embedding of the bundle's first modality, then the statistics of its picture.
/// `None` where that modality is absent.
pub fn picture_features(manifest: &Manifest, sample: &Sample, embeddings: &Embeddings) -> Option<Vec<f32>> {
    let main = manifest.main_modality()?;
    let value = sample.value(manifest.modality_index(&main.name)?)?;
    let mut features = match embeddings.of(manifest, &main.name) {
        Some(embedding) => embedding.array().as_fp32().ok()?.to_vec(),
        None if manifest.encoder_index(&main.name).is_some() => return None,
        None => Vec::new(),
    };
    if main.kind == "image" {
        features.extend(statistics(&Picture::of(value.array().clone()).ok()?));
    }
    Some(features)
}

/// Compares a sample with the known ones of a product. `features` gives those of a detector, `None` where nobody computed them.
/// `None` if no detector has any.
pub fn compare<'a>(
    manifest: &Manifest,
    bank: &Bank,
    features: impl Fn(&str) -> Option<std::borrow::Cow<'a, [f32]>>,
) -> Option<Score> {
    let mut each = Vec::new();
    let mut oddest: Option<(f64, &Detector, Vec<Known>)> = None;
    for detector in bank.detectors() {
        let Some(features) = features(detector.name()) else { continue };
        let Some(nearest) = detector.nearest(&features, bank.neighbours().max(NAMED)) else { continue };
        let score = nearest.get(bank.neighbours() - 1).or(nearest.last()).map_or(0.0, |known| known.distance);
        let p = p_value(detector.calibration(), score);
        each.push(p);
        if oddest.as_ref().is_none_or(|(least, ..)| p < *least) {
            oddest = Some((p, detector, nearest));
        }
    }
    let p = together(&each)?;
    let (_, detector, nearest) = oddest?;
    let labels = labels_of(manifest);
    let neighbour = |known: &Known| Neighbour {
        sample: detector.sample(known.row).to_owned(),
        label: labels.get(detector.label(known.row)).map_or_else(String::new, |label| (*label).to_owned()),
        distance: f64::from(known.distance),
    };
    let nearest = nearest.iter().take(NAMED).map(neighbour).collect();
    Some(Score { p, detector: detector.name().to_owned(), nearest })
}
