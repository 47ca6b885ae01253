//! Evidence that a rate is over what it should be, that may be looked at after every observation. Pure.
//!
//! Against "each observation is a hit with probability at most `rate`, whatever came before" a bet is placed on each
//! observation, at odds that are fair or worse if that holds: with probability at most `alpha` the capital ever grows to
//! `1 / alpha` (Ville's inequality; Shafer and Vovk, "Game-theoretic foundations", 2019; Waudby-Smith and Ramdas, "Estimating means
//! of bounded random variables by betting", 2021; here the bets are likelihood ratios, as for bounded means). So the alarm may be
//! looked for at any time, for ever, and is false with probability `alpha` at most.
//!
//! The capital is spread over several higher rates and over the moments at which the change may have come: what begins to bet
//! at observation `t` is `r(t-1) - r(t)` with `r(t) = 1 / (1 + ln(1 + t))`, so that a long good time does not use up what is needed
//! to notice a bad one.

use serde::{Deserialize, Serialize};

use super::ALPHA;

/// The rates that are bet on, as multiples of the one that should hold.
const MULTIPLES: [f64; 6] = [1.25, 1.5, 2.0, 3.0, 6.0, 12.0];
/// Stands for the logarithm of nothing; an infinity is no number in JSON.
const NOTHING: f64 = -1e9;

/// What has been observed comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// The largest rate that is as it should be.
    rate: f64,
    seen: u64,
    /// By multiple, the logarithm of the capital that has begun to bet.
    capital: [f64; MULTIPLES.len()],
    is_alarmed: bool,
}

impl Evidence {
    /// None yet, against a rate above 0 and below 1.
    pub(crate) fn of(rate: f64) -> Self {
        Self { rate, seen: 0, capital: [NOTHING; MULTIPLES.len()], is_alarmed: false }
    }

    /// Takes an observation in; true if it raises the alarm.
    pub(crate) fn observe(&mut self, is_hit: bool) -> bool {
        let starts = (kept_back(self.seen) - kept_back(self.seen + 1)).ln();
        self.seen += 1;
        for (capital, multiple) in self.capital.iter_mut().zip(MULTIPLES) {
            // A rate near 1 leaves less room above it.
            let bet = (self.rate * multiple).min(f64::midpoint(self.rate, 1.0));
            let gain = match is_hit {
                true => (bet / self.rate).ln(),
                false => ((1.0 - bet) / (1.0 - self.rate)).ln(),
            };
            *capital = (sum(*capital, starts) + gain).max(NOTHING);
        }
        let before = self.is_alarmed;
        self.is_alarmed |= self.log() >= -ALPHA.ln();
        self.is_alarmed && !before
    }

    /// Natural logarithm of the capital: 0 says nothing, `ln(1 / alpha)` is an alarm.
    pub(crate) fn log(&self) -> f64 {
        let share = (MULTIPLES.len() as f64).ln();
        self.capital.iter().fold(kept_back(self.seen).ln(), |all, capital| sum(all, capital - share))
    }

    /// Whether it was ever enough.
    pub(crate) fn is_alarmed(&self) -> bool {
        self.is_alarmed
    }

    /// The largest rate that is as it should be.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }
}

/// The share of the capital that has not begun to bet after so many observations.
fn kept_back(seen: u64) -> f64 {
    1.0 / (1.0 + (seen as f64).ln_1p())
}

/// The logarithm of the sum of two numbers that are given by theirs.
fn sum(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Observations until the alarm, of at most `most`.
    fn until_alarm(rates: impl Fn(u64) -> f64, tested: f64, most: u64, seed: u64) -> Option<u64> {
        let (mut random, mut evidence) = (fastrand::Rng::with_seed(seed), Evidence::of(tested));
        (0..most).find(|at| evidence.observe(random.f64() < rates(*at)))
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        const SEEDS: u64 = 1500;
        for rate in [0.01, 0.05] {
            let alarms = (0..SEEDS).filter(|seed| until_alarm(|_| rate, rate, 2000, *seed).is_some()).count();
            // 1 % of them at most; three standard deviations more would be 1.7 %.
            assert!(alarms as f64 <= SEEDS as f64 * ALPHA * 1.7, "{alarms} of {SEEDS} at {rate}");
        }
    }

    #[test]
    fn the_capital_is_fair_in_exact_expectation() {
        // Every course of ten observations, weighted by its probability: what is expected of the capital is 1.
        for rate in [0.01, 0.3, 0.9] {
            let mut expected = 0.0;
            for course in 0_u32..1 << 10 {
                let (mut evidence, mut probability) = (Evidence::of(rate), 1.0);
                for at in 0..10 {
                    let is_hit = course >> at & 1 == 1;
                    evidence.observe(is_hit);
                    probability *= if is_hit { rate } else { 1.0 - rate };
                }
                expected += probability * evidence.log().exp();
            }
            assert!((expected - 1.0).abs() < 1e-9, "{rate}: {expected}");
        }
    }

    #[test]
    fn a_doubled_rate_is_noticed_also_after_a_long_good_time() {
        let delays = |good: u64| {
            let rates = move |at| if at < good { 0.005 } else { 0.02 };
            let mut delays: Vec<u64> = (0..40)
                .map(|seed| until_alarm(rates, 0.01, good + 60_000, seed).unwrap() - good.min(60_000))
                .collect();
            delays.sort_unstable();
            delays[delays.len() / 2]
        };
        let (at_once, later) = (delays(0), delays(20_000));
        assert!(at_once < 4000, "{at_once}");
        assert!(later < 7000, "{later}");
    }

    #[test]
    fn half_of_all_wrong_is_noticed_within_a_few_dozen() {
        let late = (0..200).filter_map(|seed| until_alarm(|_| 0.5, 0.01, 1000, seed)).max();
        assert!(late.is_some_and(|late| late < 30), "{late:?}");
    }

    proptest! {
        #[test]
        fn hits_never_lower_it_and_misses_never_raise_it(course: Vec<bool>, rate in 0.001_f64..0.9) {
            let mut evidence = Evidence::of(rate);
            for is_hit in course {
                let (mut hit, mut miss) = (evidence.clone(), evidence.clone());
                hit.observe(true);
                miss.observe(false);
                prop_assert!(hit.log() >= miss.log());
                prop_assert!(evidence.log().is_finite());
                evidence.observe(is_hit);
            }
        }
    }
}
