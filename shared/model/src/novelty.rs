//! Whether a sample is like anything that the bundle was made for: conformal p-values. Pure.
//!
//! A detector's score is a distance to known samples; among the scores of known samples that were kept aside, the share that
//! is as high or higher is the p-value, `(1 + #{calibration ≥ score}) / (n + 1)`. For a known sample it is under any bound at
//! most as often as that bound says (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005; Bates et al.,
//! "Testing for outliers with conformal p-values", 2023). Several detectors are put together by Bonferroni's bound, which holds
//! whatever they have in common.

use serde::{Deserialize, Serialize};

/// The verdict on a sample that is like nothing the bundle was made for.
pub const UNKNOWN: &str = "unknown";

/// How a sample compares with the known ones of its product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Novelty {
    /// Share of known samples of the product that are as odd or odder, at most.
    pub p: f64,
    /// At this or below the sample is unknown.
    pub bound: f64,
    /// The product whose known samples it was compared with.
    pub product: String,
    /// The detector that found it oddest.
    pub detector: String,
    /// Known samples that are nearest by that detector, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<Neighbour>,
    /// The label that it would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likeliest: Option<String>,
}

/// A known sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// As it was called when the bundle was made.
    pub sample: String,
    pub label: String,
    /// In units of the distance that one known sample in twenty exceeds.
    pub distance: f64,
}

/// What a comparison with the known samples of a product gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// As in [`Novelty`].
    pub p: f64,
    pub detector: String,
    pub nearest: Vec<Neighbour>,
}

impl Novelty {
    pub fn is_unknown(&self) -> bool {
        self.p <= self.bound
    }
}

/// The p-value of a score among the scores of calibration samples, which ascend.
pub fn p_value(calibration: &[f32], score: f32) -> f64 {
    let below = calibration.partition_point(|known| *known < score);
    (1 + calibration.len() - below) as f64 / (calibration.len() + 1) as f64
}

/// The p-value of several detectors together: their least, times their number.
pub fn together(each: &[f64]) -> Option<f64> {
    let least = each.iter().copied().reduce(f64::min)?;
    Some((least * each.len() as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The share of samples, each compared with all the others, whose p-value is at most `bound`.
    fn called_unknown(scores: &[Vec<f32>], bound: f64) -> f64 {
        let count = scores[0].len();
        let of = |at: usize| {
            let each = scores.iter().map(|scores| {
                let mut others = scores.clone();
                let score = others.remove(at);
                others.sort_by(f32::total_cmp);
                p_value(&others, score)
            });
            together(&each.collect::<Vec<f64>>()).unwrap()
        };
        (0..count).filter(|at| of(*at) <= bound).count() as f64 / count as f64
    }

    proptest! {
        /// The law that unknown rests on: of samples that any one of could have been the new one, no more are called unknown than is allowed,
        /// whatever their scores are, with ties, and by several detectors together.
        #[test]
        fn no_more_known_samples_are_called_unknown_than_is_allowed(
            scores in proptest::collection::vec(proptest::collection::vec(0_u8..20, 30), 1..4),
            bound in 0.001_f64..0.5,
        ) {
            let scores: Vec<Vec<f32>> = scores.into_iter().map(|of| of.into_iter().map(f32::from).collect()).collect();
            prop_assert!(called_unknown(&scores, bound) <= bound);
        }
    }

    #[test]
    fn the_p_value_counts_what_is_as_odd_or_odder() {
        let calibration = [1.0, 2.0, 2.0, 3.0];
        assert_eq!(p_value(&calibration, 0.5), 1.0);
        assert_eq!(p_value(&calibration, 2.0), 4.0 / 5.0);
        assert_eq!(p_value(&calibration, 2.5), 2.0 / 5.0);
        assert_eq!(p_value(&calibration, 9.0), 1.0 / 5.0);
        assert_eq!(p_value(&[], 9.0), 1.0, "nothing is odd where nothing is known");
        assert_eq!(p_value(&calibration, f32::NAN), 1.0, "no number is no oddity");
    }

    #[test]
    fn detectors_share_the_bound() {
        assert_eq!(together(&[0.01, 0.5]), Some(0.02));
        assert_eq!(together(&[0.9, 0.8]), Some(1.0));
        assert_eq!(together(&[]), None);
    }
}
