//! Mean and deviation of each feature: heads are fitted on features that have mean 0 and deviation 1, and the head that
//! comes out takes them as they are.

use faer::Mat;

use super::{Head, Rows};

/// Mean and deviation of each feature.
#[derive(Debug, Clone)]
pub(super) struct Standard {
    mean: Vec<f64>,
    /// 1 for a feature that never changes.
    deviation: Vec<f64>,
}

impl Standard {
    pub(super) fn of(rows: &Rows) -> Self {
        let (dims, count) = (rows.dims(), rows.len().max(1) as f64);
        let mut mean = vec![0.0; dims];
        for row in rows.iter() {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        for sum in &mut mean {
            *sum /= count;
        }
        let mut deviation = vec![0.0; dims];
        for row in rows.iter() {
            for ((sum, mean), value) in deviation.iter_mut().zip(&mean).zip(row) {
                *sum += (f64::from(*value) - mean).powi(2);
            }
        }
        for (sum, mean) in deviation.iter_mut().zip(&mean) {
            *sum = (*sum / count).sqrt();
            // What is left of rounding is no deviation.
            if *sum <= 1e-9 * (1.0 + mean.abs()) {
                *sum = 1.0;
            }
        }
        Self { mean, deviation }
    }

    /// The rows with mean 0 and deviation 1, one a row.
    pub(super) fn apply(&self, rows: &Rows) -> Mat<f64> {
        Mat::from_fn(rows.len(), rows.dims(), |at, feature| {
            (f64::from(rows.row(at)[feature]) - self.mean[feature]) / self.deviation[feature]
        })
    }

    /// The head on features as they are, of one on features that were made standard.
    pub(super) fn folded(&self, weight: &Mat<f64>, bias: &[f64]) -> Head {
        let (features, classes) = (weight.nrows(), weight.ncols());
        let mut bias = bias.to_vec();
        let mut folded = Vec::with_capacity(features * classes);
        for feature in 0..features {
            for (class, bias) in bias.iter_mut().enumerate() {
                let scaled = weight[(feature, class)] / self.deviation[feature];
                *bias -= scaled * self.mean[feature];
                folded.push(scaled as f32);
            }
        }
        Head { weight: folded, bias: bias.into_iter().map(|bias| bias as f32).collect() }
    }
}
