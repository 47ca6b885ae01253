//! A bundle judged on labelled samples: numbers, a page for people, and two bundles side by side.
//!
//! Every sample goes through all models once; what a device decides alone, what it decides with the pool, and what the pool
//! would have made of everything is then replayed.
//!
//! * `measures`: numbers of labels, confidences and risks. `page`: the page.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use millgate_bundle::{Bundle, BundleError};
use millgate_engine::Tract;
use millgate_mixture::novelty::{Banks, compare, picture_features};
use millgate_mixture::runner::{Holding, Models};
use millgate_model::manifest::{Manifest, Task, product_of};
use millgate_model::recipe::Disposition;
use millgate_model::scope::Scope;
use serde::Serialize;

use crate::data::{DataError, Item, Labelled};
use crate::features::replay::{self, Who};
use crate::features::{FeatureError, Seen, each, see};
use crate::progress::Progress;

mod chance;
mod measures;
mod page;

pub use chance::Intervals;
pub use measures::{Calibration, ClassMeasures, Point};
pub use page::page;

/// Errors that are shown as pictures.
const WORST: usize = 24;
/// Groups that are named, of those that fare worst, and samples that a group must have to be one of them.
const WORST_GROUPS: usize = 5;
const LEAST_OF_A_GROUP: usize = 3;
/// The detectors of experts begin so.
const EXPERT: &str = millgate_mixture::novelty::EXPERT;

#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error("no task of the bundle has a label of the data: `{0}` is the first of those")]
    NoTask(String),
    #[error("`{sample}` cannot be decided: {reason}")]
    Undecided { sample: String, reason: String },
}

/// What a bundle is worth on labelled samples.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    pub bundle: String,
    pub version: String,
    pub digest: String,
    pub task: String,
    pub samples: usize,
    /// What a device decides with a pool, at the bundle's own risk.
    pub mixture: Judged,
    /// What of that is chance.
    pub intervals: Intervals,
    /// The groups in which it errs most, if it errs in any.
    pub worst_groups: Vec<GroupMeasures>,
    /// What it decides alone.
    pub device: Judged,
    /// What the pool makes of every sample.
    pub pool: Judged,
    /// Share of samples for which the mixture asks the pool.
    pub offload: f64,
    /// Local risk from low to high: share of samples that are kept, and of errors among them.
    pub risk_coverage: Vec<Point>,
    /// Area under the whole of that curve: the mean share of errors, over all shares that could be kept; 0 is best.
    pub aurc: f64,
    /// Share of samples that the pool is asked for, those of highest risk first, and accuracy then.
    pub accuracy_offload: Vec<Point>,
    /// Samples whose product has a bank, and how many of them are called unknown: all are known.
    pub novelty: Novelty,
    pub dispositions: Dispositions,
    /// What went wrong with most confidence.
    pub worst: Vec<Worst>,
    /// Verdict of the mixture by sample, for comparisons.
    #[serde(skip)]
    verdicts: Vec<(String, String, String)>,
}

/// Verdicts beside the truth.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub accuracy: f64,
    pub macro_f1: f64,
    pub calibration: Calibration,
    /// By product.
    pub accuracy_by_product: BTreeMap<String, f64>,
    pub classes: BTreeMap<String, ClassMeasures>,
    /// By true label and by verdict; what never occurs is left out.
    pub confusion: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Samples of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupMeasures {
    pub group: String,
    pub samples: usize,
    pub accuracy: f64,
}

/// Known samples that are called unknown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Novelty {
    pub compared: usize,
    pub unknown: usize,
    /// By product, how many of how many.
    pub by_product: BTreeMap<String, [usize; 2]>,
}

/// What recipes make of the verdicts.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Dispositions {
    /// Samples by what they should have been, and by what was done with them.
    pub counts: BTreeMap<String, BTreeMap<String, usize>>,
    /// Parts that should have been rejected and were accepted.
    pub escapes: usize,
    /// Parts that should have been accepted and were rejected.
    pub false_rejects: usize,
}

/// One error.
#[derive(Debug, Clone, Serialize)]
pub struct Worst {
    pub sample: String,
    pub truth: String,
    pub verdict: String,
    pub probability: f64,
    #[serde(skip)]
    file: Option<PathBuf>,
}

/// One sample, decided.
struct Decided {
    truth: usize,
    device: (usize, f64, f64),
    mixture: (usize, f64),
    pool: (usize, f64),
    is_asked: bool,
    disposition: Option<Disposition>,
}

/// Judges a bundle.
pub fn evaluate(
    bundle: &Bundle,
    data: &Labelled,
    progress: &dyn Progress,
) -> Result<Evaluation, EvaluationError> {
    let models = Arc::new(Models::load(bundle, Holding::All, &Tract)?);
    let manifest = Arc::clone(models.manifest());
    let task = task_of(&manifest, data)?;
    data.check_labels(task)?;
    let banks = Banks::load(bundle)?;
    progress.stage("pictures through the models", data.items.len());
    let seen = each(&models, &data.items, progress, |at, _, read, runner| {
        let sample = read.sample.clone();
        let seen = see(at, read, runner).map_err(|error| error.to_string())?;
        let features = picture_features(&manifest, &sample, &seen.embeddings);
        Ok((seen, features))
    })?
    .all()?;
    progress.stage("decisions", seen.len());
    let mut decided = Vec::with_capacity(seen.len());
    let mut novelty = Novelty::default();
    for (seen, features) in &seen {
        let item = &data.items[seen.item];
        let one = decide(&manifest, task, item, seen)?;
        let product = product_of(&task.labels[one.device.0]);
        if let Some(is_unknown) = is_unknown(&manifest, &banks, product, seen, features.as_deref()) {
            let counts = novelty.by_product.entry(product_of(&item.label).to_owned()).or_default();
            counts[0] += usize::from(is_unknown);
            counts[1] += 1;
            novelty.compared += 1;
            novelty.unknown += usize::from(is_unknown);
        }
        decided.push(one);
        progress.advance(1);
    }
    let items: Vec<&Item> = seen.iter().map(|(seen, _)| &data.items[seen.item]).collect();
    Ok(judged(bundle, &manifest, task, &items, &decided, novelty))
}

fn task_of<'a>(manifest: &'a Manifest, data: &Labelled) -> Result<&'a Task, EvaluationError> {
    let has_all = |task: &&Task| data.items.iter().all(|item| task.labels.contains(&item.label));
    let has_any = |task: &&Task| data.items.iter().any(|item| task.labels.contains(&item.label));
    let found = manifest.tasks.iter().find(has_all).or_else(|| manifest.tasks.iter().find(has_any));
    let first = data.items.first().map_or_else(String::new, |item| item.label.clone());
    found.ok_or(EvaluationError::NoTask(first))
}

fn decide(
    manifest: &Arc<Manifest>,
    task: &Task,
    item: &Item,
    seen: &Seen,
) -> Result<Decided, EvaluationError> {
    let risk = manifest.offload.default_risk;
    let outcome = |who: Who| {
        let outcome = replay::decide(manifest, &task.name, &Scope::default(), risk, who, seen);
        outcome.map_err(|error| EvaluationError::Undecided {
            sample: item.name.clone(),
            reason: error.to_string(),
        })
    };
    let (device, mixture, pool) = (outcome(Who::Device)?, outcome(Who::Both)?, outcome(Who::Always)?);
    let probability = |mixed: &millgate_model::combine::Mixed| {
        (mixed.verdict, mixed.probabilities.get(mixed.verdict).copied().unwrap_or(0.0))
    };
    let (verdict, confidence) = probability(&device.mixed);
    let local = device.why.local_risk.unwrap_or(device.mixed.risk);
    Ok(Decided {
        truth: task.labels.iter().position(|label| *label == item.label).unwrap_or(0),
        device: (verdict, confidence, local),
        mixture: probability(&mixture.mixed),
        pool: probability(&pool.mixed),
        is_asked: mixture.answers.len() > device.answers.len(),
        disposition: mixture.disposition,
    })
}

/// Whether the bank of a product calls a sample unknown; `None` where it has none.
fn is_unknown(
    manifest: &Manifest,
    banks: &Banks,
    product: &str,
    seen: &Seen,
    picture: Option<&[f32]>,
) -> Option<bool> {
    let bound = manifest.product(product)?.novelty.as_ref()?.false_alarms;
    let score = compare(manifest, banks.of(product)?, |detector| match detector.strip_prefix(EXPERT) {
        None => picture.map(Into::into),
        Some(name) => {
            let answered = seen.experts.get(manifest.expert_index(name)?)?.as_ref()?;
            Some(answered.features.as_slice().into())
        }
    })?;
    Some(score.p <= bound)
}

fn judged(
    bundle: &Bundle,
    manifest: &Manifest,
    task: &Task,
    items: &[&Item],
    decided: &[Decided],
    novelty: Novelty,
) -> Evaluation {
    let truth: Vec<usize> = decided.iter().map(|one| one.truth).collect();
    let of = |found: &dyn Fn(&Decided) -> (usize, f64)| {
        let found: Vec<(usize, f64)> = decided.iter().map(found).collect();
        judge(&task.labels, &truth, &found)
    };
    let local: Vec<(f64, bool, bool)> = (decided.iter())
        .map(|one| (one.device.2, one.device.0 == one.truth, one.pool.0 == one.truth))
        .collect();
    let mut worst: Vec<(f64, usize)> = (0..decided.len())
        .filter(|at| decided[*at].mixture.0 != decided[*at].truth)
        .map(|at| (decided[at].mixture.1, at))
        .collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let worst = worst.into_iter().take(WORST).map(|(probability, at)| Worst {
        sample: items[at].name.clone(),
        truth: items[at].label.clone(),
        verdict: task.labels[decided[at].mixture.0].clone(),
        probability,
        file: manifest.main_modality().and_then(|spec| items[at].parts.get(&spec.name)).cloned(),
    });
    let groups: Vec<&str> = items.iter().map(|item| item.group.as_str()).collect();
    let found: Vec<usize> = decided.iter().map(|one| one.mixture.0).collect();
    let verdicts = items
        .iter()
        .zip(decided)
        .map(|(item, one)| (item.name.clone(), item.label.clone(), task.labels[one.mixture.0].clone()));
    Evaluation {
        bundle: manifest.name.clone(),
        version: manifest.version.clone(),
        digest: bundle.digest().to_string(),
        task: task.name.clone(),
        samples: decided.len(),
        mixture: of(&|one| one.mixture),
        intervals: chance::intervals(&groups, &truth, &found, task.labels.len()),
        worst_groups: worst_groups(&groups, &truth, &found),
        device: of(&|one| (one.device.0, one.device.1)),
        pool: of(&|one| one.pool),
        offload: decided.iter().filter(|one| one.is_asked).count() as f64 / decided.len().max(1) as f64,
        risk_coverage: measures::risk_coverage(&local),
        aurc: measures::aurc(&local),
        accuracy_offload: measures::accuracy_offload(&local),
        novelty,
        dispositions: dispositions(manifest, items, decided),
        worst: worst.collect(),
        verdicts: verdicts.collect(),
    }
}

fn judge(labels: &[String], truth: &[usize], found: &[(usize, f64)]) -> Judged {
    let right: Vec<bool> = truth.iter().zip(found).map(|(truth, (found, _))| truth == found).collect();
    let share = |of: &[bool]| of.iter().filter(|right| **right).count() as f64 / of.len().max(1) as f64;
    let mut by_product: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    let mut confusion: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for ((truth, (found, _)), right) in truth.iter().zip(found).zip(&right) {
        by_product.entry(product_of(&labels[*truth]).to_owned()).or_default().push(*right);
        *confusion.entry(labels[*truth].clone()).or_default().entry(labels[*found].clone()).or_default() += 1;
    }
    let classes = measures::classes(labels, truth, found);
    let macro_f1 = classes.values().map(|class| class.f1).sum::<f64>() / classes.len().max(1) as f64;
    let confidences: Vec<(f64, bool)> = found.iter().map(|(_, p)| *p).zip(right.iter().copied()).collect();
    Judged {
        accuracy: share(&right),
        macro_f1,
        calibration: measures::calibration(&confidences),
        accuracy_by_product: by_product.into_iter().map(|(product, of)| (product, share(&of))).collect(),
        classes,
        confusion,
    }
}

/// The groups with the smallest share of right verdicts, the worst first.
fn worst_groups(groups: &[&str], truth: &[usize], found: &[usize]) -> Vec<GroupMeasures> {
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for ((group, truth), found) in groups.iter().zip(truth).zip(found) {
        let [right, all] = counts.entry(group).or_default();
        *right += usize::from(truth == found);
        *all += 1;
    }
    let is_one = |(_, [right, all]): &(&str, [usize; 2])| *all >= LEAST_OF_A_GROUP && right < all;
    let measures = |(group, [right, all]): (&str, [usize; 2])| GroupMeasures {
        group: group.to_owned(),
        samples: all,
        accuracy: right as f64 / all as f64,
    };
    let mut worst: Vec<GroupMeasures> = counts.into_iter().filter(is_one).map(measures).collect();
    worst.sort_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then(b.samples.cmp(&a.samples)));
    worst.truncate(WORST_GROUPS);
    worst
}

fn dispositions(manifest: &Manifest, items: &[&Item], decided: &[Decided]) -> Dispositions {
    let mut all = Dispositions::default();
    for (item, one) in items.iter().zip(decided) {
        let Some(done) = one.disposition else { continue };
        let wanted = manifest.recipe(product_of(&item.label)).of_label(&item.label);
        *all.counts
            .entry(wanted.as_str().to_owned())
            .or_default()
            .entry(done.as_str().to_owned())
            .or_default() += 1;
        all.escapes += usize::from(wanted == Disposition::Reject && done == Disposition::Accept);
        all.false_rejects += usize::from(wanted == Disposition::Accept && done == Disposition::Reject);
    }
    all
}

/// Two bundles on the same samples.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub before: Evaluation,
    pub after: Evaluation,
    /// Samples that only the second decides right, and only the first.
    pub gained: Vec<String>,
    pub lost: Vec<String>,
    /// Probability that two equally good bundles differ as much (McNemar's exact test).
    pub p_value: f64,
}

/// Puts two judgements of the same samples beside each other.
pub fn compared(before: Evaluation, after: Evaluation) -> Comparison {
    let right = |evaluation: &Evaluation| -> BTreeMap<String, bool> {
        let of = evaluation.verdicts.iter();
        of.map(|(name, truth, verdict)| (name.clone(), truth == verdict)).collect()
    };
    let (was, is) = (right(&before), right(&after));
    let changed = |from: &BTreeMap<String, bool>, to: &BTreeMap<String, bool>| -> Vec<String> {
        let better = |(name, right): (&String, &bool)| {
            (*right && from.get(name) == Some(&false)).then(|| name.clone())
        };
        to.iter().filter_map(better).collect()
    };
    let (gained, lost) = (changed(&was, &is), changed(&is, &was));
    Comparison { p_value: chance::mcnemar(gained.len(), lost.len()), gained, lost, before, after }
}
