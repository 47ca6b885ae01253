//! An expert added to a bundle, or taken from it, while every old decision stays as it was.
//!
//! The gate grows by one row: its old scores are computed as before, to the last bit, and one more is put behind them. On
//! samples of old products the new score is so far below the best old one that its share of the softmax is nothing, also in
//! the last bit; so neither who answers nor what an answer is worth changes. This is not taken for granted: golden decisions,
//! and data that is given for it, are decided before and after and compared bit for bit.

use std::path::Path;
use std::sync::Arc;

use millgate_bundle::BundleError;
use millgate_engine::Tract;
use millgate_mixture::runner::{Holding, Models};
use millgate_model::manifest::{GoldenDecision, Manifest, product_of};

use crate::certifying::CertifyError;
use crate::data::{DataError, Item};
use crate::draft::{Draft, DraftError, Trial};
use crate::features::{FeatureError, Seen, collect};
use crate::progress::Progress;

mod add;
mod expert;
mod gate;
mod proof;
mod remove;
mod row;
mod tensors;
#[cfg(test)]
mod tests;

pub use add::{Added, Request, add};
pub use remove::{Removed, remove};

/// Why an expert is neither added nor removed.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// A flag or a key.
    #[error("`{key}`: {message}")]
    Value { key: &'static str, message: String },
    /// The file of the expert.
    #[error("{file}: {message}")]
    Model { file: String, message: String },
    #[error("the gate cannot grow: {0}")]
    Gate(String),
    #[error("old decisions would change, and so the bundle is left as it is: {0}")]
    Changed(String),
}

impl GrowError {
    fn value(key: &'static str, message: impl Into<String>) -> Self {
        Self::Value { key, message: message.into() }
    }
}

/// A draft's models.
fn models(draft: &Draft, beside: &Path) -> Result<(Trial, Arc<Models>), GrowError> {
    let trial = draft.trial(beside)?;
    let models = Arc::new(Models::load(trial.bundle(), Holding::All, &Tract)?);
    Ok((trial, models))
}

/// Products of labels, each once, in their order.
fn products<'a>(labels: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut products = Vec::new();
    for product in labels.into_iter().map(|label| product_of(label)) {
        if !products.contains(&product) {
            products.push(product);
        }
    }
    products
}

/// The golden samples of a bundle that lies in this folder.
fn goldens(manifest: &Manifest, dir: &Path) -> Vec<Item> {
    let item = |golden: &GoldenDecision| Item {
        name: golden.parts.values().next().cloned().unwrap_or_default(),
        parts: golden.parts.iter().map(|(name, file)| (name.clone(), dir.join(file))).collect(),
        label: golden.label.clone(),
        group: String::new(),
        split: None,
    };
    manifest.golden.decisions.iter().map(item).collect()
}

fn run(
    models: &Arc<Models>,
    items: &[Item],
    stage: &str,
    progress: &dyn Progress,
) -> Result<Vec<Seen>, GrowError> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    progress.stage(stage, items.len());
    Ok(collect(models, items, progress)?.all()?)
}
