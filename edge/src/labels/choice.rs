//! What is kept of which decision. Pure: the same decision is treated the same way by every run.

use std::collections::BTreeSet;

use millgate_shared::decision::{Decision, State, UNKNOWN};
use millgate_shared::part::{FILE, Part};
use millgate_shared::recipe::Disposition;
use sha2::{Digest, Sha256};

use super::kept::Class;

/// What is kept, and which decisions are drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Law {
    /// Share of all decisions that are drawn.
    pub(crate) share: f64,
    /// Whether pictures are kept at all.
    pub(crate) has_pictures: bool,
    /// Whether raw data may be kept of modalities that are not named here.
    pub(crate) keeps_others: bool,
    /// Whether raw data of each of these may be kept.
    pub(crate) named: Vec<(String, bool)>,
}

impl Law {
    /// Whether a decision is drawn, by its id.
    pub(crate) fn is_drawn(&self, id: &str) -> bool {
        draw(id) < self.share
    }

    /// In which class the pictures of a decision are kept; `None`: they are not.
    pub(crate) fn class(&self, decision: &Decision) -> Option<Class> {
        if !self.has_pictures {
            return None;
        }
        if is_doubtful(decision) {
            return Some(Class::Doubt);
        }
        self.is_drawn(&decision.id).then_some(Class::Sample)
    }

    /// The parts that may be kept: files, of modalities whose raw data the policy lets be used. Each modality once.
    pub(crate) fn kept_of(&self, parts: &[Part]) -> Vec<Part> {
        let mut seen = BTreeSet::new();
        let is_kept = |part: &&Part| {
            let named = self.named.iter().find(|(name, _)| *name == part.modality);
            let may = named.map_or(self.keeps_others, |(_, may)| *may);
            may && part.codec == FILE && seen.insert(part.modality.clone())
        };
        parts.iter().filter(is_kept).cloned().collect()
    }
}

/// A number from 0 to 1 that depends on the id alone, and is independent of everything that is decided.
pub(crate) fn draw(id: &str) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(b"millgate audit ");
    hasher.update(id.as_bytes());
    let digest = hasher.finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number as f64 / 2.0_f64.powi(64)
}

/// Whether somebody should have a look at it.
fn is_doubtful(decision: &Decision) -> bool {
    decision.verdict.label == UNKNOWN
        || decision.state == State::Provisional
        || matches!(decision.disposition, Some(Disposition::Review | Disposition::Reject))
}

/// Whether it was answered here alone, and the certificate of the bundle speaks for it.
pub(crate) fn is_local(decision: &Decision) -> bool {
    decision.state == State::Final
        && decision.why.threshold.is_some()
        && decision.verdict.label != UNKNOWN
        && decision.experts.iter().all(|expert| expert.place == "edge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawn_are_as_many_as_asked_and_always_the_same() {
        let drawn = (0..20_000).filter(|number| draw(&format!("id-{number}")) < 0.01).count();
        assert!((140..=260).contains(&drawn), "{drawn}");
        assert_eq!(draw("id-7"), draw("id-7"));
        assert!((0.0..1.0).contains(&draw("")));
    }

    #[test]
    fn only_files_of_modalities_that_may_be_kept_are() {
        let law = Law {
            share: 0.0,
            has_pictures: true,
            keeps_others: true,
            named: vec![("face".to_owned(), false)],
        };
        let mut tensor = Part::file("series", vec![1]);
        tensor.codec = "tensor".into();
        let parts =
            [Part::file("image", vec![1]), Part::file("image", vec![2]), Part::file("face", vec![3]), tensor];
        assert_eq!(law.kept_of(&parts), [Part::file("image", vec![1])]);
        let law = Law { keeps_others: false, named: vec![("face".to_owned(), true)], ..law };
        assert_eq!(law.kept_of(&parts), [Part::file("face", vec![3])]);
    }
}
