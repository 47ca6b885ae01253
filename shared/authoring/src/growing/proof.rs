//! Whether old decisions are the same bit for bit.

use std::sync::Arc;

use millgate_model::decision::Outcome;
use millgate_model::manifest::Manifest;
use millgate_model::scope::Scope;

use crate::features::Seen;
use crate::features::replay::{self, Who};

/// The first decision that differs, with what is not the same; `None`: all are as they were.
pub(super) fn differs(
    (old, olds): (&Arc<Manifest>, &[Seen]),
    (new, news): (&Arc<Manifest>, &[Seen]),
    names: &[String],
) -> Option<String> {
    for task in &old.tasks {
        for ((before, after), name) in olds.iter().zip(news).zip(names) {
            for who in [Who::Device, Who::Always] {
                let decide = |manifest: &Arc<Manifest>, seen: &Seen| {
                    let risk = manifest.offload.default_risk;
                    replay::decide(manifest, &task.name, &Scope::default(), risk, who, seen)
                };
                let what = match (decide(old, before), decide(new, after)) {
                    (Ok(before), Ok(after)) => differ(old, &before, new, &after),
                    (Err(_), Err(_)) => None,
                    (Err(_), Ok(_)) => Some("there is a decision where there was none"),
                    (Ok(_), Err(_)) => Some("there is no decision any more"),
                };
                if let Some(what) = what {
                    return Some(format!("`{name}`: {what}"));
                }
            }
        }
    }
    None
}

fn differ(old: &Manifest, before: &Outcome, new: &Manifest, after: &Outcome) -> Option<&'static str> {
    let (one, other) = (&before.mixed, &after.mixed);
    if one.verdict != other.verdict {
        return Some("its verdict");
    }
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let (known, added) = other.probabilities.split_at(one.probabilities.len().min(other.probabilities.len()));
    let are_same = known.len() == one.probabilities.len()
        && known.iter().zip(&one.probabilities).all(|(a, b)| same(*a, *b));
    if !are_same || added.iter().any(|probability| *probability != 0.0) {
        return Some("its probabilities");
    }
    let is_same_risk = match (before.why.local_risk, after.why.local_risk) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a == b,
    };
    if !same(one.risk, other.risk) || !is_same_risk {
        return Some("its risk");
    }
    let weights = |manifest: &Manifest, outcome: &Outcome| -> Vec<(String, u64)> {
        let weighed = outcome.answers.iter().zip(&outcome.mixed.weights).filter(|(_, weight)| **weight > 0.0);
        weighed
            .map(|(one, weight)| (manifest.experts[one.answer.expert].name.clone(), weight.to_bits()))
            .collect()
    };
    (weights(old, before) != weights(new, after)).then_some("who decides, or with which weight")
}
