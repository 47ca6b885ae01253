//! The bundle: its files, its models, its golden samples.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::{Bundle, BundleError, golden};
use millgate_shared::deciding::Mode;
use millgate_shared::runner::{Holding, Models};

use super::{Item, send};
use crate::config::EdgeConfig;

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
        items.extend(names(&bundle, config));
        items.push(send::check(bundle.manifest(), config));
    }
    items.push(golden(&bundle));
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
    let risk = config.offload.risk?;
    let is_certified =
        manifest.offload.thresholds.iter().any(|threshold| (threshold.risk - risk).abs() < 1e-12);
    (!is_certified).then(|| {
        let mut risks: Vec<f64> =
            manifest.offload.thresholds.iter().map(|threshold| threshold.risk).collect();
        risks.sort_by(f64::total_cmp);
        risks.dedup();
        let risks: Vec<String> = risks.iter().map(ToString::to_string).collect();
        let message =
            format!("`offload.risk`: no product has a threshold certified for {risk}; all ask the pool");
        Item::warning("bundle", message, format!("certified are {}", risks.join(", ")))
    })
}

fn golden(bundle: &Bundle) -> Item {
    let started = Instant::now();
    let models = match Models::load(bundle, Holding::Edge) {
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
