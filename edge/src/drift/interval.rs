//! Exact limits of a share that was observed: Clopper and Pearson, 1934. Pure.

/// Steps of the bisection: more than the digits of a double.
const STEPS: u32 = 60;

/// The largest share under which as few as `hits` of `seen` come with a probability of at least `miss`: the upper limit,
/// which the true share is over with a probability of at most `miss`.
pub(crate) fn upper(hits: u64, seen: u64, miss: f64) -> f64 {
    if hits >= seen {
        return 1.0;
    }
    bisect(|share| at_most(hits, seen, share) > miss)
}

/// The lower limit, which the true share is under with a probability of at most `miss`.
pub(crate) fn lower(hits: u64, seen: u64, miss: f64) -> f64 {
    if hits == 0 || seen == 0 {
        return 0.0;
    }
    bisect(|share| 1.0 - at_most(hits - 1, seen, share) < miss)
}

/// Where `is_below` turns from true to false between 0 and 1.
fn bisect(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Probability of `hits` or fewer of `seen`, each with probability `share`.
fn at_most(hits: u64, seen: u64, share: f64) -> f64 {
    if share <= 0.0 {
        return 1.0;
    }
    if share >= 1.0 {
        return f64::from(u8::from(hits >= seen));
    }
    let odds = (share / (1.0 - share)).ln();
    let mut term = seen as f64 * (-share).ln_1p();
    let mut sum = term.exp();
    for hit in 0..hits.min(seen) {
        term += ((seen - hit) as f64 / (hit + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_tables() {
        // Clopper-Pearson at 95 %: 0 of 10, 1 of 10, 5 of 10, 2 of 200.
        let near = |found: f64, known: f64| assert!((found - known).abs() < 5e-5, "{found} {known}");
        near(upper(0, 10, 0.025), 0.308_50);
        near(lower(1, 10, 0.025), 0.002_53);
        near(upper(1, 10, 0.025), 0.445_02);
        near(lower(5, 10, 0.025), 0.187_09);
        near(upper(5, 10, 0.025), 0.812_91);
        near(upper(2, 200, 0.025), 0.035_65);
        assert_eq!((lower(0, 7, 0.025), upper(7, 7, 0.025), upper(0, 0, 0.025)), (0.0, 1.0, 1.0));
    }

    #[test]
    fn large_numbers_are_no_trouble() {
        let (low, high) = (lower(10_000, 1_000_000, 0.025), upper(10_000, 1_000_000, 0.025));
        assert!(low > 0.0098 && low < 0.01 && high > 0.01 && high < 0.0102, "{low} {high}");
    }
}
