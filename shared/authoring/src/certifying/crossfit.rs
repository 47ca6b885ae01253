//! Decisions on samples by numbers that were fitted without them.

use std::sync::Arc;

use millgate_model::manifest::{Competence, Manifest, Task, product_of};
use millgate_model::scope::Scope;
use millgate_sample::index::{By, ExpertIx};

use crate::calibration::answers::Answers;
use crate::features::Seen;
use crate::features::replay::{self, Who};

/// What a device would decide alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Local {
    pub(super) label: String,
    pub(super) risk: f64,
}

/// What a device would decide of a sample, and if it knew the product.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    pub(super) free: Option<Local>,
    pub(super) restricted: Option<Local>,
}

/// A manifest in which these experts have other competences.
pub(super) fn with(manifest: &Manifest, competences: &By<ExpertIx, Option<Competence>>) -> Arc<Manifest> {
    let mut manifest = manifest.clone();
    for (expert, competence) in manifest.experts.iter_mut().zip(competences) {
        expert.competence = competence.unwrap_or(expert.competence);
    }
    Arc::new(manifest)
}

/// What is fitted of an expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fit {
    /// Nothing: its numbers stay.
    Nothing,
    /// All but its weight of the gate, which stays as it is.
    AllButGate(f64),
    All,
}

/// The competences of the experts that are to be fitted, by the samples that `is_in` names.
pub(super) fn fit(
    answers: &Answers,
    fits: &By<ExpertIx, Fit>,
    is_in: impl Fn(usize) -> bool,
) -> By<ExpertIx, Option<Competence>> {
    By::from_fn(fits.len(), |expert: ExpertIx| match fits[expert] {
        Fit::Nothing => None,
        Fit::AllButGate(gate) => answers.fit(expert, Some(gate), &is_in),
        Fit::All => answers.fit(expert, None, &is_in),
    })
}

/// Decides each sample by what was fitted on the other folds.
pub(super) fn decide(
    manifest: &Manifest,
    task: &Task,
    samples: &[(&Seen, &str)],
    answers: &Answers,
    fits: &By<ExpertIx, Fit>,
    folds: &[usize],
) -> Vec<Decided> {
    let count = folds.iter().max().map_or(0, |last| last + 1);
    let manifests: Vec<Arc<Manifest>> =
        (0..count).map(|fold| with(manifest, &fit(answers, fits, |at| folds[at] != fold))).collect();
    let one = |((seen, label), fold): (&(&Seen, &str), &usize)| {
        let manifest = &manifests[*fold];
        Decided {
            free: local(manifest, task, &Scope::default(), seen),
            restricted: local(manifest, task, &Scope::of([product_of(label)]), seen),
        }
    };
    samples.iter().zip(folds).map(one).collect()
}

/// What a device decides alone; `None`: no expert of it can answer.
pub(super) fn local(manifest: &Arc<Manifest>, task: &Task, scope: &Scope, seen: &Seen) -> Option<Local> {
    let risk = manifest.offload.default_risk;
    let outcome = replay::decide(manifest, &task.name, scope, risk, Who::Device, seen).ok()?;
    let label = task.labels.get(outcome.mixed.verdict)?.clone();
    Some(Local { label, risk: outcome.mixed.risk })
}
