//! How likely an expert is right on a sample, by its confidence and the gate's share: a logistic regression, lightly pulled
//! towards what is true of a calibrated expert, with weights that cannot turn round.

use millgate_model::manifest::Competence;

/// Towards these it is pulled, as strongly as by one sample: bias, confidence, gate.
const PRIOR: [f64; 3] = [0.0, 1.0, 0.5];
/// Least of each weight: more confidence never makes an expert less trusted.
const LEAST: [f64; 3] = [f64::NEG_INFINITY, 0.05, 0.0];
/// Distance at which confidence and share are kept from 0 and 1, as where competence is computed.
const FLOOR: f64 = 1e-6;
/// Steps of Newton's method at most; it takes about ten.
const STEPS: usize = 200;

/// One answer of an expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Its highest probability.
    pub confidence: f64,
    /// Its share of the gate's softmax over the eligible experts.
    pub share: f64,
    pub is_right: bool,
    pub weight: f64,
}

/// What is known of an expert of which there are no answers.
pub fn prior() -> Competence {
    of(PRIOR)
}

/// Fits an expert's competence: the minimum of the log loss and half the squared distance to the prior. A weight of the gate
/// that is given stays: samples of one product show nothing of what keeps an expert from answering for another.
pub fn fit(answers: &[Answer], gate: Option<f64>) -> Competence {
    let rows: Vec<Row> = answers.iter().map(Row::of).collect();
    let mut weights = PRIOR;
    weights[2] = gate.unwrap_or(weights[2]);
    for _ in 0..STEPS {
        let (gradient, hessian) = derivatives(&rows, weights);
        // At a bound that the loss would go beyond, a weight stands still.
        let mut is_free: [bool; 3] = std::array::from_fn(|at| weights[at] > LEAST[at] || gradient[at] < 0.0);
        is_free[2] &= gate.is_none();
        let step = newton(gradient, hessian, is_free);
        let start = loss(&rows, weights);
        let Some(next) = downhill(&rows, weights, step, gradient, start) else { break };
        let moved = (0..3).map(|at| (next[at] - weights[at]).abs()).fold(0.0, f64::max);
        weights = next;
        if moved < 1e-12 {
            break;
        }
    }
    of(weights)
}

fn of([bias, confidence, gate]: [f64; 3]) -> Competence {
    Competence { bias, confidence, gate }
}

struct Row {
    x: [f64; 3],
    y: f64,
    weight: f64,
}

impl Row {
    fn of(answer: &Answer) -> Self {
        let confidence = answer.confidence.clamp(FLOOR, 1.0 - FLOOR);
        let x = [1.0, (confidence / (1.0 - confidence)).ln(), answer.share.clamp(FLOOR, 1.0).ln()];
        Self { x, y: f64::from(u8::from(answer.is_right)), weight: answer.weight }
    }

    fn z(&self, weights: [f64; 3]) -> f64 {
        (0..3).map(|at| self.x[at] * weights[at]).sum()
    }
}

fn loss(rows: &[Row], weights: [f64; 3]) -> f64 {
    // ln(1 + e^z) without overflow.
    let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
    let of_row = |row: &Row| {
        let z = row.z(weights);
        row.weight * (softplus(z) - row.y * z)
    };
    let pull: f64 = (0..3).map(|at| (weights[at] - PRIOR[at]).powi(2)).sum();
    rows.iter().map(of_row).sum::<f64>() + 0.5 * pull
}

fn derivatives(rows: &[Row], weights: [f64; 3]) -> ([f64; 3], [[f64; 3]; 3]) {
    let mut gradient: [f64; 3] = std::array::from_fn(|at| weights[at] - PRIOR[at]);
    let mut hessian = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for row in rows {
        let p = 1.0 / (1.0 + (-row.z(weights)).exp());
        for ((slope, curve), own) in gradient.iter_mut().zip(&mut hessian).zip(row.x) {
            *slope += row.weight * (p - row.y) * own;
            for (curve, other) in curve.iter_mut().zip(row.x) {
                *curve += row.weight * p * (1.0 - p) * own * other;
            }
        }
    }
    (gradient, hessian)
}

/// The step that solves `hessian · step = -gradient` over the free weights, by elimination; the matrix is positive definite.
fn newton(gradient: [f64; 3], mut hessian: [[f64; 3]; 3], is_free: [bool; 3]) -> [f64; 3] {
    let mut right: [f64; 3] = std::array::from_fn(|at| if is_free[at] { -gradient[at] } else { 0.0 });
    for (i, row) in hessian.iter_mut().enumerate() {
        for (j, number) in row.iter_mut().enumerate() {
            if i != j && !(is_free[i] && is_free[j]) {
                *number = 0.0;
            }
        }
    }
    for pivot in 0..3 {
        let (above, of_above) = (hessian[pivot], right[pivot]);
        for (row, right) in hessian.iter_mut().zip(&mut right).skip(pivot + 1) {
            let factor = row[pivot] / above[pivot];
            row.iter_mut().zip(above).for_each(|(number, above)| *number -= factor * above);
            *right -= factor * of_above;
        }
    }
    let mut step = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|column| hessian[row][column] * step[column]).sum();
        step[row] = (right[row] - known) / hessian[row][row];
    }
    step
}

/// The weights along a step, kept within their bounds, where the loss has fallen enough; `None`: it falls no more.
fn downhill(
    rows: &[Row],
    weights: [f64; 3],
    step: [f64; 3],
    gradient: [f64; 3],
    start: f64,
) -> Option<[f64; 3]> {
    let mut scale = 1.0;
    for _ in 0..60 {
        let next: [f64; 3] = std::array::from_fn(|at| (weights[at] + scale * step[at]).max(LEAST[at]));
        let slope: f64 = (0..3).map(|at| gradient[at] * (next[at] - weights[at])).sum();
        if slope < 0.0 && loss(rows, next) <= start + 1e-4 * slope {
            return Some(next);
        }
        scale *= 0.5;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::tests::numbers;

    fn answers(seed: u64, count: usize, is_turned: bool) -> Vec<Answer> {
        let mut numbers = numbers(seed);
        let mut next = || numbers.next().unwrap();
        (0..count)
            .map(|at| {
                let (sure, root, luck) = (next(), next(), next());
                let share = root * root;
                let is_right = luck < 0.2 + 0.5 * sure + 0.3 * root;
                Answer {
                    confidence: 0.5 + 0.5 * sure,
                    share,
                    is_right: is_right != (is_turned && sure > 0.5),
                    weight: if at % 3 == 0 { 0.5 } else { 1.0 },
                }
            })
            .collect()
    }

    /// Minima of the same loss as SciPy 1.17.1's L-BFGS-B finds them, with gradients and to its last step.
    #[test]
    fn the_fit_is_that_of_scipy() {
        let known = [
            (11, 400, false, [0.360_110_411_664_503_8, 0.313_604_580_447_832_2, 0.206_562_946_769_639_13]),
            (12, 60, true, [-0.234_834_877_264_822_16, 0.05, 0.117_492_223_366_070_82]),
            (13, 5, false, [0.068_615_144_899_379_11, 1.364_223_680_853_492_9, 0.483_757_244_460_142_8]),
        ];
        for (seed, count, is_turned, expected) in known {
            let found = fit(&answers(seed, count, is_turned), None);
            for (found, expected) in [found.bias, found.confidence, found.gate].into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{seed}: {found:?}, not {expected:?}");
            }
        }
    }

    #[test]
    fn a_weight_that_is_given_stays() {
        let (free, held) = (fit(&answers(11, 400, false), None), fit(&answers(11, 400, false), Some(2.0)));
        assert_eq!(held.gate, 2.0);
        assert!(held.bias > free.bias, "what the gate takes away is given back: {held:?}");
    }

    #[test]
    fn nothing_known_is_the_prior() {
        assert_eq!(fit(&[], None), prior());
    }

    #[test]
    fn an_expert_that_is_always_wrong_is_not_trusted() {
        let wrong = Answer { confidence: 0.99, share: 0.9, is_right: false, weight: 1.0 };
        let fitted = fit(&vec![wrong; 500], None);
        assert!(fitted.bias < -1.0 && fitted.confidence >= 0.05 && fitted.gate >= 0.0, "{fitted:?}");
        // Numbers at their ends are numbers still.
        let edge = Answer { confidence: 1.0, share: 0.0, is_right: true, weight: 1.0 };
        assert!(fit(&[edge, edge], None).bias.is_finite());
    }
}
