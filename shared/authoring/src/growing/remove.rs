//! An expert removed, with everything that only it was for.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millgate_mixture::novelty::{Bank, BankError};
use millgate_mixture::runner::Models;
use millgate_model::manifest::{
    GoldenDecision, Manifest, NoveltyBank, Threshold, golden_path, model_path, product_of,
};
use millgate_model::scope::Scope;
use serde::Serialize;
use toml_edit::{Array, Item, Table, value};

use super::{GrowError, gate, goldens, models, products, run, tensors};
use crate::certifying;
use crate::draft::{Draft, DraftError, Step, replace};
use crate::features::Seen;
use crate::features::replay::{self, Who};
use crate::progress::Progress;

/// What has gone, and what has changed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Removed {
    pub expert: String,
    pub version: String,
    /// Labels that nobody answers any more.
    pub labels: Vec<String>,
    /// Products of which nothing is left.
    pub products: Vec<String>,
    /// Experts that named it as a substitute.
    pub substitutes: Vec<String>,
    /// Products whose certificates do not hold any more: what they were certified for has changed.
    pub uncertified: Vec<String>,
    /// Files that went.
    pub files: Vec<String>,
    /// Golden decisions that went with their labels.
    pub golden: usize,
}

/// Removes an expert. Models are run from copies that lie beside `beside` meanwhile.
pub fn remove(
    draft: &mut Draft,
    beside: &Path,
    name: &str,
    progress: &dyn Progress,
) -> Result<Removed, GrowError> {
    let (old_trial, old_models) = models(draft, beside)?;
    let old = Arc::clone(old_models.manifest());
    let at = old.experts.iter().position(|expert| expert.name == name).ok_or_else(|| {
        let known: Vec<&str> = old.experts.iter().map(|expert| expert.name.as_str()).collect();
        GrowError::value(
            "name",
            format!("`{name}` is not an expert of this bundle: it has {}", known.join(", ")),
        )
    })?;
    let olds =
        run(&old_models, &goldens(&old, old_trial.bundle().dir()), "golden samples, before", progress)?;
    let spec = old.experts.iter().find(|expert| expert.name == name);
    let own: Vec<String> = spec.map(|expert| expert.labels.clone()).unwrap_or_default();
    let is_answered = |task: &str, label: &String| {
        let mut others = old.experts.iter().filter(|expert| expert.name != name);
        others.any(|expert| expert.tasks.iter().any(|one| one == task) && expert.labels.contains(label))
    };
    let mut removed = Removed { expert: name.to_owned(), ..Removed::default() };
    for task in &old.tasks {
        let left: Vec<String> =
            task.labels.iter().filter(|label| is_answered(&task.name, label)).cloned().collect();
        if left.is_empty() {
            let message = format!("nobody would answer task `{}`: add another expert first", task.name);
            return Err(GrowError::value("name", message));
        }
        draft.set_task_labels(&task.name, &left)?;
    }
    let answered = |label: &String| old.tasks.iter().any(|task| is_answered(&task.name, label));
    let all = || old.tasks.iter().flat_map(|task| &task.labels);
    for label in all().filter(|label| !answered(label)) {
        if !removed.labels.contains(label) {
            removed.labels.push(label.clone());
        }
    }
    let left = products(all().filter(|label| answered(label)));
    removed.products =
        products(all()).into_iter().filter(|one| !left.contains(one)).map(str::to_owned).collect();

    let names = |table: &Table| table.get("name").and_then(Item::as_str).map(str::to_owned);
    draft.tables("experts")?.retain(|table| names(table).as_deref() != Some(name));
    for table in draft.tables("experts")?.iter_mut() {
        let Some(substitutes) = table.get("substitutes").and_then(Item::as_array) else { continue };
        let kept: Vec<&str> =
            substitutes.iter().filter_map(toml_edit::Value::as_str).filter(|one| *one != name).collect();
        if kept.len() < substitutes.len() {
            let kept: Array = kept.into_iter().collect();
            removed.substitutes.extend(names(table));
            replace(table, "substitutes", value(kept));
        }
    }
    clean_products(draft, &old, name, &removed)?;
    clean_golden(draft, &old, &mut removed)?;
    draft.remove_below(&format!("{name}/"));
    draft.files.remove(&golden_path(name));
    shrink_gate(draft, &old_models, at)?;
    // Everything that must go is gone before what is left is decided anew.
    let thresholds: Vec<Threshold> = (old.offload.thresholds.iter())
        .filter(|entry| !removed.products.contains(&entry.product))
        .cloned()
        .collect();
    draft.set_thresholds(&thresholds)?;
    let (new_trial, new_models) = models(draft, beside)?;
    let same = same(&old, &olds, &new_models, new_trial.bundle().dir(), progress)?;
    certifying::renew_golden(draft, new_trial.bundle(), &new_models, progress)?;
    let of_own = products(&own);
    let is_void = |product: &str| of_own.contains(&product) || !same.contains(product);
    let (void, kept): (Vec<Threshold>, Vec<Threshold>) =
        thresholds.into_iter().partition(|entry| is_void(&entry.product));
    for entry in void {
        if !removed.uncertified.contains(&entry.product) {
            removed.uncertified.push(entry.product);
        }
    }
    draft.set_thresholds(&kept)?;
    let before: Vec<&String> = old.digests.keys().collect();
    removed.files = before.into_iter().filter(|file| !draft.files.contains_key(*file)).cloned().collect();
    removed.version =
        draft.raise_version(if removed.labels.is_empty() { Step::Minor } else { Step::Major })?;
    Ok(removed)
}

/// Products of which all golden decisions that are left are the same bit for bit; one that has none is none of them.
fn same(
    old: &Arc<Manifest>,
    olds: &[Seen],
    models: &Arc<Models>,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<BTreeSet<String>, GrowError> {
    let new = models.manifest();
    let news = run(models, &goldens(new, dir), "golden samples, after", progress)?;
    let (mut same, mut other) = (BTreeSet::new(), BTreeSet::new());
    for (golden, after) in new.golden.decisions.iter().zip(&news) {
        let was = old.golden.decisions.iter().position(|decision| decision.parts == golden.parts);
        let before = was.and_then(|at| olds.get(at));
        let is_same = before.is_some_and(|before| {
            let before = decided(old, golden, before);
            before.is_some() && before == decided(new, golden, after)
        });
        if is_same { &mut same } else { &mut other }.insert(product_of(&golden.label).to_owned());
    }
    Ok(same.difference(&other).cloned().collect())
}

/// A decision by names, and its numbers to the last bit.
type Exactly = (String, u64, u64, Vec<(String, u64)>);

fn decided(manifest: &Arc<Manifest>, golden: &GoldenDecision, seen: &Seen) -> Option<Exactly> {
    let scope = Scope::of(golden.labels.iter().cloned());
    let risk = manifest.offload.default_risk;
    let outcome = replay::decide(manifest, &golden.task, &scope, risk, Who::Device, seen).ok()?;
    let mixed = &outcome.mixed;
    let label = manifest.task(&golden.task)?.labels.get(mixed.verdict)?.clone();
    let weighed = outcome.answers.iter().zip(&mixed.weights).filter(|(_, weight)| **weight > 0.0);
    let name = |expert| manifest.experts.get(expert).map(|expert| expert.name.clone()).unwrap_or_default();
    let weights = weighed.map(|(one, weight)| (name(one.answer.expert), weight.to_bits())).collect();
    Some((label, mixed.probabilities[mixed.verdict].to_bits(), mixed.risk.to_bits(), weights))
}

/// Takes the score out of the gate and its golden tensors.
fn shrink_gate(draft: &mut Draft, models: &Models, at: usize) -> Result<(), GrowError> {
    let manifest = models.manifest();
    let gate_name = manifest.gate.name.clone();
    let file = |draft: &Draft, path: String| {
        draft.files.get(&path).cloned().ok_or_else(|| GrowError::Gate(format!("{path} is missing")))
    };
    let ports = models.all().find(|(known, _)| *known == gate_name).map(|(_, model)| model.inputs().to_vec());
    let ports = ports.unwrap_or_default();
    let rows = tensors::inputs(&file(draft, golden_path(&gate_name))?, &ports).map_err(GrowError::Gate)?;
    let shrunk = gate::shrunk(&file(draft, model_path(&gate_name))?, at, manifest.experts.len())?;
    let golden = tensors::golden(&shrunk, &ports, &rows).map_err(GrowError::Gate)?;
    draft.insert(golden_path(&gate_name), golden.file);
    draft.insert(model_path(&gate_name), shrunk);
    Ok(())
}

/// What is known of products: dispositions of labels that went, the expert's detector, banks of products that went.
fn clean_products(draft: &mut Draft, old: &Manifest, name: &str, removed: &Removed) -> Result<(), GrowError> {
    let detector = format!("expert:{name}");
    for product in &old.products {
        let mut left = product.clone();
        if removed.products.contains(&product.name) {
            if let Some(bank) = &product.novelty {
                draft.files.remove(&bank.file);
            }
            let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(&product.name);
            draft.tables("products")?.retain(|table| !is_it(table));
            continue;
        }
        left.dispositions.retain(|label, _| !removed.labels.contains(label));
        if let Some(spec) = &mut left.novelty
            && spec.detectors.contains(&detector)
        {
            without_detector(draft, spec, &detector)?;
            spec.detectors.retain(|one| *one != detector);
        }
        if let Some(bank) = left.novelty.take_if(|bank| bank.detectors.is_empty()) {
            draft.files.remove(&bank.file);
        }
        if left != *product {
            draft.set_product(&left)?;
        }
    }
    let is_empty =
        draft.manifest.get("products").and_then(Item::as_array_of_tables).is_some_and(|all| all.is_empty());
    if is_empty {
        draft.manifest.remove("products");
    }
    Ok(())
}

/// Takes a detector out of a bank's file.
fn without_detector(draft: &mut Draft, spec: &NoveltyBank, detector: &str) -> Result<(), GrowError> {
    let refuse = |error: BankError| DraftError::key(&spec.file, error.to_string());
    let bytes = draft.files.get(&spec.file).map_or(&[][..], |bytes| bytes);
    let bank = Bank::read(bytes, &spec.detectors, spec.neighbours).map_err(refuse)?;
    let left = bank.detectors().iter().filter(|one| one.name() != detector).cloned().collect();
    let bytes = Bank::new(spec.neighbours, left).write().map_err(refuse)?;
    draft.insert(&spec.file, bytes);
    Ok(())
}

/// Golden decisions of labels that went, with their files.
fn clean_golden(draft: &mut Draft, old: &Manifest, removed: &mut Removed) -> Result<(), GrowError> {
    let goes = |label: &str| removed.labels.iter().any(|gone| gone == label);
    let gone: Vec<bool> = old.golden.decisions.iter().map(|golden| goes(&golden.label)).collect();
    let golden = draft.manifest.get_mut("golden").and_then(Item::as_table_mut);
    let golden = golden.ok_or_else(|| DraftError::key("golden", "is missing"))?;
    if let Some(list) = golden.get_mut("decisions").and_then(Item::as_array_of_tables_mut) {
        let mut at = 0;
        list.retain(|_| {
            at += 1;
            !gone.get(at - 1).copied().unwrap_or(false)
        });
        // Who answers in its place is seen when they are renewed.
        for table in list.iter_mut() {
            let Some(experts) = table.get("experts").and_then(Item::as_array) else { continue };
            let names = experts.iter().filter_map(toml_edit::Value::as_str);
            let kept: Array = names.filter(|name| *name != removed.expert).collect();
            replace(table, "experts", value(kept));
        }
        if list.is_empty() {
            golden.remove("decisions");
        }
    }
    let kept =
        || old.golden.decisions.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(golden, _)| golden);
    for (decision, _) in old.golden.decisions.iter().zip(&gone).filter(|(_, gone)| **gone) {
        removed.golden += 1;
        for file in decision.parts.values() {
            if !kept().any(|other| other.parts.values().any(|kept| kept == file)) {
                draft.files.remove(file);
            }
        }
    }
    Ok(())
}
