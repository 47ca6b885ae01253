//! Golden decisions, renewed after numbers have changed, and new ones for products that have none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use millgate_base::bounded;
use millgate_bundle::Bundle;
use millgate_mixture::runner::Models;
use millgate_model::decision::Outcome;
use millgate_model::manifest::{GoldenDecision, Manifest, Task, product_of};
use millgate_model::scope::Scope;
use millgate_sample::part::Limits;
use toml_edit::{ArrayOfTables, InlineTable, Item, Table, Value, value};

use super::report::GoldenReport;
use super::{CertifyError, crossfit};
use crate::data;
use crate::draft::{Draft, DraftError, replace};
use crate::features::replay::{self, Who};
use crate::features::{Seen, collect};
use crate::progress::Progress;

/// The label of golden samples that are like nothing known.
const UNKNOWN: &str = "unknown";
/// Digits behind the point of a golden probability.
const DIGITS: f64 = 1e6;

/// A sample that may become a golden one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) item: &'a data::Item,
    pub(super) seen: &'a Seen,
}

/// Decides every golden sample anew by `manifest`, and adds at most `count` for each product that has none.
pub(super) fn renew(
    draft: &mut Draft,
    bundle: &Bundle,
    models: &Arc<Models>,
    manifest: &Arc<Manifest>,
    progress: &dyn Progress,
) -> Result<GoldenReport, CertifyError> {
    let goldens = &bundle.manifest().golden.decisions;
    let mut report = GoldenReport::default();
    if goldens.is_empty() {
        return Ok(report);
    }
    let seen = seen(bundle, models, progress)?;
    let tables = decisions(draft)?;
    for ((golden, seen), table) in goldens.iter().zip(&seen).zip(tables.iter_mut()) {
        let outcome = decided(manifest, &golden.task, &scope_of(golden), seen)?;
        let task = manifest.task(&golden.task).ok_or_else(|| CertifyError::NoTask(golden.task.clone()))?;
        write(table, manifest, task, &outcome);
        if golden.label == UNKNOWN {
            // What is not known is not known by other numbers either.
            replace(table, "label", value(UNKNOWN));
        }
        report.renewed += 1;
    }
    Ok(report)
}

/// Products of which every golden decision is the same by both manifests: label, probabilities, weights and risk, bit for bit.
/// A product without golden decisions is none of them.
pub(super) fn same(
    before: &Arc<Manifest>,
    after: &Arc<Manifest>,
    bundle: &Bundle,
    models: &Arc<Models>,
    progress: &dyn Progress,
) -> Result<BTreeSet<String>, CertifyError> {
    let (mut same, mut other) = (BTreeSet::new(), BTreeSet::new());
    let goldens = &bundle.manifest().golden.decisions;
    if goldens.is_empty() {
        return Ok(same);
    }
    for (golden, seen) in goldens.iter().zip(&seen(bundle, models, progress)?) {
        let decided = |manifest| decided(manifest, &golden.task, &scope_of(golden), seen);
        let (old, new) = (decided(before)?, decided(after)?);
        let is_same = old.mixed == new.mixed && old.why.local_risk == new.why.local_risk;
        if is_same { &mut same } else { &mut other }.insert(product_of(&golden.label).to_owned());
    }
    Ok(same.difference(&other).cloned().collect())
}

/// The golden samples through the models.
fn seen(bundle: &Bundle, models: &Arc<Models>, progress: &dyn Progress) -> Result<Vec<Seen>, CertifyError> {
    let item = |golden: &GoldenDecision| data::Item {
        name: golden.parts.values().next().cloned().unwrap_or_default(),
        parts: golden.parts.iter().map(|(name, file)| (name.clone(), bundle.dir().join(file))).collect(),
        label: golden.label.clone(),
        group: String::new(),
        split: None,
    };
    let items: Vec<data::Item> = bundle.manifest().golden.decisions.iter().map(item).collect();
    progress.stage("golden decisions", items.len());
    Ok(collect(models, &items, progress)?.all()?)
}

/// Makes golden decisions of samples: of each label, in turn, the one that the device is surest of, and right.
pub(super) fn add(
    draft: &mut Draft,
    manifest: &Arc<Manifest>,
    task: &Task,
    candidates: &[Candidate<'_>],
    count: usize,
) -> Result<usize, CertifyError> {
    let known: BTreeSet<&str> =
        manifest.golden.decisions.iter().map(|golden| product_of(&golden.label)).collect();
    let mut best: BTreeMap<&str, (f64, Candidate<'_>)> = BTreeMap::new();
    for candidate in candidates {
        let label = candidate.item.label.as_str();
        let local = crossfit::local(manifest, task, &Scope::default(), candidate.seen);
        let Some(local) = local.filter(|local| local.label == label && !known.contains(product_of(label)))
        else {
            continue;
        };
        if best.get(label).is_none_or(|(risk, _)| local.risk < *risk) {
            best.insert(label, (local.risk, *candidate));
        }
    }
    let mut added: BTreeMap<&str, usize> = BTreeMap::new();
    for (label, (_, candidate)) in best {
        let of_product = added.entry(product_of(label)).or_default();
        if *of_product >= count {
            continue;
        }
        *of_product += 1;
        let mut parts = InlineTable::new();
        for (modality, path) in &candidate.item.parts {
            let file = file_of(draft, manifest, label, modality, path);
            let content = bounded::read(path, Limits::default().max_bytes);
            let content = content.map_err(|source| DraftError::Io { path: path.clone(), source })?;
            draft.insert(&file, content);
            parts.insert(modality, Value::from(file));
        }
        let outcome = decided(manifest, &task.name, &Scope::default(), candidate.seen)?;
        let mut table = Table::new();
        table.insert("parts", value(parts));
        table.insert("task", value(task.name.as_str()));
        write(&mut table, manifest, task, &outcome);
        decisions(draft)?.push(table);
    }
    Ok(added.values().sum())
}

/// The labels that may be the answer.
fn scope_of(golden: &GoldenDecision) -> Scope {
    Scope::of(golden.labels.iter().cloned())
}

fn decided(
    manifest: &Arc<Manifest>,
    task: &str,
    scope: &Scope,
    seen: &Seen,
) -> Result<Outcome, CertifyError> {
    let risk = manifest.offload.default_risk;
    let outcome = replay::decide(manifest, task, scope, risk, Who::Device, seen);
    outcome.map_err(|error| CertifyError::Undecided(error.to_string()))
}

/// The golden decisions of a manifest, to be changed.
fn decisions(draft: &mut Draft) -> Result<&mut ArrayOfTables, DraftError> {
    let golden = draft.manifest.get_mut("golden").and_then(Item::as_table_mut);
    let golden = golden.ok_or_else(|| DraftError::key("golden", "is missing"))?;
    let list = golden.entry("decisions").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    list.as_array_of_tables_mut()
        .ok_or_else(|| DraftError::key("golden.decisions", "is not a list of tables (`[[…]]`)"))
}

fn write(table: &mut Table, manifest: &Manifest, task: &Task, outcome: &Outcome) {
    let verdict = outcome.mixed.verdict;
    let rounded = |number: f64| value((number * DIGITS).round() / DIGITS);
    let mut carried: Vec<(f64, &str)> = (outcome.mixed.weights.iter().zip(&outcome.answers))
        .filter(|(weight, _)| **weight > 0.0)
        .map(|(weight, weighed)| (*weight, manifest.experts[weighed.answer.expert].name.as_str()))
        .collect();
    carried.sort_by(|a, b| b.0.total_cmp(&a.0));
    replace(table, "label", value(task.labels[verdict].as_str()));
    replace(table, "probability", rounded(outcome.mixed.probabilities[verdict]));
    replace(table, "risk", rounded(outcome.why.local_risk.unwrap_or(1.0)));
    replace(table, "experts", value(carried.into_iter().map(|(_, name)| name).collect::<toml_edit::Array>()));
}

/// A place in the bundle for one part of a golden sample: `golden/<product>-<class>.png`, `….template.png`.
fn file_of(draft: &Draft, manifest: &Manifest, label: &str, modality: &str, path: &Path) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let name: String = label.chars().map(plain).collect();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("bin").to_lowercase();
    let is_main = manifest.main_modality().is_some_and(|main| main.name == modality);
    let middle = if is_main { String::new() } else { format!(".{modality}") };
    let mut file = format!("golden/{name}{middle}.{ending}");
    let mut number = 1;
    while draft.files.contains_key(&file) {
        number += 1;
        file = format!("golden/{name}-{number}{middle}.{ending}");
    }
    file
}
