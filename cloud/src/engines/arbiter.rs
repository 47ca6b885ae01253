//! Two engines give different answers to the same inputs: which one is believed. A third computation tells, that of ONNX
//! Runtime with nothing rearranged for speed: each operation by itself, as the standard has it.

use std::sync::Arc;

use millgate_shared::array::Array;
use millgate_shared::engine::{EngineError, Model};

use super::closeness::{self, OF_ENGINES, OF_QUANTISED, Tolerance};
use super::trial::{Fit, Sample};

/// The answers of one engine, by what they are for.
type Answers = [(Sample, Vec<Array>)];

/// The engine whose answers are right, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Believed {
    /// ONNX Runtime.
    Reference,
    /// tract.
    Usual,
}

impl Believed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "onnxruntime",
            Self::Usual => "tract",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Which output, where, and what the values are.
    pub(crate) difference: String,
    pub(crate) believed: Believed,
    /// What has decided.
    pub(crate) why: &'static str,
}

/// How the answers of two engines to the same inputs differ, if they do; what only one has answered does not count.
/// `names` are those of the outputs.
pub(super) fn difference(
    names: &[&str],
    usual: &Answers,
    reference: &Answers,
    is_quantised: bool,
) -> Option<String> {
    let tolerance = if is_quantised { OF_QUANTISED } else { OF_ENGINES };
    for (usual, reference) in both(usual, reference) {
        for (at, (usual, reference)) in usual.iter().zip(reference).enumerate() {
            if let Some(how) = closeness::difference(usual, reference, tolerance) {
                return Some(format!("`{}` {how}", names.get(at).copied().unwrap_or_default()));
            }
        }
    }
    None
}

/// Another model's answers to what a trial has asked.
pub(super) fn answers(
    model: &Arc<dyn Model>,
    fit: &Fit,
    asked: &Answers,
) -> Result<Vec<(Sample, Vec<Array>)>, EngineError> {
    let mut session = Arc::clone(model).session()?;
    let mut answers = Vec::with_capacity(asked.len());
    for (sample, _) in asked {
        if let Some(inputs) = fit.inputs(*sample, model.signature())? {
            answers.push((*sample, session.run(inputs)?));
        }
    }
    Ok(answers)
}

/// `plain`: the third computation's answers, or why there are none.
pub(super) fn judge(
    difference: String,
    plain: Result<Vec<(Sample, Vec<Array>)>, String>,
    usual: &Answers,
    reference: &Answers,
) -> Verdict {
    let (believed, why) = match plain {
        Err(reason) => {
            tracing::debug!(reason, "no third computation");
            (Believed::Reference, "there is no third computation, and onnxruntime is the usual reference")
        }
        Ok(plain) => {
            let (of_usual, of_reference) =
                (apart(usual, &plain, OF_QUANTISED), apart(reference, &plain, OF_QUANTISED));
            if of_reference <= 1.0 {
                (Believed::Reference, "onnxruntime without its optimisations agrees with itself")
            } else if of_usual < of_reference {
                (Believed::Usual, "onnxruntime without its optimisations is nearer to tract")
            } else {
                (Believed::Reference, "onnxruntime without its optimisations is no nearer to tract")
            }
        }
    };
    Verdict { difference, believed, why }
}

/// The farthest that any two answers lie apart.
fn apart(one: &Answers, other: &Answers, tolerance: Tolerance) -> f64 {
    let pairs = both(one, other).flat_map(|(one, other)| one.iter().zip(other));
    pairs.map(|(one, other)| closeness::distance(one, other, tolerance)).fold(0.0, f64::max)
}

/// What both have answered.
fn both<'a>(one: &'a Answers, other: &'a Answers) -> impl Iterator<Item = (&'a Vec<Array>, &'a Vec<Array>)> {
    one.iter().filter_map(|(sample, one)| {
        let (_, other) = other.iter().find(|(of, _)| of == sample)?;
        Some((one, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sample: Sample, value: f32) -> Vec<(Sample, Vec<Array>)> {
        let rows = if let Sample::Rows(rows) = sample { rows } else { 1 };
        vec![(sample, vec![Array::new(vec![rows], vec![value; rows].into()).unwrap()])]
    }

    #[test]
    fn a_difference_names_the_output() {
        let outputs = |value: f32| of(Sample::Rows(1), value);
        let between = |usual: &Answers, reference: &Answers| difference(&["y"], usual, reference, false);
        assert_eq!(between(&outputs(1.0), &outputs(1.000_1)), None);
        assert_eq!(between(&outputs(1.0), &outputs(2.0)).unwrap(), "`y` is 1 at 0, not 2");
        let (two, four) = (of(Sample::Rows(2), 1.0), of(Sample::Rows(4), 2.0));
        assert_eq!(between(&two, &four), None, "nothing to compare");
        // Small values may agree where large ones do not.
        let of_both = |wide: f32| [outputs(1.0), of(Sample::Wide, wide)].concat();
        assert!(between(&of_both(3.0), &of_both(20.0)).is_some());
    }

    #[test]
    fn the_one_that_a_third_computation_agrees_with_is_believed() {
        let of = |value: f32| of(Sample::Wide, value);
        let believed = |usual: f32, reference: f32, third: Option<f32>| {
            let third = third.map(of).ok_or_else(|| "none".to_owned());
            judge("y".to_owned(), third, &of(usual), &of(reference)).believed
        };
        assert_eq!(believed(1.0, 2.0, Some(2.0)), Believed::Reference);
        assert_eq!(believed(1.0, 2.0, Some(1.0)), Believed::Usual, "onnxruntime contradicts itself");
        assert_eq!(believed(1.0, 2.0, Some(1.1)), Believed::Usual);
        assert_eq!(believed(1.0, 2.0, Some(9.0)), Believed::Reference);
        assert_eq!(believed(f32::NAN, 2.0, Some(9.0)), Believed::Reference);
        assert_eq!(believed(1.0, 2.0, None), Believed::Reference);
    }
}
