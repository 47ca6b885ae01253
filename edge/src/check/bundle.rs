//! The bundle: its files, its models, its golden samples.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::manifest::{Manifest, product_of};
use millgate_shared::bundle::{Bundle, BundleError};
use millgate_shared::deciding::Mode;
use millgate_shared::engine::Engine;
use millgate_shared::proof::golden;
use millgate_shared::runner::{Holding, Models};

use super::{send, wishes};
use crate::config::EdgeConfig;
use crate::engines;
use crate::finding::Item;

/// Gives the bundle if it can be opened.
pub(super) fn check(path: &Path, config: Option<&EdgeConfig>) -> (Option<Arc<Bundle>>, Vec<Item>) {
    let bundle = match Bundle::open(path) {
        Ok(bundle) => Arc::new(bundle),
        Err(error) => {
            let message = format!("{}: {error}", path.display());
            return (None, vec![Item::failed("bundle", message, advice(&error))]);
        }
    };
    let manifest = bundle.manifest();
    let signed = if bundle.is_signed() { "signature present, not verified" } else { "not signed" };
    let (name, version, experts) = (&manifest.name, &manifest.version, manifest.experts.len());
    let text = format!("{name} {version}, {experts} experts, {}, {signed}", bundle.digest());
    let mut items = vec![Item::ok("bundle", text)];
    if let Some(config) = config {
        let unknown = names(&bundle, config);
        match unknown {
            Some(unknown) => items.push(unknown),
            None => items.extend(wishes::check(manifest, config)),
        }
        if config.offload.parsed_mode() == Ok(Mode::Confidence) {
            items.extend(risk(manifest, config.offload.risk.unwrap_or(manifest.offload.default_risk)));
        }
        items.push(send::check(bundle.manifest(), config));
    }
    let engine = config.and_then(|config| config.parsed_engine().ok());
    items.push(golden(&bundle, engine.unwrap_or_else(engines::usual)));
    (Some(bundle), items)
}

/// Names in the configuration that the bundle must know.
fn names(bundle: &Bundle, config: &EdgeConfig) -> Option<Item> {
    let manifest = bundle.manifest();
    if manifest.task(&config.task).is_none() {
        let tasks: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
        let message = format!("`task`: `{}` is not a task of this bundle", config.task);
        return Some(Item::failed("bundle", message, format!("it has {}", tasks.join(", "))));
    }
    if let Ok(Mode::Pinned(names)) = config.offload.parsed_mode()
        && let Some(unknown) = names.iter().find(|name| manifest.expert_index(name).is_none())
    {
        let experts: Vec<&str> = manifest.experts.iter().map(|expert| expert.name.as_str()).collect();
        let message = format!("`offload.pinned`: `{unknown}` is not an expert of this bundle");
        return Some(Item::failed("bundle", message, format!("it has {}", experts.join(", "))));
    }
    None
}

/// What the accepted risk comes to, product by product.
fn risk(manifest: &Manifest, asked_for: f64) -> Option<Item> {
    let labels = manifest.tasks.iter().flat_map(|task| &task.labels);
    let products: BTreeSet<&str> = labels.map(|label| product_of(label)).collect();
    let (mut stricter, mut none, mut never) = (Vec::new(), Vec::new(), Vec::new());
    for product in products {
        match manifest.certified(product, asked_for, false) {
            Some(certified) if certified.is_for(asked_for) => {}
            Some(certified) => stricter.push(format!("{product} goes by {}", certified.risk)),
            None if manifest.certified(product, 1.0, false).is_some() => none.push(product),
            // No setting helps: the bundle's maker had too few samples.
            None => never.push(product),
        }
    }
    let mut risks: Vec<f64> = manifest.offload.thresholds.iter().map(|threshold| threshold.risk).collect();
    risks.sort_by(f64::total_cmp);
    risks.dedup();
    let risks: Vec<String> = risks.iter().map(ToString::to_string).collect();
    let certified = if risks.is_empty() { "none".to_owned() } else { risks.join(", ") };
    let mut said = Vec::new();
    if !none.is_empty() {
        let none = none.join(", ");
        said.push(format!(
            "no threshold is certified at {asked_for} or below for {none}: they all ask the pool"
        ));
    }
    if !stricter.is_empty() {
        said.push(format!("the next stricter certified one is taken: {}", stricter.join(", ")));
    }
    if !never.is_empty() {
        let never = never.join(", ");
        said.push(format!(
            "the bundle has no certificate for {never}: samples that look like that ask the pool"
        ));
    }
    if said.is_empty() {
        return None;
    }
    let message = format!("`offload.risk` {asked_for}: {}", said.join("; "));
    Some(match none.is_empty() {
        true => Item::ok("risk", message),
        false => Item::warning("risk", message, format!("certified are {certified}")),
    })
}

fn golden(bundle: &Bundle, engine: &dyn Engine) -> Item {
    let started = Instant::now();
    let models = match Models::load(bundle, Holding::Edge, engine) {
        Ok(models) => Arc::new(models),
        Err(error) => return Item::failed("golden samples", error.to_string(), advice(&error)),
    };
    let loaded = started.elapsed();
    let started = Instant::now();
    match golden::check(bundle, &models) {
        Ok(passed) => Item::ok(
            "golden samples",
            format!(
                "{} models loaded in {} ms; {} rows and {} whole decisions as expected, in {} ms",
                passed.models,
                loaded.as_millis(),
                passed.rows,
                passed.decisions,
                started.elapsed().as_millis()
            ),
        ),
        Err(error) => Item::failed("golden samples", error.to_string(), advice(&error)),
    }
}

fn advice(error: &BundleError) -> &'static str {
    match error {
        BundleError::Io { .. } => {
            "set `bundle` to the bundle's directory or .tar.zst, readable by the agent's user"
        }
        BundleError::Manifest(_) | BundleError::Variant { .. } => {
            "the bundle is of another format or was edited: get it again"
        }
        BundleError::MissingFile { .. }
        | BundleError::Digest { .. }
        | BundleError::Unlisted { .. }
        | BundleError::Archive { .. } => "the bundle was altered or is not complete: copy it again",
        BundleError::Model { .. } | BundleError::Golden { .. } => {
            "this engine does not compute what the bundle's maker did: do not use it; report bundle and device"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;

    #[test]
    fn what_a_risk_comes_to_is_said_for_each_product() {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        let certified = risk(&manifest, 0.03).unwrap();
        assert_eq!(certified.status, Status::Ok);
        assert!(certified.message.contains("no certificate for bsdata"), "{certified:?}");
        let between = risk(&manifest, 0.04).unwrap();
        assert_eq!(between.status, Status::Ok);
        for words in ["deeppcb goes by 0.03", "xsdd goes by 0.03"] {
            assert!(between.message.contains(words), "{between:?}");
        }
        let one = risk(&manifest, 0.01).unwrap();
        assert_eq!(one.status, Status::Warning);
        assert!(one.message.contains("at 0.01 or below for xsdd"), "{one:?}");
        let none = risk(&manifest, 0.001).unwrap();
        assert!(none.message.contains("for deeppcb, xsdd: they all ask the pool"), "{none:?}");
        assert!(none.advice.unwrap().contains("0.005, 0.01, 0.02, 0.03, 0.05"));
    }
}
