//! Heads fitted on frozen features: logistic regression, shrunk discriminant analysis, whitening.
//!
//! All of it is deterministic: the same rows in the same order give the same numbers on the same machine. Sums are made in
//! FP64.
//!
//! * `rows`: features, one row a sample. `standard`: mean and deviation of each feature.
//! * `discriminant`, `logistic`: heads. `whitening`: features of which no two go together, by a Cholesky factor.

mod discriminant;
mod logistic;
mod rows;
mod standard;
#[cfg(test)]
mod tests;
mod whitening;

pub use discriminant::discriminant;
pub use logistic::logistic;
pub use rows::Rows;
pub use whitening::{Moments, Whitening};

#[derive(Debug, thiserror::Error)]
pub enum LinearError {
    #[error("there are no samples to fit a head on")]
    Empty,
    #[error(
        "{samples} samples of {features} features go together so closely that nothing can be fitted on them"
    )]
    Singular { samples: usize, features: usize },
    #[error("a feature of sample {0} is not finite")]
    NotFinite(usize),
    #[error("logistic regression did not end: {0}")]
    Search(String),
}

/// A linear head: `logits = x · weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[features, classes]`, row-major.
    pub weight: Vec<f32>,
    /// By class.
    pub bias: Vec<f32>,
}

impl Head {
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Logits of one row.
    pub fn logits(&self, row: &[f32]) -> Vec<f64> {
        let classes = self.classes();
        let mut logits: Vec<f64> = self.bias.iter().map(|bias| f64::from(*bias)).collect();
        for (value, weights) in row.iter().zip(self.weight.chunks_exact(classes.max(1))) {
            for (logit, weight) in logits.iter_mut().zip(weights) {
                *logit += f64::from(*value) * f64::from(*weight);
            }
        }
        logits
    }

    /// Gives the head with all logits divided by a temperature.
    pub fn cooled(&self, temperature: f64) -> Self {
        let divided = |number: &f32| (f64::from(*number) / temperature) as f32;
        Self {
            weight: self.weight.iter().map(divided).collect(),
            bias: self.bias.iter().map(divided).collect(),
        }
    }
}

/// Weights by which every class counts as much as any other; they are 1 on average.
pub fn balanced(classes: &[usize], count: usize) -> Vec<f64> {
    let mut of_class = vec![0usize; count];
    for class in classes {
        of_class[*class] += 1;
    }
    let present = of_class.iter().filter(|samples| **samples > 0).count();
    let weight = |class: &usize| classes.len() as f64 / (present * of_class[*class]) as f64;
    classes.iter().map(weight).collect()
}
