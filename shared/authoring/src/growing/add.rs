//! An expert added.

use std::path::Path;
use std::sync::Arc;

use millgate_array::Array;
use millgate_engine::fixed::FixedPort;
use millgate_mixture::inputs::expert_inputs;
use millgate_mixture::runner::{Models, Runner};
use millgate_model::manifest::{Manifest, Product, golden_path, model_path};
use millgate_model::recipe::Disposition;
use millgate_sample::sample::Sample;
use serde::Serialize;

use super::expert::{self, Described, Understood};
use super::gate::{self, Row};
use super::row::{self, NOTHING, Placed};
use super::{GrowError, goldens, models, proof, run, tensors};
use crate::calibration::answers::Answers;
use crate::data::{Item, Labelled};
use crate::draft::{Draft, Step};
use crate::features::Seen;
use crate::progress::Progress;

/// Rows of the golden tensors of a new expert.
const ROWS: usize = 4;

/// What is to be added.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The model's file, as it is called in errors.
    pub file: &'a str,
    pub model: &'a [u8],
    /// `<product>/<class>` or, of `product`, `<class>`; in the order of the model's logits.
    pub labels: &'a [String],
    pub product: &'a str,
    /// Made up if `None`.
    pub name: Option<&'a str>,
    /// `edge` or `cloud`.
    pub tier: &'a str,
    /// The first one if `None`.
    pub task: Option<&'a str>,
    /// Labels of good parts: they are accepted, the others of the product rejected.
    pub good: &'a [String],
    /// Samples of the new product, by which the gate tells it and the expert's competence is fitted.
    pub data: Option<&'a Labelled>,
    /// Samples of what the bundle knew, which must be decided as they were.
    pub old: Option<&'a Labelled>,
}

/// What was added.
#[derive(Debug, Clone, Serialize)]
pub struct Added {
    pub expert: String,
    pub version: String,
    /// Labels that the task did not have.
    pub labels: Vec<String>,
    /// Whether the gate finds the new product; else the expert answers only where a source's `labels` leave no other.
    pub is_found_by_gate: bool,
    /// Share of the new samples that the gate gives to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<f64>,
    /// Share of these labels' new samples that it is right on; not a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Old decisions that were made before and after, and are the same bit for bit.
    pub proven: usize,
    pub notes: Vec<String>,
}

/// Adds an expert. Models are run from copies that lie beside `beside` meanwhile.
pub fn add(
    draft: &mut Draft,
    beside: &Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Added, GrowError> {
    let (trial, old_models) = models(draft, beside)?;
    let old = Arc::clone(old_models.manifest());
    let labels = labels(request)?;
    let name = request.name.map_or_else(|| expert::name_of(request.product, request.model), str::to_owned);
    if old_models.all().any(|(known, _)| known == name) {
        return Err(GrowError::value("name", format!("`{name}` is a model of this bundle already")));
    }
    if !["edge", "cloud"].contains(&request.tier) {
        return Err(GrowError::value("tier", format!("`{}` is neither `edge` nor `cloud`", request.tier)));
    }
    let task = match request.task {
        Some(name) => old.task(name),
        None => old.tasks.first(),
    };
    let task = task.ok_or_else(|| {
        GrowError::value(
            "task",
            format!("`{}` is not a task of this bundle", request.task.unwrap_or_default()),
        )
    })?;
    let understood = expert::understand(request.file, request.model, labels.len(), &old)?;
    if let Some(data) = request.data {
        check_data(data, &labels)?;
    }

    // Old samples: golden ones, and those that were given.
    let mut items = goldens(&old, trial.bundle().dir());
    items.extend(request.old.iter().flat_map(|old| old.items.iter().cloned()));
    let olds = run(&old_models, &items, "old samples, before", progress)?;
    let empty = Labelled::default();
    let new_items = &request.data.unwrap_or(&empty).items;
    let news = run(&old_models, new_items, "new samples", progress)?;

    let placed_old = [placed(&old, &olds), placed_golden(draft, &old_models)?].concat();
    let fitted = row::fit(&placed_old, &placed(&old, &news));
    let dims = old.encoders.iter().map(|encoder| encoder.dims).sum();
    let names: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
    let (mut added, before) = (Vec::new(), draft.clone());
    added.extend(labels.iter().filter(|label| !task.labels.contains(label)).cloned());
    let mut notes = Vec::new();
    for row in fitted.iter().chain([&row::never(dims)]) {
        *draft = before.clone();
        let described = Described { name: &name, tier: request.tier, task: &task.name, labels: &labels };
        let remark = expert::describe(draft, &old, &described, &understood)?;
        let all: Vec<String> = task.labels.iter().chain(&added).cloned().collect();
        draft.set_task_labels(&task.name, &all)?;
        draft.insert(model_path(&name), request.model);
        grow_gate(draft, &old_models, row)?;
        golden_of_expert(draft, &old_models, &understood, &name, request, new_items)?;
        dispose(draft, request, &labels)?;
        let (_trial, new_models) = models(draft, beside)?;
        let after = run(&new_models, &items, "old samples, after", progress)?;
        let seen = run(&new_models, new_items, "new samples, by the new expert", progress)?;
        let found = fit_competence(draft, &new_models, &task.name, &name, &seen, new_items)?;
        let manifest = Arc::new(draft.parsed()?);
        let is_found = row.weights.iter().any(|weight| *weight != 0.0);
        let differs =
            too_high(&after, &names).or_else(|| proof::differs((&old, &olds), (&manifest, &after), &names));
        if let Some(what) = differs {
            if is_found {
                notes
                    .push(format!("a row of the gate that finds the product was tried and given up: {what}"));
                continue;
            }
            *draft = before;
            return Err(GrowError::Changed(what));
        }
        notes.extend(remark);
        if !is_found {
            notes.push(match request.data {
                None => {
                    "no samples of the product were given (`--data`): the gate does not find it".to_owned()
                }
                Some(_) => {
                    "the gate cannot tell the product from the old ones: it does not find it".to_owned()
                }
            });
            notes.push(format!(
                "name the product to the source that sees it (`labels = [\"{}\"]`): then this expert answers",
                request.product
            ));
        }
        notes.push("no threshold is certified for it yet: `bundle certify`".to_owned());
        let version = draft.raise_version(Step::Minor)?;
        return Ok(Added {
            expert: name,
            version,
            labels: added,
            is_found_by_gate: is_found,
            found: found.map(|(found, _)| found),
            accuracy: found.map(|(_, accuracy)| accuracy),
            proven: items.len(),
            notes,
        });
    }
    Err(GrowError::Gate("no row was tried".to_owned()))
}

/// The labels as the manifest writes them.
fn labels(request: &Request<'_>) -> Result<Vec<String>, GrowError> {
    let mut labels: Vec<String> = Vec::new();
    for label in request.labels {
        let whole = match label.split_once('/') {
            None if !label.is_empty() => format!("{}/{label}", request.product),
            Some((product, class)) if product == request.product && !class.is_empty() => label.clone(),
            _ => {
                let message = format!("`{label}` is not a class of product `{}`", request.product);
                return Err(GrowError::value("labels", message));
            }
        };
        if labels.contains(&whole) {
            return Err(GrowError::value("labels", format!("`{whole}` stands twice")));
        }
        labels.push(whole);
    }
    if labels.is_empty() {
        return Err(GrowError::value("labels", "names no label"));
    }
    Ok(labels)
}

fn check_data(data: &Labelled, labels: &[String]) -> Result<(), GrowError> {
    match data.items.iter().find(|item| !labels.contains(&item.label)) {
        None => Ok(()),
        Some(item) => {
            let message = format!(
                "`{}` is labelled `{}`, which is not among the labels of the expert",
                item.name, item.label
            );
            Err(GrowError::value("data", message))
        }
    }
}

fn best<'a>(scores: impl IntoIterator<Item = &'a f64>) -> f64 {
    scores.into_iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn placed(manifest: &Manifest, seen: &[Seen]) -> Vec<Placed> {
    let one =
        |seen: &Seen| Placed { embeddings: seen.embeddings.row(manifest), best: best(seen.scores.iter()) };
    seen.iter().map(one).collect()
}

/// The rows of the gate's golden tensors: old samples too.
fn placed_golden(draft: &Draft, models: &Models) -> Result<Vec<Placed>, GrowError> {
    let name = &models.manifest().gate.name;
    let (file, ports, rows) = golden_rows(draft, models)?;
    let golden = tensors::golden(&file, &ports, &rows).map_err(GrowError::Gate)?;
    let all = rows.iter().zip(&golden.outputs).map(|(inputs, outputs)| {
        let numbers = |array: &Array| array.as_fp32().map(<[f32]>::to_vec);
        let scores = outputs.first().map(numbers).transpose().ok().flatten().unwrap_or_default();
        let embeddings = inputs.first().map(numbers).transpose().ok().flatten().unwrap_or_default();
        let best = scores.iter().map(|score| f64::from(*score)).fold(f64::NEG_INFINITY, f64::max);
        match best.is_finite() {
            true => Ok(Placed { embeddings, best }),
            false => Err(GrowError::Gate(format!("`{name}` gives a score that is not finite"))),
        }
    });
    all.collect()
}

/// A model's file, its inputs, and rows of them.
type Inputs = (Vec<u8>, Vec<FixedPort>, Vec<Vec<Array>>);

/// The gate's file, its inputs, and the rows that its golden tensors hold.
fn golden_rows(draft: &Draft, models: &Models) -> Result<Inputs, GrowError> {
    let name = &models.manifest().gate.name;
    let file = |path: String| {
        draft.files.get(&path).cloned().ok_or_else(|| GrowError::Gate(format!("{path} is missing")))
    };
    let model = models.all().find(|(known, _)| known == name).map(|(_, model)| model.inputs().to_vec());
    let ports = model.unwrap_or_default();
    let rows = tensors::inputs(&file(golden_path(name))?, &ports).map_err(GrowError::Gate)?;
    Ok((file(model_path(name))?, ports, rows))
}

/// Puts the grown gate and its golden tensors in.
fn grow_gate(draft: &mut Draft, models: &Models, row: &Row) -> Result<(), GrowError> {
    let name = models.manifest().gate.name.clone();
    let (file, ports, rows) = golden_rows(draft, models)?;
    let grown = gate::grown(&file, row)?;
    let golden = tensors::golden(&grown, &ports, &rows).map_err(GrowError::Gate)?;
    draft.insert(golden_path(&name), golden.file);
    draft.insert(model_path(&name), grown);
    Ok(())
}

/// Golden tensors of the new expert, of samples of its product, or else of numbers without meaning.
fn golden_of_expert(
    draft: &mut Draft,
    models: &Arc<Models>,
    understood: &Understood,
    name: &str,
    request: &Request<'_>,
    items: &[Item],
) -> Result<(), GrowError> {
    let ports = understood.ports();
    let refuse = |message: String| GrowError::Model { file: request.file.to_owned(), message };
    let manifest = draft_manifest(draft, name)?;
    let mut rows = Vec::new();
    if let Some(manifest) = &manifest
        && let Some(expert) = manifest.expert_index(name)
    {
        let mut runner: Runner = models.runner().map_err(|error| refuse(error.to_string()))?;
        for item in items.iter().take(ROWS) {
            let read = item.read(manifest)?;
            let sample: Sample = read.sample;
            let embeddings = runner.embeddings(&sample).map_err(|error| refuse(error.to_string()))?;
            rows.push(
                expert_inputs(manifest, expert, &sample, &embeddings)
                    .map_err(|error| refuse(error.to_string()))?,
            );
        }
    }
    if rows.is_empty() {
        let mut chance = fastrand::Rng::with_seed(1);
        for _ in 0..ROWS {
            let row = ports.iter().map(|port| {
                let count = port.shape.iter().product::<usize>();
                let numbers: Vec<f32> = (0..count).map(|_| chance.f32() * 4.0 - 2.0).collect();
                Array::new(port.shape.clone(), numbers.into()).map_err(|error| refuse(error.to_string()))
            });
            rows.push(row.collect::<Result<Vec<_>, _>>()?);
        }
    }
    let golden = tensors::golden(request.model, &ports, &rows).map_err(refuse)?;
    draft.insert(golden_path(name), golden.file);
    Ok(())
}

/// The manifest with the new expert in it, before its golden tensors are made.
fn draft_manifest(draft: &Draft, name: &str) -> Result<Option<Manifest>, GrowError> {
    let mut with = draft.clone();
    with.insert(golden_path(name), Vec::new());
    Ok(Some(with.parsed()?))
}

fn dispose(draft: &mut Draft, request: &Request<'_>, labels: &[String]) -> Result<(), GrowError> {
    if request.good.is_empty() {
        return Ok(());
    }
    let whole = |label: &String| match label.contains('/') {
        true => label.clone(),
        false => format!("{}/{label}", request.product),
    };
    let good: Vec<String> = request.good.iter().map(whole).collect();
    if let Some(other) = good.iter().find(|label| !labels.contains(label)) {
        return Err(GrowError::value("good", format!("`{other}` is not among the labels of the expert")));
    }
    let mut products = draft.products()?;
    let mut product = products.remove(request.product).unwrap_or_else(|| Product {
        name: request.product.to_owned(),
        dispositions: [].into(),
        costs: None,
        checks: Vec::new(),
        novelty: None,
    });
    for label in labels {
        let disposition = if good.contains(label) { Disposition::Accept } else { Disposition::Reject };
        product.dispositions.insert(label.clone(), disposition);
    }
    Ok(draft.set_product(&product)?)
}

/// Fits the expert's competence on its own samples; gives the share of them that the gate finds, and that it is right on.
fn fit_competence(
    draft: &mut Draft,
    models: &Arc<Models>,
    task: &str,
    name: &str,
    seen: &[Seen],
    items: &[Item],
) -> Result<Option<(f64, f64)>, GrowError> {
    let manifest = models.manifest();
    let (Some(task), Some(expert), false) =
        (manifest.task(task), manifest.expert_index(name), seen.is_empty())
    else {
        return Ok(None);
    };
    let samples: Vec<(&Seen, &str)> =
        seen.iter().map(|seen| (seen, items[seen.item].label.as_str())).collect();
    // What the gate's weight is for, samples of one product do not show.
    let gate = manifest.experts[expert].competence.gate;
    if let Some(competence) = Answers::of(manifest, task, &samples).fit(expert, Some(gate), |_| true) {
        draft.set_competence(name, competence)?;
    }
    let labels = &manifest.experts[expert].labels;
    let is_right = |(seen, label): &&(&Seen, &str)| {
        let answered = seen.experts[expert].as_ref();
        let top = answered.and_then(|answered| {
            let highest =
                |best: usize, at: usize| if answered.logits[at] > answered.logits[best] { at } else { best };
            labels.get((0..answered.logits.len()).fold(0, highest))
        });
        top.is_some_and(|top| top == label)
    };
    let is_found = |seen: &&Seen| best(seen.scores.iter()) == seen.scores[expert];
    let share = |count: usize| count as f64 / seen.len() as f64;
    Ok(Some((share(seen.iter().filter(is_found).count()), share(samples.iter().filter(is_right).count()))))
}

/// An old sample on which the new score is not far enough below.
fn too_high(seen: &[Seen], names: &[String]) -> Option<String> {
    let of = |(seen, name): (&Seen, &String)| {
        let (new, old) = seen.scores.split_last()?;
        (*new > best(old) - NOTHING).then(|| format!("`{name}`: the gate would know the new expert for it"))
    };
    seen.iter().zip(names).find_map(of)
}
