//! What is made of verdicts, and what each source looks at, held against the bundle.

use std::collections::{BTreeMap, BTreeSet};

use millgate_shared::bundle::manifest::{Manifest, product_of};
use millgate_shared::deciding::Policy;
use millgate_shared::recipe::Disposition;

use crate::config::EdgeConfig;
use crate::finding::Item;
use crate::wishes::Asked;

/// Looks at `[recipe]` and at what each source says of its samples.
pub(super) fn check(manifest: &Manifest, config: &EdgeConfig) -> Vec<Item> {
    let risk = config.offload.risk.unwrap_or(manifest.offload.default_risk);
    let standard = Policy { risk, ..Policy::for_bundle(manifest) };
    let policies = match config.wishes().policies(&config.task, standard, manifest) {
        Ok(policies) => policies,
        Err(refused) => {
            let labels: BTreeSet<&str> = labels(manifest).collect();
            let known = labels.into_iter().collect::<Vec<_>>().join(", ");
            return vec![Item::failed(
                "recipe",
                refused.to_string(),
                format!("the bundle's labels are {known}"),
            )];
        }
    };
    let mut items = vec![recipe(manifest, policies.standard())];
    let sources = config.sources.iter().map(|source| source.settings().name());
    items.extend(sources.map(|name| source(manifest, name, policies.of(Some(name)))));
    items.extend(unknown(manifest, policies.standard()));
    items
}

/// Which labels are accepted, rejected and reviewed.
fn recipe(manifest: &Manifest, asked: &Asked) -> Item {
    let mut by_disposition: BTreeMap<Disposition, BTreeSet<&str>> = BTreeMap::new();
    for label in labels(manifest) {
        let of_bundle = manifest.recipe(product_of(label));
        let recipe = match &asked.policy.recipe {
            Some(recipe) => recipe.over(of_bundle),
            None => of_bundle,
        };
        if !recipe.is_empty() {
            by_disposition.entry(recipe.of_label(label)).or_default().insert(label);
        }
    }
    if by_disposition.is_empty() {
        return Item::ok("recipe", "none: decisions have no disposition but for what is unknown");
    }
    let each = by_disposition.into_iter().map(|(disposition, labels)| {
        format!("{}: {}", disposition.as_str(), labels.into_iter().collect::<Vec<_>>().join(", "))
    });
    let mut said: Vec<String> = each.collect();
    if let Some(share) = asked.policy.false_alarms {
        said.push(format!("at most {share} of known samples are called unknown"));
    }
    Item::ok("recipe", said.join("; "))
}

/// Names the products of which a sample can be called unknown, and by how many known ones; `None` where the bundle knows nothing of products.
fn unknown(manifest: &Manifest, asked: &Asked) -> Option<Item> {
    let (mut told, mut never) = (Vec::new(), Vec::new());
    for product in &manifest.products {
        let name = &product.name;
        let bounds: Vec<String> = product
            .checks
            .iter()
            .map(|bounds| format!("bounds of `{}` from {} pictures", bounds.modality, bounds.samples))
            .collect();
        let bounds = if bounds.is_empty() { "no bounds of pictures".to_owned() } else { bounds.join(", ") };
        let Some(bank) = &product.novelty else {
            told.push(format!("{name}: no known samples, {bounds}"));
            continue;
        };
        let share = asked.policy.false_alarms.unwrap_or(bank.false_alarms);
        let least = bank.detectors.len() as f64 / (bank.calibration_samples + 1) as f64;
        told.push(format!(
            "{name}: {} calibration samples, at most {share} of known ones called so, least p {least:.4}, {bounds}",
            bank.calibration_samples
        ));
        if share > 0.0 && least > share {
            never.push(name.as_str());
        }
    }
    if told.is_empty() {
        return None;
    }
    Some(match never.is_empty() {
        true => Item::ok("unknown", told.join("; ")),
        false => Item::warning(
            "unknown",
            told.join("; "),
            format!(
                "no sample of {} can ever be called unknown: the least p is over what is allowed; allow more \
                 (`recipe.false_alarms`), or calibrate the bundle with more samples",
                never.join(", ")
            ),
        ),
    })
}

/// What a source looks at, and what is certified for that.
fn source(manifest: &Manifest, name: &str, asked: &Asked) -> Item {
    let Asked { task, policy, attributes, stuck_after } = asked;
    let (scope, risk) = (&policy.scope, policy.risk);
    let name = format!("source {name}");
    let looks: Vec<String> = attributes.iter().map(|(name, value)| format!(", {name} {value}")).collect();
    let stuck = match stuck_after {
        0 => String::new(),
        times => format!(", stuck after {times} equal pictures"),
    };
    let what = format!("task {task}, {scope} may be the answer, risk {risk}{}{stuck}", looks.concat());
    let Some(spec) = manifest.task(task) else { return Item::ok(name, what) };
    if scope.is_whole(spec) {
        return Item::ok(name, what);
    }
    let advice = "name whole products that the bundle has a certificate for, or leave `labels` out";
    match scope.product(spec) {
        Some(product) => match manifest.certified(product, risk, true) {
            Some(certified) => {
                Item::ok(name, format!("{what}, certified for {product} at {}", certified.risk))
            }
            None => {
                let none =
                    format!("{what}: none is certified for {product} alone, so its samples ask the pool");
                Item::warning(name, none, advice)
            }
        },
        None => {
            let none =
                format!("{what}: no certificate holds for part of the labels, so its samples ask the pool");
            Item::warning(name, none, advice)
        }
    }
}

fn labels(manifest: &Manifest) -> impl Iterator<Item = &str> {
    manifest.tasks.iter().flat_map(|task| &task.labels).map(|label| &**label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;

    fn checked(text: &str) -> Vec<Item> {
        let bundle = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        check(&Manifest::parse(&bundle).unwrap(), &EdgeConfig::parse("edge.toml", text).unwrap())
    }

    fn source(more: &str) -> String {
        format!("[[sources]]\ntype = \"folder\"\nname = \"cam1\"\npath = \"in\"\n{more}")
    }

    #[test]
    fn what_is_done_with_each_label_is_shown() {
        let text = "[recipe]\nfalse_alarms = 0.05\n[recipe.labels]\n\"deeppcb/normal\" = \"accept\"\n\"deeppcb/open\" = \"reject\"";
        let [recipe, _] = &checked(text)[..] else { panic!("not two") };
        let said: Vec<&str> = recipe.message.split("; ").collect();
        let of = |disposition: &str| said.iter().find(|words| words.starts_with(disposition)).unwrap();
        assert!(of("accept: ").contains("deeppcb/normal"), "{recipe:?}");
        assert!(of("reject: ").contains("deeppcb/open"), "{recipe:?}");
        assert!(said.contains(&"at most 0.05 of known samples are called unknown"), "{recipe:?}");
    }

    #[test]
    fn what_a_source_looks_at_is_shown() {
        let items = checked(&source("risk = 0.01"));
        assert_eq!((&*items[1].name, items[1].status), ("source cam1", Status::Ok));
        assert!(items[1].message.contains("all labels may be the answer, risk 0.01"), "{items:?}");
        let items = checked(&source("labels = [\"deeppcb/open\"]"));
        assert_eq!(items[1].status, Status::Warning);
        assert!(items[1].message.contains("no certificate holds for part of the labels"), "{items:?}");
    }

    #[test]
    fn what_can_be_called_unknown_is_shown() {
        let items = checked("");
        let unknown = items.last().unwrap();
        assert_eq!((&*unknown.name, unknown.status), ("unknown", Status::Ok));
        assert!(unknown.message.contains("at most 0.02 of known ones called so, least p 0.0"), "{unknown:?}");
        assert!(unknown.message.contains("bounds of `image` from "), "{unknown:?}");
        let items = checked("[recipe]\nfalse_alarms = 0.00001");
        let unknown = items.last().unwrap();
        assert_eq!(unknown.status, Status::Warning);
        assert!(unknown.advice.as_ref().unwrap().contains("can ever be called unknown"), "{unknown:?}");
    }

    #[test]
    fn a_label_that_the_bundle_does_not_have_fails() {
        let items = checked(&source("labels = [\"magtile\"]"));
        assert_eq!((items.len(), items[0].status), (1, Status::Failed));
        assert!(items[0].message.starts_with("`sources[0].labels`: `magtile` is neither"), "{items:?}");
        assert!(items[0].advice.as_ref().unwrap().contains("deeppcb/normal"));
        let items = checked("[recipe.labels]\n\"deeppcb/opne\" = \"accept\"");
        assert!(items[0].message.contains("recipe.labels.\"deeppcb/opne\""), "{items:?}");
    }
}
