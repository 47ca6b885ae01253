//! Linear discriminant analysis with a shrunk covariance: the classes are taken for normal distributions of one covariance,
//! which is the mean of the classes' own, each drawn towards a multiple of the identity as far as its samples are too few to
//! know better (O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004). All
//! classes are equally likely beforehand. It has no parameter.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::standard::Standard;
use super::{Head, LinearError, Rows};

/// Logit of a class that has no samples.
const NEVER: f64 = -1e6;

/// Fits a head. `classes` holds the class of each row, under `count`; a class without rows is never the answer.
pub fn discriminant(rows: &Rows, classes: &[usize], count: usize) -> Result<Head, LinearError> {
    rows.check()?;
    let standard = Standard::of(rows);
    let all = standard.apply(rows);
    let dims = rows.dims();
    let mut covariance = Mat::<f64>::zeros(dims, dims);
    let mut means = Mat::<f64>::zeros(dims, count);
    let of_class =
        |class: usize| -> Vec<usize> { (0..classes.len()).filter(|at| classes[*at] == class).collect() };
    let members: Vec<Vec<usize>> = (0..count).map(of_class).collect();
    let present = members.iter().filter(|members| !members.is_empty()).count();
    for (class, members) in members.iter().enumerate().filter(|(_, members)| !members.is_empty()) {
        let samples = members.len() as f64;
        for feature in 0..dims {
            means[(feature, class)] = members.iter().map(|at| all[(*at, feature)]).sum::<f64>() / samples;
        }
        let centred = Mat::from_fn(members.len(), dims, |at, feature| {
            all[(members[at], feature)] - means[(feature, class)]
        });
        covariance += (1.0 / present as f64) * shrunk(centred);
    }
    let factor = factor(&covariance, rows.len())?;
    let weight = factor.solve(&means);
    let bias = (0..count).map(|class| {
        if members[class].is_empty() {
            return NEVER;
        }
        let product: f64 = (0..dims).map(|feature| weight[(feature, class)] * means[(feature, class)]).sum();
        -0.5 * product - (present as f64).ln()
    });
    Ok(standard.folded(&weight, &bias.collect::<Vec<f64>>()))
}

/// The factor of a covariance; what is too close to singular is drawn a little towards the identity.
fn factor(covariance: &Mat<f64>, samples: usize) -> Result<faer::linalg::solvers::Llt<f64>, LinearError> {
    let dims = covariance.nrows();
    let mean = (0..dims).map(|at| covariance[(at, at)]).sum::<f64>() / dims.max(1) as f64;
    let mut ridge = 0.0;
    loop {
        let mut drawn = covariance.clone();
        for at in 0..dims {
            drawn[(at, at)] += ridge;
        }
        match drawn.llt(Side::Lower) {
            Ok(factor) => return Ok(factor),
            Err(_) if ridge > mean.max(1.0) => {
                return Err(LinearError::Singular { samples, features: dims });
            }
            Err(_) => ridge = if ridge == 0.0 { 1e-9 * mean.max(1e-3) } else { ridge * 100.0 },
        }
    }
}

/// The covariance of centred rows, shrunk as far as Ledoit and Wolf say for features of deviation 1.
fn shrunk(mut centred: Mat<f64>) -> Mat<f64> {
    let (samples, dims) = (centred.nrows() as f64, centred.ncols());
    let mut deviations = vec![1.0; dims];
    for feature in 0..dims {
        let deviation = (centred.col(feature).squared_norm_l2() / samples).sqrt();
        if deviation > 1e-9 {
            deviations[feature] = deviation;
        }
        for at in 0..centred.nrows() {
            centred[(at, feature)] /= deviations[feature];
        }
    }
    let mut covariance = (1.0 / samples) * (centred.transpose() * &centred);
    let mean = (0..dims).map(|at| covariance[(at, at)]).sum::<f64>() / dims as f64;
    let squares = covariance.squared_norm_l2();
    // The mean square of a sample's own outer product, of which the covariance is the mean.
    let norms: f64 = (0..centred.nrows()).map(|at| centred.row(at).squared_norm_l2().powi(2)).sum();
    let spread = (norms / samples - squares) / samples;
    let distance = squares - dims as f64 * mean * mean;
    let spread = spread.min(distance).max(0.0);
    let share = if spread == 0.0 || distance <= 0.0 { 0.0 } else { spread / distance };
    for row in 0..dims {
        for column in 0..dims {
            covariance[(row, column)] *= 1.0 - share;
        }
        covariance[(row, row)] += share * mean;
    }
    Mat::from_fn(dims, dims, |row, column| covariance[(row, column)] * deviations[row] * deviations[column])
}
