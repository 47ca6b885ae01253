//! What a sample's way came to, before it is made into a record.

use super::{Degraded, State, Why};
use crate::combine::{Mixed, Weighed};

/// A decided sample: the verdict, whose answers made it, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub state: State,
    /// Verdict and probabilities, by index of the task's labels.
    pub mixed: Mixed,
    /// Answers, in the order of `mixed.weights`.
    pub answers: Vec<Weighed>,
    pub degraded: Option<Degraded>,
    pub why: Why,
}
