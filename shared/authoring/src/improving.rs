//! A bundle made anew with what people said: the heads of `init` fitted on the old pictures and the labelled ones, the banks and
//! certificates made anew, and both bundles held against each other.
//!
//! What a person said counts more than what the old data says: the same picture under another label is corrected.

use std::collections::HashMap;
use std::path::Path;

use millgate_bundle::Bundle;
use millgate_model::manifest::{Manifest, product_of};
use millgate_model::recipe::Disposition;
use serde::Serialize;

use crate::data::{DataError, Item, Labelled};
use crate::draft::{DraftError, Step};
use crate::evaluation::{Comparison, EvaluationError, compared, evaluate};
use crate::making::{self, Backbone, From, Made, MakeError, Request};
use crate::progress::Progress;

#[cfg(test)]
mod tests;

/// What is improved, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub bundle: &'a Bundle,
    /// The pictures that the bundle was made of.
    pub old: &'a Labelled,
    /// What people said.
    pub said: &'a Labelled,
    pub backbone: &'a Backbone,
    pub seed: u64,
}

/// What came of the pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// Old pictures with another label now: their names, the old label, the new one.
    pub corrected: Vec<[String; 3]>,
    /// Pictures that were not there before.
    pub added: usize,
    /// Old pictures of which people said what the data says.
    pub confirmed: usize,
    /// Labels that the bundle does not have yet.
    pub new_labels: Vec<String>,
}

/// A bundle that was made anew, not written yet.
#[derive(Debug)]
pub struct Improved {
    pub made: Made,
    pub merged: Merged,
}

#[derive(Debug, thiserror::Error)]
pub enum ImproveError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(
        "{0}: its heads cannot be fitted anew, since `bundle init` did not make it from classes: with these labels `bundle certify` \
         fits its competence and thresholds anew"
    )]
    NotMadeHere(String),
}

/// Makes the bundle anew. `beside` is where it will be written.
pub fn improve(given: &Given<'_>, beside: &Path, progress: &dyn Progress) -> Result<Improved, ImproveError> {
    let manifest = given.bundle.manifest();
    let product = product(manifest)?;
    let (data, mut merged) = merge(given.old, given.said)?;
    let known: Vec<&String> = manifest.tasks.iter().flat_map(|task| &task.labels).collect();
    merged.new_labels = data
        .counts()
        .into_keys()
        .filter(|label| !known.iter().any(|known| known == label))
        .map(str::to_owned)
        .collect();
    let good = accepted(manifest, product);
    let from = From::Classes { data: &data, good: &good };
    let request = Request { product, backbone: given.backbone, size: None, seed: given.seed, from };
    let mut made = making::make(&request, beside, progress)?;
    made.draft.manifest.insert("name", toml_edit::value(manifest.name.as_str()));
    made.draft.manifest.insert("version", toml_edit::value(manifest.version.as_str()));
    made.draft.raise_version(Step::Minor)?;
    Ok(Improved { made, merged })
}

/// Holds the old bundle and the new one, which is written, against each other, on pictures that the new one's head was not fitted
/// on. The old one's may have been, so that this flatters the old one. `None` where it knows no label of them.
pub fn judge(
    old: &Bundle,
    new: &Bundle,
    improved: &Improved,
    progress: &dyn Progress,
) -> Result<Option<Comparison>, ImproveError> {
    let known: Vec<&String> = old.manifest().tasks.iter().flat_map(|task| &task.labels).collect();
    let held_out = &improved.made.held_out;
    let is_known = |at: &usize| known.contains(&&held_out.items[*at].label);
    let both = held_out.subset((0..held_out.items.len()).filter(is_known));
    if both.items.is_empty() {
        return Ok(None);
    }
    let before = evaluate(old, &both, progress)?;
    let after = evaluate(new, &both, progress)?;
    Ok(Some(compared(before, after)))
}

/// The product of a bundle that `init` made from classes.
fn product(manifest: &Manifest) -> Result<&str, ImproveError> {
    let refuse = || ImproveError::NotMadeHere(format!("{} {}", manifest.name, manifest.version));
    let mut experts = manifest.experts.iter();
    let (Some(expert), None) = (experts.next(), experts.next()) else { return Err(refuse()) };
    let product = expert.name.strip_suffix(making::HEAD).ok_or_else(refuse)?;
    let is_its =
        manifest.tasks.iter().flat_map(|task| &task.labels).all(|label| product_of(label) == product);
    if is_its { Ok(product) } else { Err(refuse()) }
}

/// The classes that the bundle accepts.
fn accepted(manifest: &Manifest, product: &str) -> Vec<String> {
    let Some(known) = manifest.product(product) else { return Vec::new() };
    let accepted = known.dispositions.iter().filter(|(_, of)| **of == Disposition::Accept);
    accepted.filter_map(|(label, _)| Some(label.split_once('/')?.1.to_owned())).collect()
}

/// Puts what people said over the old data.
fn merge(old: &Labelled, said: &Labelled) -> Result<(Labelled, Merged), ImproveError> {
    let mut items = old.items.clone();
    let mut places: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        places.entry(item.digest()?).or_default().push(at);
    }
    let mut merged = Merged { corrected: Vec::new(), added: 0, confirmed: 0, new_labels: Vec::new() };
    for one in &said.items {
        let Some(same) = places.get(&one.digest()?) else {
            merged.added += 1;
            items.push(Item { name: format!("labelled: {}", one.name), ..one.clone() });
            continue;
        };
        for at in same {
            let item = &mut items[*at];
            if item.label == one.label {
                merged.confirmed += 1;
                continue;
            }
            let before = std::mem::replace(&mut item.label, one.label.clone());
            merged.corrected.push([item.name.clone(), before, one.label.clone()]);
        }
    }
    Ok((Labelled { items }, merged))
}
