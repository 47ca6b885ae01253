//! What a bundle knows of one product besides its experts: what to do with its labels, how its pictures look, and what it
//! has seen of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::{Costs, Disposition};

/// One product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// First half of its labels.
    pub name: String,
    /// What to do with a part, by label; labels that are not here are for review.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dispositions: BTreeMap<String, Disposition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
    /// Bounds of its pictures, at most one set for each modality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<PictureBounds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<NoveltyBank>,
}

/// Bounds that the pictures of a product keep to, each `[least, most]`, learned from good ones. What is left out is not checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureBounds {
    /// A modality of kind `image`.
    pub modality: String,
    /// Pictures that the bounds were learned from.
    pub samples: u64,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<[f64; 2]>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<[f64; 2]>,
    /// Mean grey level, 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<[f64; 2]>,
    /// Standard deviation of the grey levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<[f64; 2]>,
    /// Share of pixels at grey level 250 or above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturated: Option<[f64; 2]>,
    /// Share of pixels at grey level 5 or below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dark: Option<[f64; 2]>,
    /// Variance of the Laplacian over the variance of the grey levels, at the scale of the statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<[f64; 2]>,
}

/// Where the known samples of a product stand, by which a sample is told from what the bundle was made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoveltyBank {
    /// A file of the bundle, in safetensors.
    pub file: String,
    /// The score of a sample is its distance to this many-th nearest known one.
    pub neighbours: usize,
    /// What is compared, each with a bank of its own in the file: `picture` (the encoder's embedding beside statistics of the
    /// grey levels) or `expert:<name>` (the features of that expert).
    pub detectors: Vec<String>,
    /// Share of known samples that may be called unknown, unless the operator says otherwise.
    pub false_alarms: f64,
    /// Samples that it was calibrated on, none of them in a bank.
    pub calibration_samples: u64,
}
