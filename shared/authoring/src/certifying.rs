//! A bundle certified anew on labelled samples.
//!
//! What is used for what: every sample is used for everything, but what decides on it was fitted without it. The samples fall
//! into five folds by group; competences that decide on one fold are fitted on the other four, and the thresholds are
//! certified on these decisions. What is written is fitted on all of them, as in `training/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use millgate_bundle::{Bundle, BundleError};
use millgate_engine::Tract;
use millgate_mixture::runner::{Holding, Models};
use millgate_model::manifest::{Manifest, Task, Threshold, product_of};
use millgate_sample::index::{By, ExpertIx};

use crate::calibration::answers::Answers;
use crate::calibration::certificate::{RISKS, certify as certify_threshold, samples_needed};
use crate::calibration::temperature;
use crate::data::{DataError, Labelled};
use crate::draft::{Draft, DraftError, Step};
use crate::features::{FeatureError, Seen, collect};
use crate::progress::Progress;

mod crossfit;
mod golden;
pub mod report;
#[cfg(test)]
mod tests;

use crossfit::{Decided, Fit};
use report::{ExpertReport, ProductReport, Report, ThresholdReport, numbers};

/// How a bundle is certified.
#[derive(Debug, Clone)]
pub struct Options {
    /// The task; `None`: the first that has every label of the data.
    pub task: Option<String>,
    /// Risks that thresholds are certified for.
    pub risks: Vec<f64>,
    pub folds: usize,
    pub seed: u64,
    /// Whether it is an error if samples are too few for a certificate; a line in the report otherwise.
    pub is_required: bool,
    /// Golden decisions that are added for a product that has none.
    pub golden: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { task: None, risks: RISKS.to_vec(), folds: 5, seed: 20, is_required: true, golden: 3 }
    }
}

/// Why a bundle is not certified.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error("`{0}` is not a task of this bundle")]
    NoTask(String),
    #[error("`risk`: {0} is not above 0 and below 1")]
    Risk(f64),
    #[error(
        "a certificate at risk {risk} takes at least {needed} samples of product `{product}`, none of them wrong, and there \
         are {got}: bring more samples that no model was trained on, or accept a higher risk"
    )]
    TooFew { product: String, risk: f64, needed: usize, got: usize },
    #[error("a golden sample cannot be decided: {0}")]
    Undecided(String),
}

/// Fits competences, certifies thresholds and renews golden decisions of a draft on samples that no model was trained on.
/// Models are run from a copy that lies beside `beside` meanwhile.
pub fn certify(
    draft: &mut Draft,
    beside: &Path,
    data: &Labelled,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, CertifyError> {
    if let Some(risk) = options.risks.iter().find(|risk| !(**risk > 0.0 && **risk < 1.0)) {
        return Err(CertifyError::Risk(*risk));
    }
    let trial = draft.trial(beside)?;
    let bundle = trial.bundle();
    let task = task_of(bundle.manifest(), data, options)?.clone();
    refuse_too_few(data, options, bundle.manifest().offload.delta)?;
    let models = Arc::new(Models::load(bundle, Holding::All, &Tract)?);
    let manifest = Arc::clone(models.manifest());
    progress.stage("pictures through the models", data.items.len());
    let seen = collect(&models, &data.items, progress)?.all()?;
    let samples: Vec<(&Seen, &str)> =
        seen.iter().map(|seen| (seen, data.items[seen.item].label.as_str())).collect();
    let folds = data.folds(options.folds.clamp(2, 100), options.seed);

    progress.stage("competence and certificates", options.folds + 1);
    let fits = fits(&manifest, &task, data);
    let answers = Answers::of(&manifest, &task, &samples);
    let decided = crossfit::decide(&manifest, &task, &samples, &answers, &fits, &folds);
    progress.advance(options.folds);
    let competences = crossfit::fit(&answers, &fits, |_| true);
    for (expert, competence) in manifest.experts.iter().zip(&competences) {
        if let Some(competence) = competence {
            draft.set_competence(&expert.name, *competence)?;
        }
    }
    // As it is written, to the digit: golden decisions go by it.
    let renewed = Arc::new(draft.parsed()?);
    progress.advance(1);

    let mut report = Report {
        bundle: manifest.name.clone(),
        before: manifest.version.clone(),
        task: task.name.clone(),
        samples: samples.len(),
        folds: options.folds,
        ..Report::default()
    };
    let all = Certifying { manifest: &manifest, task: &task, samples: &samples, decided: &decided };
    report.experts = all.experts(&renewed, &fits);
    let (thresholds, products) = all.products(options)?;
    let kept = all.kept(&renewed, bundle, &models, progress)?;
    report.notes.extend(all.notes(&kept));
    draft.set_thresholds(&in_order(&manifest, kept.thresholds, thresholds))?;
    report.products = products;
    report.golden = golden::renew(draft, bundle, &models, &renewed, progress)?;
    let candidates: Vec<golden::Candidate<'_>> =
        seen.iter().map(|seen| golden::Candidate { item: &data.items[seen.item], seen }).collect();
    report.golden.added = golden::add(draft, &renewed, &task, &candidates, options.golden)?;
    report.after = draft.raise_version(Step::Patch)?;
    Ok(report)
}

/// Decides the golden samples of a bundle anew, by its own models, and writes what came into its draft; gives their number.
pub fn renew_golden(
    draft: &mut Draft,
    bundle: &Bundle,
    models: &Arc<Models>,
    progress: &dyn Progress,
) -> Result<usize, CertifyError> {
    Ok(golden::renew(draft, bundle, models, models.manifest(), progress)?.renewed)
}

/// The task that is certified.
fn task_of<'a>(manifest: &'a Manifest, data: &Labelled, options: &Options) -> Result<&'a Task, CertifyError> {
    if let Some(name) = &options.task {
        let task = manifest.task(name).ok_or_else(|| CertifyError::NoTask(name.clone()))?;
        data.check_labels(task)?;
        return Ok(task);
    }
    let mut tasks = manifest.tasks.iter();
    if let Some(task) = tasks.find(|task| data.check_labels(task).is_ok()) {
        return Ok(task);
    }
    let first = manifest.tasks.first().ok_or_else(|| CertifyError::NoTask(String::new()))?;
    data.check_labels(first)?;
    Ok(first)
}

/// Refuses data that no certificate can come of, before anything is run.
fn refuse_too_few(data: &Labelled, options: &Options, delta: f64) -> Result<(), CertifyError> {
    let Some(risk) = options.risks.iter().copied().reduce(f64::max).filter(|_| options.is_required) else {
        return Ok(());
    };
    let needed = samples_needed(risk, delta);
    for (product, got) in of_products(data) {
        if got < needed {
            return Err(CertifyError::TooFew { product: product.to_owned(), risk, needed, got });
        }
    }
    Ok(())
}

fn of_products(data: &Labelled) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in &data.items {
        *counts.entry(product_of(&item.label)).or_insert(0) += 1;
    }
    counts
}

/// What is fitted of each expert. Nothing unless the data shows every product that it answers for: one that is seen only on
/// other products than its own would be taken for one that is always wrong. All but the gate's weight if the data shows not
/// every product of the task: nothing in it shows what that weight is for.
fn fits(manifest: &Manifest, task: &Task, data: &Labelled) -> By<ExpertIx, Fit> {
    let products = of_products(data);
    let is_shown = |label: &String| products.contains_key(product_of(label));
    let is_whole = task.labels.iter().all(is_shown);
    manifest.experts.map(|expert| {
        match expert.tasks.contains(&task.name) && expert.labels.iter().all(is_shown) {
            false => Fit::Nothing,
            true if is_whole => Fit::All,
            true => Fit::AllButGate(expert.competence.gate),
        }
    })
}

/// Thresholds by product in the order of the labels, those for any sample before the restricted ones.
fn in_order(manifest: &Manifest, kept: Vec<Threshold>, new: Vec<Threshold>) -> Vec<Threshold> {
    let labels = manifest.tasks.iter().flat_map(|task| &task.labels);
    let products: Vec<&str> = labels.map(|label| product_of(label)).collect();
    let place = |entry: &Threshold| {
        let of_product = products.iter().position(|product| *product == entry.product);
        (of_product, entry.restricted)
    };
    let mut all: Vec<Threshold> = kept.into_iter().chain(new).collect();
    all.sort_by(|a, b| place(a).cmp(&place(b)).then(a.risk.total_cmp(&b.risk)));
    all
}

/// Thresholds of products that the data does not show.
struct Kept {
    thresholds: Vec<Threshold>,
    /// Products whose thresholds do not hold any more.
    dropped: BTreeSet<String>,
}

/// What certificates come of.
struct Certifying<'a> {
    manifest: &'a Arc<Manifest>,
    task: &'a Task,
    samples: &'a [(&'a Seen, &'a str)],
    decided: &'a [Decided],
}

impl Certifying<'_> {
    fn experts(&self, renewed: &Manifest, fits: &By<ExpertIx, Fit>) -> Vec<ExpertReport> {
        let one = |expert: ExpertIx| {
            let spec = &self.manifest.experts[expert];
            let mut logits: Vec<&[f32]> = Vec::new();
            let mut classes = Vec::new();
            for (seen, label) in self.samples {
                let class = spec.labels.iter().position(|known| known == label);
                if let (Some(answered), Some(class)) = (&seen.experts[expert], class) {
                    logits.push(&answered.logits);
                    classes.push(class);
                }
            }
            let top = |logits: &[f32]| {
                (0..logits.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best })
            };
            let right = logits.iter().zip(&classes).filter(|(logits, class)| top(logits) == **class).count();
            let has_any = !classes.is_empty();
            ExpertReport {
                name: spec.name.clone(),
                samples: classes.len(),
                accuracy: has_any.then(|| right as f64 / classes.len() as f64),
                temperature: has_any.then(|| temperature::fit(&logits, &classes)),
                before: numbers(spec.competence),
                after: numbers(renewed.experts[expert].competence),
                kept: match fits[expert] {
                    Fit::Nothing => Some("the data does not show all of its products".to_owned()),
                    Fit::AllButGate(_) => {
                        Some("its weight of the gate stays: the data does not show every product".to_owned())
                    }
                    Fit::All => None,
                },
            }
        };
        self.manifest.experts.indices().map(one).collect()
    }

    /// Products that the data shows, in the order of the labels.
    fn shown(&self) -> Vec<&str> {
        let shown: BTreeSet<&str> = self.samples.iter().map(|(_, label)| product_of(label)).collect();
        let mut products: Vec<&str> = Vec::new();
        for product in self.task.labels.iter().map(|label| product_of(label)) {
            if shown.contains(product) && !products.contains(&product) {
                products.push(product);
            }
        }
        products
    }

    fn has_one_product(&self) -> bool {
        let products: BTreeSet<&str> = self.task.labels.iter().map(|label| product_of(label)).collect();
        products.len() == 1
    }

    fn products(&self, options: &Options) -> Result<(Vec<Threshold>, Vec<ProductReport>), CertifyError> {
        let (mut thresholds, mut reports) = (Vec::new(), Vec::new());
        for product in self.shown() {
            let own = || {
                self.samples.iter().zip(self.decided).filter(|((_, label), _)| product_of(label) == product)
            };
            let samples = own().count();
            let right = own().filter(|((_, label), decided)| {
                decided.free.as_ref().is_some_and(|local| local.label == *label)
            });
            let mut report = ProductReport {
                product: product.to_owned(),
                samples,
                local_accuracy: right.count() as f64 / samples.max(1) as f64,
                thresholds: Vec::new(),
            };
            // Where there is one product, to know it restricts nothing.
            let kinds: &[bool] = if self.has_one_product() { &[false] } else { &[false, true] };
            for restricted in kinds {
                let cases = self.cases(product, *restricted);
                for risk in &options.risks {
                    let (threshold, line) = self.certificate(product, *restricted, *risk, &cases);
                    thresholds.extend(threshold);
                    report.thresholds.push(line);
                }
            }
            reports.push(report);
        }
        Ok((thresholds, reports))
    }

    /// Risk and error of the samples that a threshold of a product goes by: those whose local verdict is of it, or those
    /// that are known to be of it.
    fn cases(&self, product: &str, restricted: bool) -> Vec<(f64, bool)> {
        let case = |((_, label), decided): (&(&Seen, &str), &Decided)| {
            let local = if restricted { &decided.restricted } else { &decided.free }.as_ref()?;
            let is_of = if restricted { product_of(label) } else { product_of(&local.label) } == product;
            is_of.then_some((local.risk, local.label != *label))
        };
        self.samples.iter().zip(self.decided).filter_map(case).collect()
    }

    fn certificate(
        &self,
        product: &str,
        restricted: bool,
        risk: f64,
        cases: &[(f64, bool)],
    ) -> (Option<Threshold>, ThresholdReport) {
        let delta = self.manifest.offload.delta;
        let found = certify_threshold(cases, risk, delta);
        let is_it = |entry: &&Threshold| {
            entry.product == product && entry.restricted == restricted && entry.is_for(risk)
        };
        let mut line = ThresholdReport {
            risk,
            restricted,
            before: self.manifest.offload.thresholds.iter().find(is_it).map(|entry| entry.threshold),
            after: found.map(|found| found.threshold),
            samples: cases.len(),
            kept: found.map_or(0, |found| found.kept),
            errors: found.map_or(0, |found| found.errors),
            none: None,
        };
        let Some(found) = found else {
            let needed = samples_needed(risk, delta);
            line.none = Some(match cases.len() < needed {
                true => format!("takes at least {needed} samples, there are {}", cases.len()),
                false => "the surest samples hold too many errors".to_owned(),
            });
            return (None, line);
        };
        let threshold = Threshold {
            product: product.to_owned(),
            restricted,
            risk,
            threshold: found.threshold,
            calibration_samples: cases.len() as u64,
            calibration_kept: found.kept as u64,
            calibration_errors: found.errors as u64,
        };
        (Some(threshold), line)
    }

    /// Thresholds of other products, which hold on if the golden decisions of their product are the same bit for bit.
    fn kept(
        &self,
        renewed: &Arc<Manifest>,
        bundle: &Bundle,
        models: &Arc<Models>,
        progress: &dyn Progress,
    ) -> Result<Kept, CertifyError> {
        let shown = self.shown();
        let others: BTreeSet<&str> = (self.manifest.offload.thresholds.iter())
            .map(|entry| entry.product.as_str())
            .filter(|product| !shown.contains(product))
            .collect();
        let mut dropped = BTreeSet::new();
        if !others.is_empty() {
            let same = golden::same(self.manifest, renewed, bundle, models, progress)?;
            dropped = others
                .iter()
                .filter(|product| !same.contains(**product))
                .map(|one| (*one).to_owned())
                .collect();
        }
        let is_kept =
            |entry: &&Threshold| others.contains(entry.product.as_str()) && !dropped.contains(&entry.product);
        let thresholds = self.manifest.offload.thresholds.iter().filter(is_kept).cloned().collect();
        Ok(Kept { thresholds, dropped })
    }

    fn notes(&self, kept: &Kept) -> Vec<String> {
        let mut notes = Vec::new();
        let shown = self.shown();
        let names: BTreeSet<&str> = kept.thresholds.iter().map(|entry| entry.product.as_str()).collect();
        for product in names {
            notes.push(format!(
                "{product}: not in the data; its golden decisions are the same to the last bit, and its thresholds stay"
            ));
        }
        for product in &kept.dropped {
            notes.push(format!(
                "{product}: not in the data, and its golden decisions are not the same, or it has none: its thresholds are \
                 gone; certify with its samples too"
            ));
        }
        let all: BTreeSet<&str> = self.task.labels.iter().map(|label| product_of(label)).collect();
        if shown.len() < all.len() {
            notes.push(format!(
                "only samples of {} were given: thresholds that are not restricted suppose that no others come",
                shown.join(", ")
            ));
        }
        notes
    }
}
