//! Numbers of labels, confidences and risks.

use std::collections::BTreeMap;

use serde::Serialize;

/// Bins of confidence.
const BINS: usize = 15;
/// Calibrated models that are drawn to say how far off one is by chance.
const DRAWS: usize = 500;
/// Shares at which curves are given.
const SHARES: [f64; 11] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0];

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    pub share: f64,
    pub value: f64,
}

/// One label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassMeasures {
    pub samples: usize,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// How true confidence is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error over fifteen bins.
    pub error: f64,
    /// What 95 in 100 models whose confidence is true stay under, on as many samples of the same confidences.
    pub band: f64,
}

/// Numbers of each label that samples have.
pub(super) fn classes(
    labels: &[String],
    truth: &[usize],
    found: &[(usize, f64)],
) -> BTreeMap<String, ClassMeasures> {
    let of = |(class, label): (usize, &String)| {
        let samples = truth.iter().filter(|truth| **truth == class).count();
        let said = found.iter().filter(|(found, _)| *found == class).count();
        let both =
            truth.iter().zip(found).filter(|(truth, (found, _))| **truth == class && *found == class).count();
        let share = |of: usize| both as f64 / of.max(1) as f64;
        let f1 = 2.0 * both as f64 / (samples + said).max(1) as f64;
        let measures = ClassMeasures { samples, precision: share(said), recall: share(samples), f1 };
        (samples > 0).then(|| (label.clone(), measures))
    };
    labels.iter().enumerate().filter_map(of).collect()
}

/// Calibration of confidences, each with whether the verdict was right.
pub(super) fn calibration(confidences: &[(f64, bool)]) -> Calibration {
    let mut random = fastrand::Rng::with_seed(1);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn = confidences.iter().map(|(p, _)| (*p, random.f64() < *p));
            error(&drawn.collect::<Vec<_>>())
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Calibration { error: error(confidences), band: drawn[DRAWS * 95 / 100] }
}

fn error(confidences: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (confidence, right) in confidences {
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += confidence;
        bins[bin].1 += f64::from(u8::from(*right));
    }
    bins.iter().map(|(said, was)| (said - was).abs()).sum::<f64>() / confidences.len().max(1) as f64
}

/// Share of errors among the samples of lowest risk; each sample is its local risk and whether it is right alone and with the
/// pool.
pub(super) fn risk_coverage(samples: &[(f64, bool, bool)]) -> Vec<Point> {
    let sorted = by_risk(samples);
    let point = |share: &f64| {
        let kept = (share * sorted.len() as f64).round() as usize;
        let wrong = sorted[..kept].iter().filter(|(_, right, _)| !right).count();
        Point { share: *share, value: wrong as f64 / kept.max(1) as f64 }
    };
    SHARES.iter().filter(|share| **share > 0.0).map(point).collect()
}

/// The mean share of errors among those of lowest risk, over every number of them.
pub(super) fn aurc(samples: &[(f64, bool, bool)]) -> f64 {
    let (mut wrong, mut sum) = (0_usize, 0.0);
    for (at, (_, right, _)) in by_risk(samples).iter().enumerate() {
        wrong += usize::from(!right);
        sum += wrong as f64 / (at + 1) as f64;
    }
    sum / samples.len().max(1) as f64
}

/// Accuracy if the pool is asked for the samples of highest risk.
pub(super) fn accuracy_offload(samples: &[(f64, bool, bool)]) -> Vec<Point> {
    let sorted = by_risk(samples);
    let point = |share: &f64| {
        let kept = sorted.len() - (share * sorted.len() as f64).round() as usize;
        let local = sorted[..kept].iter().filter(|(_, right, _)| *right).count();
        let asked = sorted[kept..].iter().filter(|(_, _, right)| *right).count();
        Point { share: *share, value: (local + asked) as f64 / sorted.len().max(1) as f64 }
    };
    SHARES.iter().map(point).collect()
}

fn by_risk(samples: &[(f64, bool, bool)]) -> Vec<(f64, bool, bool)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_that_is_true_is_within_the_band() {
        let honest: Vec<(f64, bool)> = (0..1000).map(|at| (0.8, at % 5 != 0)).collect();
        let found = calibration(&honest);
        assert!(found.error < 1e-9 && found.band > 0.0 && found.band < 0.05, "{found:?}");
        let boastful: Vec<(f64, bool)> = (0..1000).map(|at| (0.99, at % 2 == 0)).collect();
        let found = calibration(&boastful);
        assert!((found.error - 0.49).abs() < 1e-9 && found.error > found.band);
    }

    #[test]
    fn curves_begin_where_nobody_is_asked_and_end_where_everybody_is() {
        let samples: Vec<(f64, bool, bool)> =
            (0..100).map(|at| (f64::from(at) / 100.0, at < 80, at % 10 != 0)).collect();
        let offload = accuracy_offload(&samples);
        assert_eq!((offload[0].value, offload[10].value), (0.8, 0.9));
        let coverage = risk_coverage(&samples);
        assert_eq!(coverage[0].value, 0.0);
        assert!((coverage[9].value - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_label_has_precision_and_recall() {
        let labels = ["p/a".to_owned(), "p/b".to_owned(), "p/c".to_owned()];
        let found = [(0, 1.0), (1, 1.0), (1, 1.0), (0, 1.0)];
        let of = classes(&labels, &[0, 0, 1, 1], &found);
        assert_eq!(of.len(), 2, "what has no samples is not judged");
        assert_eq!(of["p/a"], ClassMeasures { samples: 2, precision: 0.5, recall: 0.5, f1: 0.5 });
    }
}
