//! Observations by size: plain data, so that it can lie under a lock that is held anyway.

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Upper bounds in seconds: 50 µs to about 6.5 s, each twice the one before.
pub(crate) const SECONDS: [f64; 18] = doubling(50e-6);
/// Upper bounds in rows.
pub(crate) const ROWS: [f64; 11] = doubling(1.0);
/// Upper bounds in milliseconds, as Triton has them.
pub(crate) const FIRST_RESPONSE_MS: [f64; 4] = [100.0, 500.0, 2000.0, 5000.0];

const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * 2.0;
        at += 1;
    }
    bounds
}

/// A histogram with fixed bounds.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    bounds: &'static [f64],
    /// One for each bound, and one for what is larger.
    counts: Vec<u64>,
    sum: f64,
}

impl Buckets {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
            self.sum += value;
        }
    }

    pub(crate) fn encode(&self, metric: &mut MetricEncoder<'_>) -> std::fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts.iter().copied()).collect();
        metric.encode_histogram::<NoLabelSet>(self.sum, self.counts.iter().sum(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_below_it_and_none_is_lost() {
        let mut buckets = Buckets::new(&ROWS);
        for value in [0.0, 1.0, 1.5, 2.0, 1024.0, 1025.0] {
            buckets.observe(value);
        }
        assert_eq!(
            (buckets.counts[0], buckets.counts[1], buckets.counts[10], buckets.counts[11]),
            (2, 2, 1, 1)
        );
        assert_eq!(buckets.sum, 2053.5);
        let last = Buckets::new(&SECONDS).bounds[17];
        assert!(last > 6.5 && last < 6.6, "{last}");
    }
}
