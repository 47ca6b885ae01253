//! What experts answered on labelled samples, as competence is fitted on it.

use millgate_model::competence::Answer as Given;
use millgate_model::manifest::{Competence, Manifest, Task};
use millgate_sample::index::{By, ExpertIx, Ix, ModalityIx};

use super::competence::{self, Answer};
use crate::features::{Seen, is_eligible};

/// Answers by expert, each with the place of its sample.
#[derive(Debug)]
pub struct Answers {
    by_expert: By<ExpertIx, Vec<(usize, Answer)>>,
}

impl Answers {
    /// Collects what the experts of a task made of samples, the label of each given. A sample with more than the first
    /// modality counts half, and once more by half as if that were all: both come to a line.
    pub fn of(manifest: &Manifest, task: &Task, samples: &[(&Seen, &str)]) -> Self {
        let mut by_expert: By<ExpertIx, Vec<(usize, Answer)>> = manifest.experts.map(|_| Vec::new());
        for (at, (seen, label)) in samples.iter().enumerate() {
            let mut add = |presence: &By<ModalityIx, bool>, scores: &By<ExpertIx, f64>, weight: f64| {
                let shares = shares(manifest, task, presence, scores);
                for expert in manifest.experts.indices() {
                    let answer =
                        shares[expert].and_then(|share| answer(manifest, expert, seen, label, share));
                    by_expert[expert].extend(answer.map(|answer| (at, Answer { weight, ..answer })));
                }
            };
            match &seen.scores_alone {
                None => add(&seen.presence, &seen.scores, 1.0),
                Some(alone) => {
                    add(&seen.presence, &seen.scores, 0.5);
                    let first = By::from_fn(seen.presence.len(), |modality: ModalityIx| modality.at() == 0);
                    add(&first, alone, 0.5);
                }
            }
        }
        Self { by_expert }
    }

    /// Fits an expert's competence on those samples alone, its weight of the gate being held if one is given; `None`: it
    /// answered none of them.
    pub fn fit(
        &self,
        expert: ExpertIx,
        gate: Option<f64>,
        is_in: impl Fn(usize) -> bool,
    ) -> Option<Competence> {
        let own = self.by_expert[expert].iter().filter(|(at, _)| is_in(*at));
        let own: Vec<Answer> = own.map(|(_, answer)| *answer).collect();
        (!own.is_empty()).then(|| competence::fit(&own, gate))
    }
}

fn answer(manifest: &Manifest, expert: ExpertIx, seen: &Seen, label: &str, share: f64) -> Option<Answer> {
    let labels = &manifest.experts[expert].labels;
    let logits = &seen.experts[expert].as_ref()?.logits;
    let given = Given::from_logits(expert, labels.len(), logits).ok()?;
    Some(Answer {
        confidence: given.confidence(),
        share,
        is_right: labels[given.top()] == label,
        weight: 1.0,
    })
}

/// The share of each expert that answers the task and has what it needs: the softmax of the gate's logits over them.
fn shares(
    manifest: &Manifest,
    task: &Task,
    presence: &By<ModalityIx, bool>,
    scores: &By<ExpertIx, f64>,
) -> By<ExpertIx, Option<f64>> {
    let is_asked = |expert: &ExpertIx| {
        manifest.experts[*expert].tasks.contains(&task.name) && is_eligible(manifest, *expert, presence)
    };
    let asked: Vec<ExpertIx> = manifest.experts.indices().filter(is_asked).collect();
    let highest = asked.iter().map(|expert| scores[*expert]).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = asked.iter().map(|expert| (scores[*expert] - highest).exp()).sum();
    By::from_fn(manifest.experts.len(), |expert: ExpertIx| {
        asked.contains(&expert).then(|| (scores[expert] - highest).exp() / sum)
    })
}
