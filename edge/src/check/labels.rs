//! What the labels and audits of the device say: whether what was certified still holds.

use std::path::Path;

use crate::drift::Kind;
use crate::finding::Item;
use crate::labels::state;

pub(super) fn check(state_dir: &Path) -> Vec<Item> {
    let name = |kind: Kind| match kind {
        Kind::Error => "errors",
        Kind::Novelty => "drift",
    };
    let state = match state::read(state_dir) {
        Ok(state) => state.unwrap_or_default(),
        // Whether the folder can be read is another check's.
        Err(_) => return Vec::new(),
    };
    let item = |standing: state::Standing| {
        let (name, message) = (name(standing.kind), standing.to_string());
        let advice = match (standing.is_alarmed, standing.kind) {
            (false, _) => return Item::ok(name, message),
            (true, Kind::Error) => {
                "label what is open (`millgate-edge label list --open`), export it, and certify or improve the bundle; then \
                 `millgate-edge label reset`"
            }
            (true, Kind::Novelty) => {
                "look at the camera, its light and the parts; if they are as they should be, improve the bundle with labelled \
                 samples; then `millgate-edge label reset`"
            }
        };
        Item::warning(name, message, advice)
    };
    state.streams.into_iter().map(item).collect()
}
