//! How far an expert is to be trusted on one sample: the calibrated probability that it is right.

use millgate_sample::index::ExpertIx;

use crate::manifest::Competence;

/// Distance at which confidence and gate share are kept from 0 and 1, where their logits are infinite.
const FLOOR: f64 = 1e-6;

/// Answer of one expert: a probability per label that it knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Expert that gave the answer.
    pub expert: ExpertIx,
    /// Probabilities in the order of the expert's labels; they sum to 1.
    pub probabilities: Vec<f64>,
}

/// Reason why logits are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("gave {got} logits for {expected} labels")]
    Length { expected: usize, got: usize },
    #[error("gave a logit that is not finite")]
    NotFinite,
}

impl Answer {
    /// Makes an answer of an expert's logits by softmax; the expert's temperature is in its graph.
    pub fn from_logits(expert: ExpertIx, labels: usize, logits: &[f32]) -> Result<Self, AnswerError> {
        if logits.len() != labels || labels == 0 {
            return Err(AnswerError::Length { expected: labels, got: logits.len() });
        }
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(AnswerError::NotFinite);
        }
        let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        Ok(Self { expert, probabilities: softmax(&logits) })
    }

    /// Leaves only labels that may be the answer, by the order of the expert's labels, and lets their probabilities sum to 1
    /// again. `None` if nothing is left: none may be, or those that may have no probability at all.
    pub fn within(mut self, may_be: impl Fn(usize) -> bool) -> Option<Self> {
        for (at, probability) in self.probabilities.iter_mut().enumerate() {
            if !may_be(at) {
                *probability = 0.0;
            }
        }
        let sum: f64 = self.probabilities.iter().sum();
        if sum.is_nan() || sum <= 0.0 {
            return None;
        }
        self.probabilities.iter_mut().for_each(|probability| *probability /= sum);
        Some(self)
    }

    /// Index of the likeliest among the expert's labels; the first of equals.
    pub fn top(&self) -> usize {
        first_max(&self.probabilities)
    }

    /// Highest probability of the answer.
    pub fn confidence(&self) -> f64 {
        self.probabilities[self.top()]
    }
}

/// Gives the calibrated probability that an answer is right: `sigmoid(bias + confidence·logit(m) + gate·ln g)`, where
/// `m` is the expert's highest probability and `g` its share of the gate's softmax over the eligible experts. The
/// gate's term is what makes a sure expert of another product weigh nothing.
pub fn competence(model: &Competence, confidence: f64, gate_share: f64) -> f64 {
    let confidence = confidence.clamp(FLOOR, 1.0 - FLOOR);
    let gate_share = gate_share.clamp(FLOOR, 1.0);
    sigmoid(model.bias + model.confidence * logit(confidence) + model.gate * gate_share.ln())
}

pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}

pub(crate) fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Finds the index of the highest value; the first of equals.
pub(crate) fn first_max(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use millgate_sample::index::Ix;

    #[test]
    fn logits_become_probabilities() {
        let answer = Answer::from_logits(ExpertIx::new(0), 3, &[0.0, 1.0, -1.0]).unwrap();
        assert!((answer.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(answer.top(), 1);
        assert!((answer.confidence() - 0.665_240_955).abs() < 1e-8);
    }

    #[test]
    fn broken_logits_are_no_answer() {
        assert_eq!(Answer::from_logits(ExpertIx::new(0), 2, &[0.0, f32::NAN]), Err(AnswerError::NotFinite));
        assert_eq!(
            Answer::from_logits(ExpertIx::new(0), 2, &[0.0, f32::INFINITY]),
            Err(AnswerError::NotFinite)
        );
        assert_eq!(
            Answer::from_logits(ExpertIx::new(0), 2, &[0.0]),
            Err(AnswerError::Length { expected: 2, got: 1 })
        );
    }

    #[test]
    fn what_may_not_be_the_answer_leaves_its_probability_to_the_rest() {
        let answer = Answer { expert: ExpertIx::new(0), probabilities: vec![0.5, 0.3, 0.2] };
        let within = answer.clone().within(|at| at != 0).unwrap();
        assert_eq!(within.probabilities, [0.0, 0.6, 0.4]);
        assert_eq!(answer.within(|_| false), None);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let answer = Answer::from_logits(ExpertIx::new(0), 2, &[f32::MAX, f32::MIN]).unwrap();
        assert_eq!(answer.probabilities, [1.0, 0.0]);
    }

    #[test]
    fn a_sure_expert_with_no_share_of_the_gate_is_not_trusted() {
        let model = Competence { bias: 0.0, confidence: 1.0, gate: 2.0 };
        assert!(competence(&model, 0.999, 1e-6) < 1e-6);
        assert!(competence(&model, 0.999, 0.9) > 0.99);
        assert!(competence(&model, 1.0, 0.0).is_finite());
    }
}
