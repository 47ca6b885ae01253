//! From the gate's scores to the experts that may answer, in order. Pure.
//!
//! The price of an expert decides who is asked, never how much an answer weighs: shares are taken from the raw scores.
//! Neither order nor shares depend on whether an expert can be reached: an outage takes answers away, but changes neither
//! who was wanted nor what the answers that are left are worth, so that certified thresholds hold through it. An expert
//! that policy keeps from a sample is not wanted, but keeps its share for the same reason.

use millgate_sample::index::{By, ExpertIx, ModalityIx};

use crate::competence::softmax;
use crate::decision::Missing;
use crate::manifest::{Expert, Manifest, Task, Tier};
use crate::scope::Scope;

/// Where an expert can be run from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Local,
    /// In the pool, which can be asked.
    Remote,
    /// Nowhere at the moment.
    Absent(Missing),
    /// In the pool, but of the modality with this index it needs what the operator lets nobody have.
    Withheld(ModalityIx),
}

/// Experts of tier `edge` here, those of tier `cloud` at `cloud`.
pub fn tier_places(manifest: &Manifest, cloud: Place) -> By<ExpertIx, Place> {
    manifest.experts.map(|expert| match expert.tier {
        Tier::Edge => Place::Local,
        Tier::Cloud => cloud,
    })
}

/// Why an expert cannot be picked for a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// The expert does not answer this task.
    Task,
    /// None of the expert's labels may be the answer.
    Scope,
    /// The expert needs a modality that the sample lacks.
    Modality(String),
    /// The expert needs the pixels of a modality of which only features may leave the device.
    Policy(String),
}

impl std::fmt::Display for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task => write!(f, "does not answer this task"),
            Self::Scope => write!(f, "has none of the labels that may be the answer"),
            Self::Modality(name) => write!(f, "needs `{name}`"),
            Self::Policy(name) => write!(f, "policy: only features of `{name}` leave the device"),
        }
    }
}

/// The experts of a bundle as one sample sees them, by index in the manifest.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// The gate's logits.
    pub scores: By<ExpertIx, f64>,
    /// Softmax of the scores over the experts that the sample itself does not mask; 0 for the others.
    pub shares: By<ExpertIx, f64>,
    pub prices: By<ExpertIx, f64>,
    pub masks: By<ExpertIx, Option<Mask>>,
    pub places: By<ExpertIx, Place>,
    /// Indices of the eligible experts, best first; ties in manifest order.
    order: Vec<ExpertIx>,
}

impl Ranking {
    /// What a sample that has the modalities of `presence`, and whose labels may be those of `scope`, makes of the gate's
    /// `scores`.
    pub fn new(
        manifest: &Manifest,
        task: &Task,
        scope: &Scope,
        presence: &By<ModalityIx, bool>,
        scores: By<ExpertIx, f64>,
        places: By<ExpertIx, Place>,
    ) -> Self {
        let prices = manifest.experts.map(|expert| expert.price);
        let mut masks: By<ExpertIx, Option<Mask>> =
            manifest.experts.map(|expert| mask(manifest, task, scope, presence, expert));
        let eligible: Vec<f64> = scores
            .iter()
            .zip(&masks)
            .map(|(score, mask)| if mask.is_none() { *score } else { f64::NEG_INFINITY })
            .collect();
        let shares = if masks.iter().all(Option::is_some) {
            By::filled(scores.len(), 0.0)
        } else {
            softmax(&eligible).into()
        };
        for (mask, place) in masks.iter_mut().zip(&places).filter(|(mask, _)| mask.is_none()) {
            if let Place::Withheld(modality) = place {
                *mask =
                    manifest.modalities.get(*modality).map(|modality| Mask::Policy(modality.name.clone()));
            }
        }
        let mut order: Vec<ExpertIx> = scores.indices().filter(|index| masks[*index].is_none()).collect();
        // A stable sort, so that ties stay in the manifest's order.
        order.sort_by(|a, b| (scores[*b] - prices[*b]).total_cmp(&(scores[*a] - prices[*a])));
        Self { scores, shares, prices, masks, places, order }
    }

    /// The eligible experts, best first.
    pub fn order(&self) -> &[ExpertIx] {
        &self.order
    }

    /// The `k` best.
    pub fn top(&self, k: usize) -> &[ExpertIx] {
        &self.order[..k.min(self.order.len())]
    }

    pub fn is_local(&self, expert: ExpertIx) -> bool {
        self.places[expert] == Place::Local
    }
}

fn mask(
    manifest: &Manifest,
    task: &Task,
    scope: &Scope,
    presence: &By<ModalityIx, bool>,
    expert: &Expert,
) -> Option<Mask> {
    if !expert.tasks.contains(&task.name) {
        return Some(Mask::Task);
    }
    if !scope.allows_expert(expert) {
        return Some(Mask::Scope);
    }
    let absent = |name: &str| manifest.modality_index(name).is_none_or(|at| presence.get(at) != Some(&true));
    let missing = expert.inputs.iter().find(|input| absent(&input.modality))?;
    Some(Mask::Modality(missing.modality.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;
    use millgate_sample::index::{Ix, TaskIx};

    fn ranking(presence: &[bool; 2], scores: &[f64; 3], places: &[Place; 3]) -> Ranking {
        let manifest = manifest();
        let presence = By::from(*presence);
        let task = &manifest.tasks[TaskIx::new(0)];
        Ranking::new(&manifest, task, &Scope::default(), &presence, (*scores).into(), (*places).into())
    }

    fn order(ranking: &Ranking) -> Vec<usize> {
        ranking.order().iter().map(|expert| expert.at()).collect()
    }

    const UP: [Place; 3] = [Place::Local, Place::Local, Place::Remote];
    const DOWN: [Place; 3] = [Place::Local, Place::Local, Place::Absent(Missing::Offline)];

    #[test]
    fn experts_are_ranked_by_score_less_price() {
        // The third costs 0.5.
        assert_eq!(order(&ranking(&[true, true], &[1.0, 0.0, 1.4], &UP)), [0, 2, 1]);
        assert_eq!(order(&ranking(&[true, true], &[1.0, 0.0, 1.6], &UP)), [2, 0, 1]);
    }

    #[test]
    fn ties_go_to_the_manifests_order() {
        assert_eq!(order(&ranking(&[true, true], &[1.0, 1.0, 1.5], &UP)), [0, 1, 2]);
    }

    #[test]
    fn an_absent_modality_masks_and_takes_no_share() {
        let ranking = ranking(&[true, false], &[5.0, 0.0, 5.0], &UP);
        assert_eq!(order(&ranking), [1]);
        assert_eq!(ranking.masks[ExpertIx::new(0)], Some(Mask::Modality("template".to_owned())));
        assert_eq!(ranking.shares, By::from([0.0, 1.0, 0.0]));
    }

    #[test]
    fn an_outage_changes_neither_order_nor_shares() {
        let up = ranking(&[true, true], &[1.0, 0.0, 2.0], &UP);
        let down = ranking(&[true, true], &[1.0, 0.0, 2.0], &DOWN);
        assert_eq!(up.shares, down.shares);
        assert_eq!(up.order(), down.order());
    }

    #[test]
    fn what_policy_withholds_is_masked_and_changes_no_share() {
        let up = ranking(&[true, true], &[1.0, 0.0, 2.0], &UP);
        let withheld = [Place::Local, Place::Local, Place::Withheld(ModalityIx::new(0))];
        let kept = ranking(&[true, true], &[1.0, 0.0, 2.0], &withheld);
        assert_eq!(up.shares, kept.shares);
        assert_eq!(order(&kept), [0, 1]);
        let mask = kept.masks[ExpertIx::new(2)].as_ref().unwrap().to_string();
        assert_eq!(mask, "policy: only features of `image` leave the device");
        let absent = ranking(&[true, false], &[1.0, 0.0, 2.0], &withheld);
        assert_eq!(absent.masks[ExpertIx::new(2)], Some(Mask::Modality("template".to_owned())));
    }

    #[test]
    fn nothing_eligible_gives_no_shares_and_no_nan() {
        let ranking = ranking(&[false, false], &[1.0, 1.0, 1.0], &UP);
        assert!(ranking.order().is_empty());
        assert_eq!(ranking.shares, By::from([0.0; 3]));
    }
}
