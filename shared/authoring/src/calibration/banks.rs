//! What a product's known samples look like: the bank by which a sample is told from them, and the bounds of its pictures.
//!
//! The bank's rows and the scores that it is calibrated on come from different samples where enough were kept aside. Where they
//! were not, every known sample is scored against the rows of the other groups (the jackknife; Barber et al., "Predictive
//! inference with the jackknife+", 2021): that promises a little less, and makes use of all there is.

use std::sync::Arc;

use millgate_mixture::novelty::{Bank, BankError, Detector, PICTURE, Row, labels_of, picture_features};
use millgate_mixture::runner::Models;
use millgate_model::manifest::{Manifest, NoveltyBank, PictureBounds, Product, product_of};
use millgate_sample::image::{Measures, Picture, STATISTICS, measures};

use crate::data::{Item, Labelled};
use crate::draft::{Draft, DraftError};
use crate::features::{FeatureError, each};
use crate::progress::Progress;

/// The score is the distance to this many-th nearest known sample.
const NEIGHBOURS: usize = 5;
/// Most known samples in a bank: more make no difference, and each costs time.
const MOST_ROWS: usize = 600;
/// Deviations under this are taken for this.
const LEAST_DEVIATION: f32 = 1e-6;
/// Share of the range that was seen by which bounds are wider on either side.
const MARGIN: f64 = 0.5;

#[derive(Debug, thiserror::Error)]
pub enum BanksError {
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error("a bank cannot be made: {0}")]
    Bank(#[from] BankError),
}

/// What was made of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// Known samples in the bank.
    pub rows: usize,
    /// Scores that it is calibrated on.
    pub calibration: usize,
    /// Whether those are of samples that were kept aside.
    pub is_split: bool,
}

/// One known sample.
struct Known {
    features: Vec<f32>,
    measures: Option<Measures>,
    label: u16,
    name: String,
    group: String,
}

/// Gives a product a bank and bounds. Known samples come from `known`; `aside` were kept aside, and calibrate the bank where there
/// are enough of them to call a sample unknown at `false_alarms`. `None` where the product has no samples.
pub fn attach(
    draft: &mut Draft,
    models: &Arc<Models>,
    product: &str,
    (known, aside): (&Labelled, &Labelled),
    false_alarms: f64,
    progress: &dyn Progress,
) -> Result<Option<Made>, BanksError> {
    let manifest = Arc::clone(models.manifest());
    progress.stage("known pictures for the bank", known.items.len() + aside.items.len());
    let known = seen(models, product, known, progress)?;
    let aside = seen(models, product, aside, progress)?;
    let Some(first) = known.first() else { return Ok(None) };
    let dims = first.features.len();
    let scale = scale(&known, dims);
    let is_split = aside.len() >= enough(false_alarms);
    let chosen = evenly(&known, MOST_ROWS);
    let (bank, scores) = if is_split {
        let bank = detector(&scale, &chosen)?;
        let scores = aside.iter().filter_map(|sample| score(&bank, sample)).collect();
        (bank, scores)
    } else {
        let all: Vec<&Known> = chosen.iter().copied().chain(&aside).collect();
        let without = |sample: &&Known| -> Result<Option<f32>, BankError> {
            let others: Vec<&Known> =
                all.iter().copied().filter(|other| other.group != sample.group).collect();
            if others.is_empty() {
                return Ok(None);
            }
            Ok(score(&detector(&scale, &others)?, sample))
        };
        let scores: Vec<Option<f32>> = all.iter().map(without).collect::<Result<_, _>>()?;
        (detector(&scale, &all)?, scores.into_iter().flatten().collect::<Vec<f32>>())
    };
    if scores.is_empty() {
        return Ok(None);
    }
    let made = Made { rows: bank.len(), calibration: scores.len(), is_split };
    let bank = Bank::new(NEIGHBOURS.min(bank.len()), vec![bank.calibrated(scores)?]);
    let file = format!("novelty/{product}.safetensors");
    draft.insert(&file, bank.write()?);
    let novelty = NoveltyBank {
        file,
        neighbours: bank.neighbours(),
        detectors: vec![PICTURE.to_owned()],
        false_alarms,
        calibration_samples: made.calibration as u64,
    };
    let looks: Vec<Measures> = known.iter().chain(&aside).filter_map(|sample| sample.measures).collect();
    let checks = bounds(&manifest, &looks).into_iter().collect();
    let old = draft.products()?.remove(product);
    let empty = Product {
        name: product.to_owned(),
        dispositions: Default::default(),
        costs: None,
        checks: Vec::new(),
        novelty: None,
    };
    draft.set_product(&Product { checks, novelty: Some(novelty), ..old.unwrap_or(empty) })?;
    Ok(Some(made))
}

/// Calibration scores that it takes to call a sample unknown at this rate.
pub fn enough(false_alarms: f64) -> usize {
    ((1.0 / false_alarms) - 1e-9).ceil() as usize - 1
}

/// Known samples of a product, in the order of the data.
fn seen(
    models: &Arc<Models>,
    product: &str,
    data: &Labelled,
    progress: &dyn Progress,
) -> Result<Vec<Known>, BanksError> {
    let items: Vec<Item> =
        data.items.iter().filter(|item| product_of(&item.label) == product).cloned().collect();
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let manifest = Arc::clone(models.manifest());
    let labels = labels_of(&manifest);
    let main = manifest.main_modality().and_then(|spec| manifest.modality_index(&spec.name));
    let seen = each(models, &items, progress, |_, item, read, runner| {
        let embeddings = runner.embeddings(&read.sample).map_err(|error| error.to_string())?;
        let features = picture_features(&manifest, &read.sample, &embeddings);
        let value = main.and_then(|main| read.sample.value(main));
        let picture = value.and_then(|value| Picture::of(Arc::clone(value.array())).ok());
        let label = labels.iter().position(|label| *label == item.label);
        Ok(Known {
            features: features.ok_or("its first modality is absent")?,
            measures: picture.as_ref().map(measures),
            label: label.and_then(|label| u16::try_from(label).ok()).unwrap_or(u16::MAX),
            name: item.name.clone(),
            group: item.group.clone(),
        })
    })?;
    Ok(seen.all()?)
}

/// What each feature is divided by: its deviation, so that the embedding as a whole weighs as much as the statistics do.
fn scale(known: &[Known], dims: usize) -> Vec<f32> {
    let embedding = dims.saturating_sub(STATISTICS);
    let count = known.len().max(1) as f64;
    let one = |at: usize| {
        let each = || known.iter().map(|sample| f64::from(sample.features[at]));
        let mean = each().sum::<f64>() / count;
        let deviation = (each().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt() as f32;
        let block = if at < embedding { embedding } else { dims - embedding };
        deviation.max(LEAST_DEVIATION) * (block as f32).sqrt()
    };
    (0..dims).map(one).collect()
}

/// So many samples, from all over the data.
fn evenly(known: &[Known], most: usize) -> Vec<&Known> {
    let count = known.len().min(most);
    (0..count).map(|at| &known[at * known.len() / count.max(1)]).collect()
}

fn detector(scale: &[f32], known: &[&Known]) -> Result<Detector, BankError> {
    let row = |sample: &&Known| Row {
        features: sample.features.clone(),
        label: sample.label,
        sample: sample.name.clone(),
    };
    Detector::new(PICTURE, scale.to_vec(), &known.iter().map(row).collect::<Vec<Row>>())
}

fn score(detector: &Detector, sample: &Known) -> Option<f32> {
    let nearest = detector.nearest(&sample.features, NEIGHBOURS)?;
    nearest.last().map(|known| known.distance)
}

/// Bounds that the pictures of a product keep to: what was seen, and half its range on either side.
pub fn bounds(manifest: &Manifest, looks: &[Measures]) -> Option<PictureBounds> {
    let main = manifest.main_modality()?;
    if looks.is_empty() {
        return None;
    }
    let of = |measure: fn(&Measures) -> f64, least_margin: f64, most: f64| {
        let each = || looks.iter().map(measure);
        let (low, high) = (each().fold(f64::INFINITY, f64::min), each().fold(f64::NEG_INFINITY, f64::max));
        let margin = (MARGIN * (high - low)).max(least_margin);
        Some([rounded((low - margin).max(0.0)), rounded((high + margin).min(most))])
    };
    Some(PictureBounds {
        modality: main.name.clone(),
        samples: looks.len() as u64,
        width: of(|look| f64::from(look.width), 0.0, f64::MAX),
        height: of(|look| f64::from(look.height), 0.0, f64::MAX),
        brightness: of(|look| look.brightness, 10.0, 255.0),
        contrast: of(|look| look.contrast, 3.0, 255.0),
        saturated: of(|look| look.saturated, 0.02, 1.0),
        dark: of(|look| look.dark, 0.02, 1.0),
        sharpness: None,
    })
}

/// Digits that a person can read.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_fifty_takes_forty_nine() {
        assert_eq!((enough(0.02), enough(0.05), enough(0.5)), (49, 19, 1));
    }

    #[test]
    fn samples_are_taken_from_all_over() {
        let known: Vec<Known> = (0..10)
            .map(|at| Known {
                features: vec![at as f32],
                measures: None,
                label: 0,
                name: format!("{at}"),
                group: format!("{at}"),
            })
            .collect();
        let names = |most: usize| evenly(&known, most).iter().map(|one| one.name.clone()).collect::<String>();
        assert_eq!((names(5).as_str(), names(99).as_str()), ("02468", "0123456789"));
    }
}
