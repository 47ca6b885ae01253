//! Multinomial logistic regression with a penalty on the squares of the weights, by L-BFGS.

use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use faer::Mat;

use super::standard::Standard;
use super::{Head, LinearError, Rows};

/// Steps that the search remembers.
const MEMORY: usize = 10;
/// Most steps of the search; what it has then is as good as it gets on features that nearly repeat each other.
const STEPS: u64 = 200;
/// The search ends when the gradient is this short.
const SHORTEST: f64 = 1e-5;

/// Fits a head. `classes` holds the class of each row, under `count`, and `weights` what each row counts. `strength` is the
/// weight of the data against the penalty, scikit-learn's `C`.
pub fn logistic(
    rows: &Rows,
    classes: &[usize],
    weights: &[f64],
    count: usize,
    strength: f64,
) -> Result<Head, LinearError> {
    rows.check()?;
    let standard = Standard::of(rows);
    let problem = Problem { x: standard.apply(rows), classes, weights, count, strength };
    let dims = rows.dims();
    let start = vec![0.0; (dims + 1) * count];
    let refuse = |error: Error| LinearError::Search(error.to_string());
    let search = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY);
    let search = search.with_tolerance_grad(SHORTEST).map_err(refuse)?;
    let executor =
        Executor::new(problem, search).configure(|state| state.param(start).max_iters(STEPS)).timer(false);
    let result = executor.run().map_err(refuse)?;
    let best = result.state.get_best_param().or_else(|| result.state.get_param());
    let best = best.ok_or_else(|| LinearError::Search("nothing was found".to_owned()))?;
    let weight = Mat::from_fn(dims, count, |feature, class| best[feature * count + class]);
    Ok(standard.folded(&weight, &best[dims * count..]))
}

/// What is made small: the mean of the rows' losses by their weights and half the squares of the head's weights.
struct Problem<'a> {
    x: Mat<f64>,
    classes: &'a [usize],
    weights: &'a [f64],
    count: usize,
    strength: f64,
}

impl Problem<'_> {
    /// The loss, and for each row and class the derivative by its logit.
    fn losses(&self, parameters: &[f64]) -> (f64, Mat<f64>) {
        let (dims, count) = (self.x.ncols(), self.count);
        let weight = Mat::from_fn(dims, count, |feature, class| parameters[feature * count + class]);
        let mut logits = &self.x * &weight;
        let bias = &parameters[dims * count..];
        let mut loss = 0.0;
        for (at, (class, sample)) in self.classes.iter().zip(self.weights).enumerate() {
            let logit = |class: usize| logits[(at, class)] + bias[class];
            let highest = (0..count).map(logit).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = (0..count).map(|class| (logit(class) - highest).exp()).sum();
            loss += sample * (highest + total.ln() - logit(*class));
            for other in 0..count {
                let probability = (logits[(at, other)] + bias[other] - highest).exp() / total;
                let target = if other == *class { 1.0 } else { 0.0 };
                logits[(at, other)] = self.strength * sample * (probability - target);
            }
        }
        let squares: f64 = parameters[..dims * count].iter().map(|weight| weight * weight).sum();
        (self.strength * loss + 0.5 * squares, logits)
    }
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.losses(parameters).0)
    }
}

impl Gradient for Problem<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Vec<f64>) -> Result<Vec<f64>, Error> {
        let (_, derivative) = self.losses(parameters);
        let (dims, count) = (self.x.ncols(), self.count);
        let of_weights = self.x.transpose() * &derivative;
        let mut gradient = parameters.clone();
        for feature in 0..dims {
            for class in 0..count {
                gradient[feature * count + class] += of_weights[(feature, class)];
            }
        }
        for class in 0..count {
            gradient[dims * count + class] = derivative.col(class).iter().sum();
        }
        Ok(gradient)
    }
}
