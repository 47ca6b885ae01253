//! What may leave the device, and which experts of the pool are then left to ask.

use millgate_shared::bundle::manifest::{Manifest, Tier};
use millgate_shared::index::ExpertIx;

use crate::config::EdgeConfig;
use crate::finding::Item;
use crate::uplink::upload::UploadPolicy;

pub(super) fn check(manifest: &Manifest, config: &EdgeConfig) -> Item {
    let policy = match UploadPolicy::new(&config.offload.send, manifest) {
        Ok(policy) => policy,
        Err(modality) => {
            let known: Vec<&str> =
                manifest.modalities.iter().map(|modality| modality.name.as_str()).collect();
            let message = format!("`offload.send.modality.{modality}`: is not a modality of this bundle");
            return Item::failed("send", message, format!("it has {}", known.join(", ")));
        }
    };
    let forms = manifest.modalities.pairs();
    let forms = forms.map(|(index, modality)| format!("{} {}", modality.name, policy.form(index).as_str()));
    let forms = forms.collect::<Vec<_>>().join(", ");
    let cloud = manifest.experts.indices().filter(|expert| manifest.experts[*expert].tier == Tier::Cloud);
    let (withheld, asked): (Vec<ExpertIx>, Vec<ExpertIx>) =
        cloud.partition(|expert| policy.withheld(manifest, *expert).is_some());
    if withheld.is_empty() {
        return Item::ok("send", forms);
    }
    let names = |experts: &[ExpertIx]| {
        let names = experts.iter().map(|expert| manifest.experts[*expert].name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let message = match asked.is_empty() {
        true => format!("{forms}: no expert of the pool takes features, so that none is ever asked"),
        false => format!("{forms}: {} are never asked, {} are", names(&withheld), names(&asked)),
    };
    let advice = "if that is not meant, set `offload.send` to raw or tensor; see docs/bytes.md";
    Item::warning("send", message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;

    #[test]
    fn whoever_is_never_asked_is_named() {
        let text = std::fs::read_to_string("../models/factory/bundle.toml").unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        let item = |send: &str| {
            let config = EdgeConfig::parse("edge.toml", &format!("[offload.send]\n{send}")).unwrap();
            check(&manifest, &config)
        };
        let usual = item("");
        assert_eq!((usual.status, &*usual.message), (Status::Ok, "image raw, template raw"));
        let none = item("default = \"features\"");
        assert_eq!(none.status, Status::Warning);
        assert!(none.message.contains("none is ever asked"), "{}", none.message);
        let some = item("modality = { template = \"features\" }");
        assert!(some.message.contains("pcb-l are never asked"), "{}", some.message);
        let unknown = item("modality = { sound = \"raw\" }");
        assert_eq!(unknown.status, Status::Failed);
        assert!(unknown.message.contains("`offload.send.modality.sound`"), "{}", unknown.message);
    }
}
