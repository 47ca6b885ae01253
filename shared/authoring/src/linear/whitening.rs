//! Features turned and scaled so that over known samples each has deviation 1 and no two go together: the squared length of
//! what comes out is the Mahalanobis distance.

use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, Par, Side};

use super::LinearError;

/// Share by which the covariance is drawn towards a multiple of the identity.
const SHRINKAGE: f64 = 0.02;

/// Sums from which mean and covariance follow; rows may come in any number of portions.
#[derive(Debug, Clone)]
pub struct Moments {
    count: f64,
    sum: Vec<f64>,
    /// Sum of the products of each row with itself, `x · xᵀ`.
    products: Mat<f64>,
}

impl Moments {
    pub fn new(dims: usize) -> Self {
        Self { count: 0.0, sum: vec![0.0; dims], products: Mat::zeros(dims, dims) }
    }

    /// Adds rows of features, one after the other.
    pub fn add(&mut self, rows: &[f32]) {
        let dims = self.sum.len().max(1);
        let count = rows.len() / dims;
        let portion = Mat::from_fn(count, dims, |at, feature| f64::from(rows[at * dims + feature]));
        for (feature, sum) in self.sum.iter_mut().enumerate() {
            *sum += portion.col(feature).iter().sum::<f64>();
        }
        self.products += portion.transpose() * &portion;
        self.count += count as f64;
    }

    /// The sums without those of a part of the rows.
    pub fn without(&self, part: &Self) -> Self {
        let sum = self.sum.iter().zip(&part.sum).map(|(all, part)| all - part).collect();
        Self { count: self.count - part.count, sum, products: &self.products - &part.products }
    }

    /// The sums of both.
    pub fn with(&self, other: &Self) -> Self {
        let sum = self.sum.iter().zip(&other.sum).map(|(one, other)| one + other).collect();
        Self { count: self.count + other.count, sum, products: &self.products + &other.products }
    }

    pub fn whitening(&self) -> Result<Whitening, LinearError> {
        if self.count < 1.0 {
            return Err(LinearError::Empty);
        }
        let dims = self.sum.len();
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / self.count).collect();
        let mut covariance = Mat::from_fn(dims, dims, |row, column| {
            self.products[(row, column)] / self.count - mean[row] * mean[column]
        });
        let variance = (0..dims).map(|at| covariance[(at, at)]).sum::<f64>() / dims.max(1) as f64;
        covariance *= faer::Scale(1.0 - SHRINKAGE);
        for at in 0..dims {
            // A little is left where nothing ever changes.
            covariance[(at, at)] += SHRINKAGE * variance + 1e-12;
        }
        let singular = |_| LinearError::Singular { samples: self.count as usize, features: dims };
        let factor = covariance.llt(Side::Lower).map_err(singular)?;
        let mut inverse = Mat::<f64>::identity(dims, dims);
        solve_lower_triangular_in_place(factor.L(), inverse.as_mut(), Par::Seq);
        let bias = (0..dims)
            .map(|row| -(0..=row).map(|column| inverse[(row, column)] * mean[column]).sum::<f64>() as f32);
        let weight = (0..dims).flat_map(|row| (0..dims).map(move |column| (row, column)));
        let weight =
            weight.map(|(row, column)| if column <= row { inverse[(row, column)] as f32 } else { 0.0 });
        Ok(Whitening { weight: weight.collect(), bias: bias.collect() })
    }
}

/// `y = weight · x + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Whitening {
    /// `[outputs, inputs]`, row-major; nothing stands above the diagonal.
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Whitening {
    pub fn dims(&self) -> usize {
        self.bias.len()
    }

    /// The whitened row.
    pub fn apply(&self, row: &[f32]) -> Vec<f32> {
        let dims = self.dims();
        let output = |at: usize| {
            let weights = &self.weight[at * dims..=at * dims + at];
            self.bias[at] + weights.iter().zip(row).map(|(weight, value)| weight * value).sum::<f32>()
        };
        (0..dims).map(output).collect()
    }
}
