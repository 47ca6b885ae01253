//! From the gate's scores to the experts that may answer, in order. Pure.
//!
//! The price of an expert decides who is asked, never how much an answer weighs: shares are taken from the raw scores.
//! Neither order nor shares depend on whether an expert can be reached: an outage takes answers away, but changes neither
//! who was wanted nor what the answers that are left are worth, so that certified thresholds hold through it. An expert
//! that policy keeps from a sample is not wanted, but keeps its share for the same reason.

use crate::bundle::manifest::{Manifest, Task};
use crate::competence::softmax;
use crate::decision::Missing;

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
    Withheld(usize),
}

/// Why an expert cannot be picked for a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// It does not answer this task.
    Task,
    /// It needs a modality that the sample lacks.
    Modality(String),
    /// It needs the pixels of a modality of which only features may leave the device.
    Policy(String),
}

impl std::fmt::Display for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task => write!(f, "does not answer this task"),
            Self::Modality(name) => write!(f, "needs `{name}`"),
            Self::Policy(name) => write!(f, "policy: only features of `{name}` leave the device"),
        }
    }
}

/// The experts of a bundle as one sample sees them, by index in the manifest.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// The gate's logits.
    pub scores: Vec<f64>,
    /// Softmax of the scores over the experts that the sample itself does not mask; 0 for the others.
    pub shares: Vec<f64>,
    pub prices: Vec<f64>,
    pub masks: Vec<Option<Mask>>,
    pub places: Vec<Place>,
    /// Indices of the eligible experts, best first; ties in manifest order.
    order: Vec<usize>,
}

impl Ranking {
    /// `scores`, `prices` and `places` by expert index; `presence` by modality index.
    pub fn new(
        manifest: &Manifest,
        task: &Task,
        presence: &[bool],
        scores: Vec<f64>,
        prices: Vec<f64>,
        places: Vec<Place>,
    ) -> Self {
        let mut masks: Vec<Option<Mask>> =
            (0..manifest.experts.len()).map(|index| mask(manifest, task, presence, index)).collect();
        let eligible: Vec<f64> = scores
            .iter()
            .zip(&masks)
            .map(|(score, mask)| if mask.is_none() { *score } else { f64::NEG_INFINITY })
            .collect();
        let shares =
            if masks.iter().all(Option::is_some) { vec![0.0; scores.len()] } else { softmax(&eligible) };
        for (mask, place) in masks.iter_mut().zip(&places).filter(|(mask, _)| mask.is_none()) {
            if let Place::Withheld(modality) = place {
                *mask =
                    manifest.modalities.get(*modality).map(|modality| Mask::Policy(modality.name.clone()));
            }
        }
        let mut order: Vec<usize> = (0..scores.len()).filter(|index| masks[*index].is_none()).collect();
        // A stable sort, so that ties stay in the manifest's order.
        order.sort_by(|a, b| (scores[*b] - prices[*b]).total_cmp(&(scores[*a] - prices[*a])));
        Self { scores, shares, prices, masks, places, order }
    }

    /// The eligible experts, best first.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The `k` best.
    pub fn top(&self, k: usize) -> &[usize] {
        &self.order[..k.min(self.order.len())]
    }

    pub fn is_local(&self, expert: usize) -> bool {
        self.places[expert] == Place::Local
    }
}

fn mask(manifest: &Manifest, task: &Task, presence: &[bool], index: usize) -> Option<Mask> {
    let expert = &manifest.experts[index];
    if !expert.tasks.contains(&task.name) {
        return Some(Mask::Task);
    }
    let absent = |name: &str| manifest.modality_index(name).is_none_or(|at| presence.get(at) != Some(&true));
    let missing = expert.inputs.iter().find(|input| absent(&input.modality))?;
    Some(Mask::Modality(missing.modality.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::manifest::tests::manifest;

    fn ranking(presence: &[bool], scores: &[f64], places: &[Place]) -> Ranking {
        let manifest = manifest();
        let prices = manifest.experts.iter().map(|expert| expert.price).collect();
        Ranking::new(&manifest, &manifest.tasks[0], presence, scores.to_vec(), prices, places.to_vec())
    }

    const UP: [Place; 3] = [Place::Local, Place::Local, Place::Remote];
    const DOWN: [Place; 3] = [Place::Local, Place::Local, Place::Absent(Missing::Offline)];

    #[test]
    fn experts_are_ranked_by_score_less_price() {
        // The third costs 0.5.
        assert_eq!(ranking(&[true, true], &[1.0, 0.0, 1.4], &UP).order(), [0, 2, 1]);
        assert_eq!(ranking(&[true, true], &[1.0, 0.0, 1.6], &UP).order(), [2, 0, 1]);
    }

    #[test]
    fn ties_go_to_the_manifests_order() {
        assert_eq!(ranking(&[true, true], &[1.0, 1.0, 1.5], &UP).order(), [0, 1, 2]);
    }

    #[test]
    fn an_absent_modality_masks_and_takes_no_share() {
        let ranking = ranking(&[true, false], &[5.0, 0.0, 5.0], &UP);
        assert_eq!(ranking.order(), [1]);
        assert_eq!(ranking.masks[0], Some(Mask::Modality("template".to_owned())));
        assert_eq!(ranking.shares, [0.0, 1.0, 0.0]);
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
        let withheld = [Place::Local, Place::Local, Place::Withheld(0)];
        let kept = ranking(&[true, true], &[1.0, 0.0, 2.0], &withheld);
        assert_eq!(up.shares, kept.shares);
        assert_eq!(kept.order(), [0, 1]);
        let mask = kept.masks[2].as_ref().unwrap().to_string();
        assert_eq!(mask, "policy: only features of `image` leave the device");
        let absent = ranking(&[true, false], &[1.0, 0.0, 2.0], &withheld);
        assert_eq!(absent.masks[2], Some(Mask::Modality("template".to_owned())));
    }

    #[test]
    fn nothing_eligible_gives_no_shares_and_no_nan() {
        let ranking = ranking(&[false, false], &[1.0, 1.0, 1.0], &UP);
        assert!(ranking.order().is_empty());
        assert_eq!(ranking.shares, [0.0; 3]);
    }
}
