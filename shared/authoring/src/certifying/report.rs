//! What was certified, before and after.

use millgate_model::manifest::Competence;
use serde::Serialize;

use crate::features::Refused;

/// What came of certifying a bundle.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub bundle: String,
    /// Versions.
    pub before: String,
    pub after: String,
    pub task: String,
    /// Samples that everything was fitted and certified on.
    pub samples: usize,
    /// Folds by group: what decides on a fold was fitted on the others.
    pub folds: usize,
    pub experts: Vec<ExpertReport>,
    pub products: Vec<ProductReport>,
    pub golden: GoldenReport,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Numbers of one expert.
#[derive(Debug, Clone, Serialize)]
pub struct ExpertReport {
    pub name: String,
    /// Samples that it answered and knows the label of.
    pub samples: usize,
    /// Share of these that it is right on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// What its logits would have to be divided by; 1 where they are calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    pub before: [f64; 3],
    pub after: [f64; 3],
    /// Why it was not fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// Numbers of one product.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProductReport {
    pub product: String,
    /// Samples of this product.
    pub samples: usize,
    /// Share of these that the device alone is right on.
    pub local_accuracy: f64,
    pub thresholds: Vec<ThresholdReport>,
}

/// One risk of one product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdReport {
    pub risk: f64,
    /// For samples that are known to be of this product.
    pub restricted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<f64>,
    pub samples: usize,
    pub kept: usize,
    pub errors: usize,
    /// Why there is no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
}

/// What became of the golden decisions.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GoldenReport {
    pub renewed: usize,
    pub added: usize,
}

impl Report {
    /// Samples that could not be used, a note for each.
    pub fn refuse(&mut self, refused: &[Refused]) {
        self.notes.extend(refused.iter().map(|one| format!("left out: {}", one.reason)));
    }
}

/// As three numbers.
pub(super) fn numbers(competence: Competence) -> [f64; 3] {
    [competence.bias, competence.confidence, competence.gate]
}
