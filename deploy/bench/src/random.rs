//! Random numbers that are the same for the same seed.

/// What loads are drawn from.
#[derive(Debug, Clone)]
pub struct Random(fastrand::Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// 64 bits, each 0 or 1.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// From 0 up to, not including, 1.
    pub fn share(&mut self) -> f64 {
        self.0.f64()
    }

    /// From 0 up to, not including, `end`; 0 if there is nothing below it.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.usize(..end) }
    }

    /// Exponentially distributed, mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_numbers_and_they_are_spread_as_promised() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..20_000).map(|_| random.exponential()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let drawn = draw(7);
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!((mean - 1.0).abs() < 0.03 && (variance - 1.0).abs() < 0.1, "{mean} {variance}");
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(3) < 3) && random.below(0) == 0);
    }
}
