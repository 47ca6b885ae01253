//! An outcome made into a record.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use millgate_sample::index::ExpertIx;
use millgate_sample::modality::Spec;
use millgate_sample::part::Value;
use millgate_sample::sample::{Note, Origin, Sample};

use super::{
    BundleInfo, Decision, ExpertShare, Outcome, SMALLEST_PROBABILITY, SampleInfo, Timings, UNKNOWN, Verdict,
};
use crate::combine::{Mixed, Weighed};
use crate::digest::BundleDigest;
use crate::manifest::{ExpertInput, InputKind, Manifest, Task};

/// Record of where and how fast an expert answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Place that answered: `edge` or `cloud:<node>`.
    pub place: String,
    pub latency_us: u64,
    /// Engine that ran it; empty where its place did not say.
    pub engine: String,
    pub batch: u32,
}

impl Run {
    /// Makes the record of one sample run on this device, by the engine of that name.
    pub fn here(latency_us: u64, engine: &str) -> Self {
        Self { place: "edge".to_owned(), latency_us, engine: engine.to_owned(), batch: 1 }
    }
}

/// Facts that a record needs besides the outcome.
#[derive(Debug)]
pub struct Context<'a> {
    pub id: String,
    pub manifest: &'a Manifest,
    pub digest: BundleDigest,
    pub task: &'a Task,
    pub sample: &'a Sample,
    pub origin: Origin,
    /// Runs of the experts that answered.
    pub runs: BTreeMap<ExpertIx, Run>,
    pub uplink_bytes: u64,
    pub timings: Timings,
}

impl Decision {
    pub fn record(outcome: Outcome, context: Context<'_>) -> Self {
        let Context { id, manifest, digest, task, sample, origin, mut runs, uplink_bytes, timings } = context;
        let is_unknown = outcome.is_unknown();
        let mixed = outcome.mixed;
        let lost = lost(manifest, &outcome.answers, sample);
        let experts = shares(manifest, &outcome.answers, &mixed.weights, |expert| runs.remove(&expert));
        let modalities = manifest.modalities.iter().zip(sample.presence());
        Self {
            id,
            version: 1,
            state: outcome.state,
            task: task.name.clone(),
            verdict: verdict(task, &mixed, is_unknown),
            probabilities: probabilities(task, &mixed),
            experts,
            degraded: outcome.degraded,
            why: outcome.why,
            uplink_bytes,
            sample: SampleInfo {
                path: origin.path,
                source: origin.source,
                part_id: origin.part_id,
                captured_at: origin.captured_at,
                sha256: origin.sha256,
                notes: origin.notes.into_iter().chain(lost).collect(),
                region: origin.region,
                regions: origin.regions,
                modalities: modalities
                    .filter(|(_, present)| *present)
                    .map(|(modality, _)| modality.name.clone())
                    .collect(),
            },
            bundle: BundleInfo {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                digest: digest.to_string(),
            },
            timings_us: timings,
            disposition: outcome.disposition,
            novelty: outcome.novelty,
            checks: outcome.checks,
            historical: None,
        }
    }
}

pub(super) fn verdict(task: &Task, mixed: &Mixed, is_unknown: bool) -> Verdict {
    if is_unknown {
        return Verdict { label: UNKNOWN.to_owned(), probability: None };
    }
    let probability = Some(mixed.probabilities[mixed.verdict]);
    Verdict { label: task.labels[mixed.verdict].clone(), probability }
}

pub(super) fn probabilities(task: &Task, mixed: &Mixed) -> BTreeMap<String, f64> {
    let labelled = task.labels.iter().zip(&mixed.probabilities);
    labelled
        .filter(|(_, probability)| **probability >= SMALLEST_PROBABILITY)
        .map(|(label, probability)| (label.clone(), *probability))
        .collect()
}

/// What every expert that answered lost of a modality, in the words of the one that lost the least: of the largest input.
fn lost(manifest: &Manifest, answers: &[Weighed], sample: &Sample) -> Vec<Note> {
    let inputs = || answers.iter().flat_map(|weighed| &manifest.experts[weighed.answer.expert].inputs);
    let of = |(spec, value): (&Spec, &Option<Value>)| {
        let value = value.as_ref()?;
        let takes = |input: &&ExpertInput| input.modality == spec.name && input.kind == InputKind::Value;
        let mut inputs: Vec<&ExpertInput> = inputs().filter(takes).collect();
        inputs.sort_by_key(|input| Reverse(input.shape.iter().product::<usize>()));
        let losses: Option<Vec<_>> = inputs.into_iter().map(|input| input.prepare.lost(value)).collect();
        let (code, message) = losses?.into_iter().next()?;
        Some(Note { modality: spec.name.clone(), code: code.to_owned(), message })
    };
    manifest.modalities.iter().zip(&sample.values).filter_map(of).collect()
}

/// Lists the experts that answered, heaviest first.
pub(super) fn shares(
    manifest: &Manifest,
    answers: &[Weighed],
    weights: &[f64],
    mut run: impl FnMut(ExpertIx) -> Option<Run>,
) -> Vec<ExpertShare> {
    let share = |(weighed, weight): (&Weighed, &f64)| {
        let run = run(weighed.answer.expert).unwrap_or_else(|| Run::here(0, ""));
        ExpertShare {
            name: manifest.experts[weighed.answer.expert].name.clone(),
            place: run.place,
            weight: *weight,
            competence: weighed.competence,
            latency_us: run.latency_us,
            engine: run.engine,
            batch: run.batch,
        }
    };
    let mut shares: Vec<ExpertShare> = answers.iter().zip(weights).map(share).collect();
    shares.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    shares
}
