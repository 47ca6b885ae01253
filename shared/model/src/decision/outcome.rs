//! What a sample's way came to, before it is made into a record.

use super::{Degraded, FailedCheck, State, Why};
use crate::combine::{Mixed, Weighed};
use crate::manifest::{Manifest, Task, product_of};
use crate::novelty::Novelty;
use crate::recipe::{Disposition, Recipe};

/// A decided sample: the verdict, whose answers made it, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub state: State,
    /// Verdict and probabilities, by index of the task's labels.
    pub mixed: Mixed,
    /// Answers, in the order of `mixed.weights`.
    pub answers: Vec<Weighed>,
    pub degraded: Option<Degraded>,
    pub why: Why,
    /// How the sample compares with known ones, and what its pictures fail; see [`Outcome::is_unknown`].
    pub novelty: Option<Novelty>,
    pub checks: Vec<FailedCheck>,
    pub disposition: Option<Disposition>,
}

impl Outcome {
    /// Says what is done with the part: by the operator's recipe, and by the bundle's in what that does not name.
    pub(crate) fn dispose(&mut self, manifest: &Manifest, task: &Task, recipe: Option<&Recipe>) {
        let label = &task.labels[self.mixed.verdict];
        let recipe = effective(manifest, label, recipe);
        let each = task.labels.iter().map(String::as_str).zip(self.mixed.probabilities.iter().copied());
        self.disposition = match (self.is_unknown(), recipe.is_empty()) {
            (true, _) => Some(Disposition::Review),
            (false, true) => None,
            (false, false) => Some(recipe.dispose(label, each)),
        };
    }

    /// How much the sample looks like a part that is not to be accepted, by which one of several regions of a picture is chosen:
    /// what is unknown before all else, then by the probability of labels that the recipe does not accept or, without a recipe, by
    /// the local risk.
    pub fn suspicion(&self, manifest: &Manifest, task: &Task, recipe: Option<&Recipe>) -> f64 {
        if self.is_unknown() {
            return 2.0
                - self.novelty.as_ref().filter(|_| self.checks.is_empty()).map_or(0.0, |novelty| novelty.p);
        }
        let recipe = effective(manifest, &task.labels[self.mixed.verdict], recipe);
        if recipe.is_empty() {
            return self.why.local_risk.unwrap_or(1.0);
        }
        let each = task.labels.iter().zip(&self.mixed.probabilities);
        each.filter(|(label, _)| recipe.of_label(label) != Disposition::Accept).map(|(_, p)| p).sum()
    }

    /// The sample is like nothing that the bundle was made for.
    pub fn is_unknown(&self) -> bool {
        !self.checks.is_empty() || self.novelty.as_ref().is_some_and(Novelty::is_unknown)
    }
}

/// The operator's recipe over the bundle's.
fn effective(manifest: &Manifest, label: &str, recipe: Option<&Recipe>) -> Recipe {
    let of_bundle = manifest.recipe(product_of(label));
    match recipe {
        Some(recipe) => recipe.over(of_bundle),
        None => of_bundle,
    }
}
