//! How sharp an expert's logits are: the factor that they must be divided by for their likelihood to be highest.

/// Bounds of the logarithm of a temperature.
const BOUND: f64 = 3.0;
/// Steps of the golden section: the bracket shrinks to 2e-9.
const STEPS: usize = 48;

/// The temperature of logits `[samples][classes]`, given the class of each sample: they are divided by it. 1 where there is
/// nothing to go by. The mean log loss is convex in 1/T, so that its minimum is found by golden section.
pub fn fit(logits: &[&[f32]], classes: &[usize]) -> f64 {
    if logits.is_empty() {
        return 1.0;
    }
    let inverse_golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let at = |ln_temperature: f64| loss(logits, classes, ln_temperature.exp());
    let (mut low, mut high) = (-BOUND, BOUND);
    let inner =
        |low: f64, high: f64| (high - inverse_golden * (high - low), low + inverse_golden * (high - low));
    let (mut left, mut right) = inner(low, high);
    let (mut of_left, mut of_right) = (at(left), at(right));
    for _ in 0..STEPS {
        if of_left <= of_right {
            high = right;
            (right, of_right) = (left, of_left);
            left = inner(low, high).0;
            of_left = at(left);
        } else {
            low = left;
            (left, of_left) = (right, of_right);
            right = inner(low, high).1;
            of_right = at(right);
        }
    }
    f64::midpoint(low, high).exp()
}

/// The mean log loss of logits at a temperature.
pub fn loss(logits: &[&[f32]], classes: &[usize], temperature: f64) -> f64 {
    let of = |(logits, class): (&&[f32], &usize)| {
        let scaled = || logits.iter().map(|logit| f64::from(*logit) / temperature);
        let highest = scaled().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled().map(|logit| (logit - highest).exp()).sum();
        let own = logits.get(*class).map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) / temperature);
        highest + sum.ln() - own
    };
    logits.iter().zip(classes).map(of).sum::<f64>() / logits.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::tests::numbers;

    /// The minimum as SciPy 1.17.1's bounded search finds it on the same logits.
    #[test]
    fn the_fit_is_that_of_scipy() {
        let mut numbers = numbers(21);
        let mut next = || numbers.next().unwrap();
        let (mut logits, mut classes) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let own: [f64; 3] = std::array::from_fn(|_| 6.0 * next() - 3.0);
            let noisy = own.map(|logit| logit + 2.0 * next());
            let best = (0..3).fold(0, |best, at| if noisy[at] > noisy[best] { at } else { best });
            logits.push(own.map(|logit| logit as f32));
            classes.push(best);
        }
        let logits: Vec<&[f32]> = logits.iter().map(|logits| &logits[..]).collect();
        let found = fit(&logits, &classes);
        assert!((found - 0.357_229_893_011_952).abs() < 1e-6, "{found}");
        assert!((loss(&logits, &classes, found) - 0.229_527_698_221_016_37).abs() < 1e-9);
        // Logits that were divided by it need no more.
        let sharper: Vec<Vec<f32>> = logits
            .iter()
            .map(|row| row.iter().map(|logit| (f64::from(*logit) / found) as f32).collect())
            .collect();
        let sharper: Vec<&[f32]> = sharper.iter().map(Vec::as_slice).collect();
        assert!((fit(&sharper, &classes) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn nothing_to_go_by_leaves_logits_alone() {
        assert_eq!(fit(&[], &[]), 1.0);
    }
}
