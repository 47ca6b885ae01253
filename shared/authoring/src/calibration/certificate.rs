//! A threshold on the local risk that is certified to keep a promise, by a test and not by an eyeballed quantile.
//!
//! Samples are ordered by their risk. A fixed sequence of ever more of them is tested: the upper bound of Clopper and Pearson
//! ("The use of confidence or fiducial limits illustrated in the case of the binomial", 1934) on the error among those that
//! would be kept must be at most the risk that was asked for; the first failure ends the sequence, so that the bound of each
//! is worth what it says although many are tried.

use statrs::distribution::{Beta, ContinuousCDF};

/// The sequence begins where this share of the samples is kept: one early mistake would end it otherwise.
pub const FIRST_COVERAGE: f64 = 0.3;
/// Risks that are certified unless others are asked for.
pub const RISKS: [f64; 5] = [0.005, 0.01, 0.02, 0.03, 0.05];
/// Steps of the sequence from its first to its last, about.
const STEPS: usize = 100;

/// A certified threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// Samples whose risk is at most this are kept.
    pub threshold: f64,
    pub kept: usize,
    /// Wrong ones among them.
    pub errors: usize,
}

/// The number of samples without an error that a certificate takes at least: below it no outcome can prove the risk.
pub fn samples_needed(risk: f64, delta: f64) -> usize {
    (delta.ln() / (1.0 - risk).ln()).ceil() as usize
}

/// Certifies the largest threshold on the local risk: each sample is given by its risk and whether its local verdict is wrong.
/// The error among what is kept is at most `target`, but with probability `delta`. `None`: there is no such threshold.
pub fn certify(samples: &[(f64, bool)], target: f64, delta: f64) -> Option<Certificate> {
    let n = samples.len();
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let errors: Vec<usize> = sorted
        .iter()
        .scan(0, |errors, (_, is_wrong)| {
            *errors += usize::from(*is_wrong);
            Some(*errors)
        })
        .collect();
    let first = ((FIRST_COVERAGE * n as f64).ceil() as usize).max(samples_needed(target, delta));
    if first > n || first == 0 {
        return None;
    }
    let step = (n / STEPS).max(1);
    let mut best = None;
    for kept in (first..n).step_by(step).chain([n]) {
        let threshold = sorted[kept - 1].0;
        // Ties stand or fall together.
        let kept = sorted.partition_point(|(risk, _)| *risk <= threshold);
        let errors = errors[kept - 1];
        if upper_bound(errors, kept, delta) > target {
            break;
        }
        best = Some(Certificate { threshold, kept, errors });
    }
    best
}

/// The upper bound of the error of which so many errors among so many samples were seen: with probability `delta`, at most,
/// the error is higher.
pub fn upper_bound(errors: usize, samples: usize, delta: f64) -> f64 {
    if errors >= samples {
        return 1.0;
    }
    let (a, b) = (errors as f64 + 1.0, (samples - errors) as f64);
    let Ok(beta) = Beta::new(a, b) else { return 1.0 };
    // Bisection on the distribution function, to the last digit.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..200 {
        let middle: f64 = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        match beta.cdf(middle) < 1.0 - delta {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::calibration::tests::numbers;

    /// Upper bounds as `scipy.stats.beta.ppf(1 - delta, errors + 1, samples - errors)` of SciPy 1.17.1 gives them.
    #[test]
    fn the_bound_is_clopper_and_pearsons() {
        let known = [
            (0, 59, 0.05, 0.049_507_609_888_226_93),
            (0, 299, 0.05, 0.009_969_146_792_899_269),
            (1, 698, 0.05, 0.006_778_167_848_954_684),
            (13, 765, 0.05, 0.026_882_245_683_679_095),
            (7, 748, 0.05, 0.017_505_500_077_628_786),
            (5, 2000, 0.05, 0.005_249_275_286_933_494),
            (400, 1000, 0.05, 0.426_176_586_664_691_44),
            (0, 1, 0.05, 0.95),
            (3, 40, 0.1, 0.159_449_313_034_459_56),
            (250, 20000, 0.01, 0.014_451_741_040_281_543),
        ];
        for (errors, samples, delta, expected) in known {
            let found = upper_bound(errors, samples, delta);
            assert!((found - expected).abs() < 1e-9, "{errors} of {samples}: {found}, not {expected}");
        }
        assert_eq!(upper_bound(5, 5, 0.05), 1.0);
        assert_eq!(samples_needed(0.05, 0.05), 59);
        assert_eq!(samples_needed(0.005, 0.05), 598);
    }

    /// Made-up samples: their risk, in steps if `ties`, and whether they are wrong.
    fn samples(seed: u64, count: usize, scale: f64, ties: bool) -> Vec<(f64, bool)> {
        let mut numbers = numbers(seed);
        let mut next = || numbers.next().unwrap();
        (0..count)
            .map(|_| {
                let root = next();
                let risk: f64 = root * root * root;
                let risk = if ties { (risk * 50.0).floor() / 50.0 } else { risk };
                (risk, next() < scale * 10.0 * risk * risk)
            })
            .collect()
    }

    /// Thresholds as `training/millgate_training/certify.py` gives them on the same samples.
    #[test]
    fn thresholds_are_those_of_the_python() {
        type Known = (u64, usize, f64, bool, [Option<(f64, usize, usize)>; 5]);
        let known: [Known; 7] = [
            (
                1,
                1000,
                0.04,
                false,
                [
                    None,
                    Some((0.1746510969555468, 570, 1)),
                    Some((0.4304443225924504, 760, 8)),
                    Some((0.5803106343759659, 840, 16)),
                    Some((0.7598414880701534, 920, 32)),
                ],
            ),
            (
                2,
                2000,
                0.03,
                false,
                [
                    Some((0.07326755873525982, 840, 0)),
                    Some((0.23330886931882505, 1240, 6)),
                    Some((0.5465655191089644, 1640, 19)),
                    Some((0.7129932038316482, 1780, 39)),
                    Some((0.9696664616054053, 1980, 75)),
                ],
            ),
            (
                3,
                300,
                0.02,
                false,
                [None, None, None, Some((0.06080813753529641, 126, 0)), Some((0.9868825415909938, 300, 4))],
            ),
            (
                4,
                765,
                0.05,
                true,
                [None, None, Some((0.4, 562, 5)), Some((0.52, 608, 9)), Some((0.7, 679, 23))],
            ),
            (5, 80, 0.0, false, [None, None, None, None, Some((0.9914204814023662, 80, 0))]),
            (6, 30, 0.0, false, [None; 5]),
            (
                7,
                5000,
                0.02,
                true,
                [
                    Some((0.34, 3529, 10)),
                    Some((0.5, 3995, 27)),
                    Some((0.8, 4681, 74)),
                    Some((0.98, 5000, 121)),
                    Some((0.98, 5000, 121)),
                ],
            ),
        ];
        for (seed, count, scale, ties, expected) in known {
            let samples = samples(seed, count, scale, ties);
            for (risk, expected) in RISKS.into_iter().zip(expected) {
                let found = certify(&samples, risk, 0.05);
                let found = found.map(|found| (found.threshold, found.kept, found.errors));
                assert_eq!(
                    found.map(|found| (found.1, found.2)),
                    expected.map(|one| (one.1, one.2)),
                    "{seed} {risk}"
                );
                if let (Some(found), Some(expected)) = (found, expected) {
                    assert!((found.0 - expected.0).abs() < 1e-12, "{seed} {risk}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn no_samples_certify_nothing() {
        assert_eq!(certify(&[], 0.05, 0.05), None);
    }
}
