//! Plans, and what they are made for: the shapes of all inputs, and the values of some.

use std::collections::HashMap;
use std::sync::Arc;

use millgate_array::{Array, Datatype};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::plan::SimplePlan;
use tract_onnx::tract_core::transform::get_transform;

use super::arrays::{datum, to_tract};
use super::checked::later::{Fact, Later};
use super::unable;
use crate::error::EngineError;
use crate::signature::Signature;

/// Most elements of whole numbers or flags whose values a plan may be made for: axes, sizes, counts and flags have
/// few, weights and samples many.
const MOST_INTEGERS: usize = 64;
/// Most elements of floating point whose values a plan may be made for: scales and limits.
const MOST_FLOATS: usize = 16;

pub(super) type Plan = TypedSimplePlan;
pub(super) type State = TypedSimpleState;

/// Inputs that a plan is made for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    /// Shapes, in the order of the signature.
    pub(super) shapes: Vec<Vec<usize>>,
    /// Inputs whose values the plan holds, by their place.
    pub(super) values: Vec<(usize, Array)>,
}

impl Given {
    pub(super) fn shapes_of(inputs: &[Array]) -> Self {
        Self { shapes: inputs.iter().map(|input| input.shape().to_vec()).collect(), values: Vec::new() }
    }

    /// Adds the values of all inputs that may be axes, sizes, counts, flags, scales or limits.
    pub(super) fn with_values(&self, inputs: &[Array]) -> Self {
        let is_small = |input: &Array| {
            let (count, rank) = (input.values().len(), input.shape().len());
            match input.datatype() {
                Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => {
                    rank <= 1 && count <= MOST_FLOATS
                }
                Datatype::Bytes => false,
                _ => count <= MOST_INTEGERS,
            }
        };
        let small = inputs.iter().enumerate().filter(|(_, input)| is_small(input));
        Self { shapes: self.shapes.clone(), values: small.map(|(at, input)| (at, input.clone())).collect() }
    }

    /// The inputs that are still to be given.
    pub(super) fn left_of(&self, inputs: Vec<Array>) -> Vec<Array> {
        let is_held = |at: usize| self.values.iter().any(|(held, _)| *held == at);
        inputs.into_iter().enumerate().filter(|(at, _)| !is_held(*at)).map(|(_, input)| input).collect()
    }
}

pub(super) fn specialise(
    mut model: InferenceModel,
    signature: &Signature,
    given: &Given,
    needs: &[Later],
) -> Result<Arc<Plan>, EngineError> {
    let prepare = |error: TractError| unable(&error);
    for (index, (port, shape)) in signature.inputs.iter().zip(&given.shapes).enumerate() {
        let fact = InferenceFact::dt_shape(datum(port.datatype)?, shape.as_slice());
        model.set_input_fact(index, fact).map_err(prepare)?;
    }
    let mut left = model.input_outlets().map_err(prepare)?.to_vec();
    // From the last, so that places stay what they are.
    for (at, value) in given.values.iter().rev() {
        let outlet = left.remove(*at);
        let value = Const::new(to_tract(value.clone())?.into_arc_tensor()).map_err(prepare)?;
        model.node_mut(outlet.node).op = Box::new(value);
    }
    if !given.values.is_empty() {
        model.set_input_outlets(&left).map_err(prepare)?;
    }
    let typed = model.into_typed().map_err(prepare)?;
    if !needs.is_empty() {
        let labels: HashMap<&str, OutletId> =
            typed.outlet_labels.iter().map(|(outlet, label)| (label.as_str(), *outlet)).collect();
        let held = |name: &str| given.values.iter().find(|(at, _)| signature.inputs[*at].name == name);
        // A value that is held may have been computed away by now.
        let fact = |name: &str| match held(name) {
            Some((_, value)) => of_value(value),
            None => fact(&typed, &labels, name),
        };
        if let Some(what) = needs.iter().find_map(|need| need.fails(fact)) {
            return Err(EngineError::Untrusted(what));
        }
    }
    let mut typed = typed.into_decluttered().map_err(prepare)?;
    if signature.is_depthwise
        && let Some(transform) = get_transform("conv_nhwc").map_err(prepare)?
    {
        transform.transform(&mut typed).map_err(prepare)?;
        typed = typed.into_decluttered().map_err(prepare)?;
    }
    let optimized = typed.into_optimized().map_err(prepare)?;
    SimplePlan::new(optimized).map_err(prepare)
}

/// Whether every value that a plan computes has a shape that the plan knows.
pub(super) fn is_of_known_size(plan: &Plan) -> bool {
    let mut facts = plan.model().nodes.iter().flat_map(|node| &node.outputs);
    facts.all(|outlet| outlet.fact.shape.as_concrete().is_some())
}

fn of_value(value: &Array) -> Fact {
    let tensor = to_tract(value.clone()).ok();
    Fact {
        is_float: tensor.as_ref().map(|tensor| tensor.datum_type().is_float()),
        shape: Some(value.shape().to_vec()),
        elements: tensor.as_ref().and_then(elements),
    }
}

fn elements(tensor: &Tensor) -> Option<Vec<i64>> {
    let whole = tensor.cast_to::<i64>().ok()?;
    let view = whole.try_as_plain_ram().ok()?;
    Some(view.as_slice::<i64>().ok()?.to_vec())
}

/// Facts that are known of a value of the file.
fn fact(model: &TypedModel, labels: &HashMap<&str, OutletId>, name: &str) -> Fact {
    let named = || model.nodes.iter().find(|node| node.name == name).map(|node| OutletId::new(node.id, 0));
    let Some(outlet) = labels.get(name).copied().or_else(named) else { return Fact::default() };
    let Ok(fact) = model.outlet_fact(outlet) else { return Fact::default() };
    let elements = fact.konst.as_ref().and_then(|value| elements(value));
    Fact {
        is_float: Some(fact.datum_type.is_float()),
        shape: fact.shape.as_concrete().map(<[usize]>::to_vec),
        elements,
    }
}
