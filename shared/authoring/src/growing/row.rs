//! The gate's new row: high on samples of the new product, and so low on old ones that its share of the softmax is nothing.

use super::gate::Row;
use crate::linear::{Rows, discriminant};

/// So far below the best old score, in nats, a share is nothing: e^-60 is lost beside 1 in 53 bits, and so is a thousand of them.
pub(super) const NOTHING: f64 = 60.0;
/// Further below than it must be.
const SPARE: f64 = 20.0;
/// So far above the best old score a share is nearly everything.
const SURE: f64 = 10.0;
/// A score that is nothing beside any other.
const NEVER: f32 = -1e4;
/// Share of the new product's samples that the gate may miss: a few odd ones must not decide where the line lies.
const MISSED: f64 = 0.05;

/// Embeddings of a sample, one after the other, and the gate's best old score.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) embeddings: Vec<f32>,
    pub(super) best: f64,
}

/// A row that is never chosen by the gate.
pub(super) fn never(dims: usize) -> Row {
    Row { weights: vec![0.0; dims], bias: NEVER }
}

/// Fits the row; `None`: no line lies between old and new samples with room on its sides.
pub(super) fn fit(old: &[Placed], new: &[Placed]) -> Option<Row> {
    let dims = new.first()?.embeddings.len();
    let mut rows = Rows::new(dims);
    let mut classes = Vec::new();
    for (class, placed) in old.iter().map(|one| (0, one)).chain(new.iter().map(|one| (1, one))) {
        rows.push(&placed.embeddings);
        classes.push(class);
    }
    let head = discriminant(&rows, &classes, 2).ok()?;
    let along = |placed: &Placed| {
        let logits = head.logits(&placed.embeddings);
        logits[1] - logits[0]
    };
    let highest_old = old.iter().map(along).reduce(f64::max)?;
    let mut of_new: Vec<f64> = new.iter().map(along).collect();
    of_new.sort_by(f64::total_cmp);
    let low_new = of_new[(MISSED * of_new.len() as f64) as usize];
    let gap = low_new - highest_old;
    if gap.is_nan() || gap <= 0.0 {
        return None;
    }
    // Old samples end where the gap is half over: others that were not seen may lie a little further.
    let (from, to) = (highest_old + 0.5 * gap, low_new);
    let lowest = old.iter().map(|placed| placed.best).reduce(f64::min)? - NOTHING - SPARE;
    let highest = new.iter().map(|placed| placed.best).reduce(f64::max)? + SURE;
    let slope = (highest - lowest).max(0.0) / (to - from);
    let weights =
        head.weight.chunks_exact(2).map(|pair| (slope * f64::from(pair[1] - pair[0])) as f32).collect();
    let bias = slope * (f64::from(head.bias[1] - head.bias[0]) - to) + highest;
    let row = Row { weights, bias: bias as f32 };
    let is_finite = row.bias.is_finite() && row.weights.iter().all(|number| number.is_finite());
    is_finite.then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(row: &Row, placed: &Placed) -> f64 {
        let sum = row.weights.iter().zip(&placed.embeddings).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        sum + f64::from(row.bias)
    }

    fn placed(x: f32, y: f32) -> Placed {
        Placed { embeddings: vec![x, y], best: 3.0 + f64::from(y) }
    }

    #[test]
    fn old_samples_are_left_far_below_and_new_ones_are_chosen() {
        let old: Vec<Placed> =
            (0..40).map(|at| placed((at % 7) as f32 * 0.1, (at % 5) as f32 * 0.2)).collect();
        let new: Vec<Placed> =
            (0..40).map(|at| placed(4.0 + (at % 7) as f32 * 0.1, (at % 3) as f32 * 0.2)).collect();
        let row = fit(&old, &new).unwrap();
        assert!(old.iter().all(|one| score(&row, one) <= one.best - NOTHING));
        let chosen = new.iter().filter(|one| score(&row, one) > one.best).count();
        assert!(chosen >= 38, "{chosen}");
    }

    #[test]
    fn where_no_line_lies_between_there_is_no_row() {
        let both: Vec<Placed> = (0..40).map(|at| placed((at % 7) as f32, (at % 5) as f32)).collect();
        assert_eq!(fit(&both, &both), None);
        assert_eq!(fit(&[], &both), None);
        assert_eq!(fit(&both, &[]), None);
        assert_eq!(score(&never(2), &both[3]), -1e4);
    }
}
