//! What a head reaches on samples that it was not fitted on.

/// Mean over the classes of the harmonic mean of precision and recall; classes without samples do not count.
pub(super) fn macro_f1(truth: &[usize], found: &[usize], count: usize) -> f64 {
    let of = f1_by_class(truth, found, count);
    let present: Vec<f64> = of.into_iter().flatten().collect();
    present.iter().sum::<f64>() / present.len().max(1) as f64
}

/// The harmonic mean of precision and recall of each class; `None` of one without samples.
pub(super) fn f1_by_class(truth: &[usize], found: &[usize], count: usize) -> Vec<Option<f64>> {
    let of = |class: usize| {
        let both =
            truth.iter().zip(found).filter(|(truth, found)| **truth == class && **found == class).count();
        let are = truth.iter().filter(|truth| **truth == class).count();
        let said = found.iter().filter(|found| **found == class).count();
        (are > 0).then(|| 2.0 * both as f64 / (are + said) as f64)
    };
    (0..count).map(of).collect()
}

/// Probability that a sample of the second kind has a higher score than one of the first; ties count half.
pub(super) fn auroc(lower: &[f64], higher: &[f64]) -> f64 {
    let mut sorted = lower.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins = |score: &f64| {
        let below = sorted.partition_point(|known| known < score);
        let equal = sorted.partition_point(|known| known <= score) - below;
        below as f64 + 0.5 * equal as f64
    };
    higher.iter().map(wins).sum::<f64>() / (lower.len() * higher.len()).max(1) as f64
}

/// The highest of a row of logits; the first of equals.
pub(super) fn highest(logits: &[f64]) -> usize {
    let mut best = 0;
    for (at, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = at;
        }
    }
    best
}

/// The temperature at which the logits' probabilities fit the classes best, by the mean negative log-likelihood. One sample
/// more is taken to be wrong than was seen to be, so that a few samples that are all right do not make the head certain.
pub(super) fn temperature(logits: &[Vec<f64>], classes: &[usize]) -> f64 {
    let wrong = 1.0 / (classes.len() + 2) as f64;
    let loss = |log: f64| -> f64 {
        let cold = log.exp();
        let one = |(row, class): (&Vec<f64>, &usize)| {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max) / cold;
            let total: f64 = row.iter().map(|logit| (logit / cold - highest).exp()).sum();
            let of = |at: usize| total.ln() + highest - row[at] / cold;
            let others = (0..row.len()).filter(|at| at != class).map(of).sum::<f64>();
            (1.0 - wrong) * of(*class) + wrong * others / (row.len() - 1).max(1) as f64
        };
        logits.iter().zip(classes).map(one).sum()
    };
    // The loss has one valley: golden sections close in on it.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.02f64.ln(), 50f64.ln());
    for _ in 0..60 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(left) <= loss(right) { high = right } else { low = left }
    }
    f64::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_what_they_are_called() {
        let (truth, found) = ([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]);
        let f1: [f64; 3] = [2.0 * 2.0 / 6.0, 2.0 * 2.0 / 5.0, 0.0];
        assert!((macro_f1(&truth, &found, 4) - f1.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        assert_eq!(f1_by_class(&truth, &found, 4)[3], None);
        assert_eq!(auroc(&[1.0, 2.0], &[3.0, 2.0]), 0.875);
        assert_eq!(highest(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn the_temperature_makes_confidence_true() {
        // Six in eight are right, whatever the logits claim; with one in ten taken to be the other way round that is 0.7.
        let logits = vec![vec![10.0, 0.0]; 8];
        let found = temperature(&logits, &[0, 0, 0, 1, 0, 0, 0, 1]);
        assert!((found - 10.0 / (0.7f64 / 0.3).ln()).abs() < 1e-3, "{found}");
        assert!(temperature(&logits, &[0; 8]) > 2.0, "eight that are right make nobody certain");
    }
}
