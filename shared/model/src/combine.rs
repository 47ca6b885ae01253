//! Mixes the answers of the experts by what they are worth.
//!
//! The weight of an answer comes from its competence, not from the gate's preference or the expert's price: averaging a
//! weak expert with a strong one lowers accuracy, so a weight must be earned on the sample at hand. Weights are taken
//! anew over the experts that answered, as hivemind's `RemoteMixtureOfExperts` does.

use millgate_sample::index::{By, ExpertIx};

use crate::competence::{Answer, first_max, logit, softmax};
use crate::manifest::{Combine, Expert, Task};

/// Distance at which competence is kept from 0 and 1, so that no answer has infinite weight.
const FLOOR: f64 = 1e-4;

/// Answer with what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed {
    pub answer: Answer,
    /// Probability that the answer is right.
    pub competence: f64,
}

/// Verdict that the answers come to, with its risk.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// Probability by index of the task's labels; they sum to 1.
    pub probabilities: Vec<f64>,
    /// Index of the verdict among the task's labels.
    pub verdict: usize,
    /// Weight of each answer, in the order given; 0 for a dropped one. They sum to 1.
    pub weights: Vec<f64>,
    /// Risk: 1 − the probability that the verdict is right.
    pub risk: f64,
}

/// Mixes the answers; `None` if there is no answer at all.
pub fn combine(
    rules: &Combine,
    task: &Task,
    experts: &By<ExpertIx, Expert>,
    answers: &[Weighed],
) -> Option<Mixed> {
    if answers.is_empty() {
        return None;
    }
    let weights = weights(rules, answers);
    let mut probabilities = vec![0.0; task.labels.len()];
    let mut tops = Vec::with_capacity(answers.len());
    for (weighed, weight) in answers.iter().zip(&weights) {
        let expert = &experts[weighed.answer.expert];
        for (label, probability) in expert.labels.iter().zip(&weighed.answer.probabilities) {
            if let Some(index) = label_index(task, label) {
                probabilities[index] += weight * probability;
            }
        }
        tops.push(label_index(task, &expert.labels[weighed.answer.top()]));
    }
    let verdict = first_max(&probabilities);
    let right: f64 = answers
        .iter()
        .zip(&weights)
        .zip(&tops)
        .filter(|(_, top)| **top == Some(verdict))
        .map(|((weighed, weight), _)| weight * weighed.competence)
        .sum();
    Some(Mixed { probabilities, verdict, weights, risk: (1.0 - right).clamp(0.0, 1.0) })
}

fn weights(rules: &Combine, answers: &[Weighed]) -> Vec<f64> {
    let logits: Vec<f64> = answers
        .iter()
        .map(|weighed| rules.sharpness * logit(weighed.competence.clamp(FLOOR, 1.0 - FLOOR)))
        .collect();
    let mut weights = softmax(&logits);
    let heaviest = first_max(&weights);
    for (index, weight) in weights.iter_mut().enumerate() {
        if index != heaviest && *weight < rules.drop_below {
            *weight = 0.0;
        }
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

fn label_index(task: &Task, label: &str) -> Option<usize> {
    task.labels.iter().position(|known| known == label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;
    use millgate_sample::index::{Ix, TaskIx};

    fn weighed(expert: usize, probabilities: &[f64], competence: f64) -> Weighed {
        Weighed {
            answer: Answer { expert: ExpertIx::new(expert), probabilities: probabilities.to_vec() },
            competence,
        }
    }

    fn mixed(answers: &[Weighed]) -> Mixed {
        let manifest = manifest();
        combine(&manifest.combine, &manifest.tasks[TaskIx::new(0)], &manifest.experts, answers).unwrap()
    }

    #[test]
    fn one_answer_is_the_answer() {
        let mixed = mixed(&[weighed(0, &[0.2, 0.8], 0.9)]);
        assert_eq!(mixed.probabilities, [0.2, 0.8, 0.0]);
        assert_eq!((mixed.verdict, mixed.weights), (1, vec![1.0]));
        assert!((mixed.risk - 0.1).abs() < 1e-12);
    }

    #[test]
    fn weights_follow_competence_on_the_union_of_labels() {
        // Odds 4 and 2: weights 2/3 and 1/3.
        let mixed = mixed(&[weighed(0, &[0.0, 1.0], 0.8), weighed(1, &[0.0, 0.0, 1.0], 2.0 / 3.0)]);
        assert!((mixed.weights[0] - 2.0 / 3.0).abs() < 1e-9);
        assert!((mixed.probabilities[1] - 2.0 / 3.0).abs() < 1e-9);
        assert!((mixed.probabilities[2] - 1.0 / 3.0).abs() < 1e-9);
        // Only the expert that agrees with the verdict speaks for it.
        assert!((mixed.risk - (1.0 - 0.8 * 2.0 / 3.0)).abs() < 1e-9);
    }

    #[test]
    fn a_light_answer_is_dropped_and_the_rest_renormalised() {
        let mixed = mixed(&[weighed(0, &[0.0, 1.0], 0.95), weighed(1, &[1.0, 0.0, 0.0], 0.5)]);
        assert_eq!(mixed.weights, [1.0, 0.0]);
        assert_eq!(mixed.verdict, 1);
    }

    #[test]
    fn certain_experts_share_the_weight() {
        let mixed = mixed(&[weighed(0, &[1.0, 0.0], 1.0), weighed(2, &[1.0, 0.0], 1.0)]);
        assert_eq!(mixed.weights, [0.5, 0.5]);
        assert_eq!(mixed.risk, 0.0);
    }

    #[test]
    fn ties_go_to_the_tasks_label_order() {
        assert_eq!(mixed(&[weighed(0, &[0.5, 0.5], 0.9)]).verdict, 0);
    }

    #[test]
    fn no_answer_gives_nothing() {
        let manifest = manifest();
        assert_eq!(combine(&manifest.combine, &manifest.tasks[TaskIx::new(0)], &manifest.experts, &[]), None);
    }
}
