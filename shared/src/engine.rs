//! Runs ONNX models. The only module that names tract.
//!
//! A model is loaded once ([`Model::load`]) into a plan specialised for one sample, because a plan with a symbolic batch
//! axis runs convolutions 6 to 28 times slower in tract. The plan is shared; each thread that computes holds a
//! [`Session`] of its own, which costs next to nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimplePlan;
use tract_onnx::tract_hir::infer::Factoid;

use crate::tensor::Tensor as Fp32;

/// What runs the models, as decisions and metrics name it.
pub const ENGINE: &str = "tract";
/// Opsets of the default ONNX domain that are accepted.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=20;

type Plan = TypedSimplePlan;

/// A named input or output, with the batch axis (1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub shape: Vec<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    #[error("opset {found} of the default domain is not in {}..={}", OPSETS.start(), OPSETS.end())]
    Opset { found: i64 },
    #[error("inputs are {found:?}, the manifest says {expected:?}")]
    Inputs { expected: Vec<String>, found: Vec<String> },
    #[error("input `{name}` has shape {found}, the manifest says {expected:?}")]
    InputShape { name: String, expected: Vec<usize>, found: String },
    #[error("output `{0}` is missing")]
    MissingOutput(String),
    #[error("output `{name}` has shape {found}, the manifest says {expected:?}")]
    OutputShape { name: String, expected: Vec<usize>, found: String },
    #[error("cannot be prepared: {0}")]
    Prepare(String),
    #[error("got {got} inputs, needs {expected}")]
    InputCount { expected: usize, got: usize },
    #[error("input `{name}` needs shape {expected:?}, got {got:?}")]
    InputValue { name: String, expected: Vec<usize>, got: Vec<usize> },
    #[error("failed while running: {0}")]
    Run(String),
}

/// A model ready to run on one sample at a time.
pub struct Model {
    plan: Arc<Plan>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Model {
    /// `inputs` are the model's inputs in the order in which [`Session::run`] will get them, each with batch axis 1.
    pub fn load(onnx: &[u8], inputs: &[Port]) -> Result<Self, EngineError> {
        // tract indexes into what the file says; a file can be wrong in more ways than it checks.
        catch_unwind(AssertUnwindSafe(|| load(onnx, inputs)))
            .unwrap_or_else(|_| Err(EngineError::Prepare("the file is inconsistent".to_owned())))
    }

    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// In the order in which [`Session::run`] gives them.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|port| port.name == name)
    }

    /// The index of `name`, which must have this shape (with batch axis 1).
    pub fn require_output(&self, name: &str, shape: &[usize]) -> Result<usize, EngineError> {
        let index = self.output_index(name).ok_or_else(|| EngineError::MissingOutput(name.to_owned()))?;
        let found = &self.outputs[index].shape;
        if found != shape {
            return Err(EngineError::OutputShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: format!("{found:?}"),
            });
        }
        Ok(index)
    }

    pub fn session(self: &Arc<Self>) -> Result<Session, EngineError> {
        let state = self.plan.spawn().map_err(|error| EngineError::Prepare(chain(&error)))?;
        Ok(Session { state, model: Arc::clone(self) })
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// One thread's state for one model.
pub struct Session {
    state: TypedSimpleState,
    model: Arc<Model>,
}

impl Session {
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// All outputs for one sample. `inputs` in the order given to [`Model::load`].
    pub fn run(&mut self, inputs: Vec<Fp32>) -> Result<Vec<Fp32>, EngineError> {
        let ports = &self.model.inputs;
        if inputs.len() != ports.len() {
            return Err(EngineError::InputCount { expected: ports.len(), got: inputs.len() });
        }
        for (port, input) in ports.iter().zip(&inputs) {
            if input.shape() != port.shape {
                return Err(EngineError::InputValue {
                    name: port.name.clone(),
                    expected: port.shape.clone(),
                    got: input.shape().to_vec(),
                });
            }
        }
        let state = &mut self.state;
        let ran = catch_unwind(AssertUnwindSafe(|| run(state, inputs)));
        match ran {
            Ok(result) => result.map_err(|error| EngineError::Run(chain(&error))),
            Err(_) => {
                // What a panic left half done must not reach the next sample.
                self.state = self.model.plan.spawn().map_err(|error| EngineError::Prepare(chain(&error)))?;
                Err(EngineError::Run("the engine panicked".to_owned()))
            }
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).finish_non_exhaustive()
    }
}

fn load(onnx: &[u8], expected: &[Port]) -> Result<Model, EngineError> {
    let prepare = |error: TractError| EngineError::Prepare(chain(&error));
    let framework = tract_onnx::onnx();
    let proto =
        framework.proto_model_for_read(&mut &*onnx).map_err(|error| EngineError::NotOnnx(chain(&error)))?;
    check_opset(&proto)?;
    let mut model = framework.parse(&proto, None).map_err(prepare)?.model;

    let outlets = model.input_outlets().map_err(prepare)?.to_vec();
    let found: Vec<String> = outlets.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let mut order = Vec::with_capacity(expected.len());
    for port in expected {
        let Some(index) = found.iter().position(|name| *name == port.name) else {
            return Err(inputs_differ(expected, found));
        };
        check_input_shape(&model, index, port)?;
        let fact = InferenceFact::dt_shape(f32::datum_type(), &*port.shape);
        model.set_input_fact(index, fact).map_err(prepare)?;
        order.push(outlets[index]);
    }
    if order.len() != found.len() {
        return Err(inputs_differ(expected, found));
    }
    model.set_input_outlets(&order).map_err(prepare)?;

    let names: Vec<String> = model
        .output_outlets()
        .map_err(prepare)?
        .iter()
        .map(|outlet| model.outlet_label(*outlet).map_or_else(String::new, str::to_owned))
        .collect();
    let typed = model.into_optimized().map_err(prepare)?;
    let mut outputs = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let fact = typed.output_fact(index).map_err(prepare)?;
        if fact.datum_type != f32::datum_type() {
            return Err(EngineError::Prepare(format!("output `{name}` is {:?}, not FP32", fact.datum_type)));
        }
        let Some(shape) = fact.shape.as_concrete() else {
            return Err(EngineError::Prepare(format!(
                "output `{name}` has the unknown shape {:?}",
                fact.shape
            )));
        };
        outputs.push(Port { name, shape: shape.to_vec() });
    }
    let plan = SimplePlan::new(typed).map_err(prepare)?;
    Ok(Model { plan, inputs: expected.to_vec(), outputs })
}

fn check_opset(proto: &pb::ModelProto) -> Result<(), EngineError> {
    for import in &proto.opset_import {
        let default_domain = import.domain.is_empty() || import.domain == "ai.onnx";
        if default_domain && !OPSETS.contains(&import.version) {
            return Err(EngineError::Opset { found: import.version });
        }
    }
    if proto.opset_import.is_empty() {
        return Err(EngineError::NotOnnx("it imports no operator set".to_owned()));
    }
    Ok(())
}

/// What the file declares must agree with `port` on every axis that it fixes.
fn check_input_shape(model: &InferenceModel, index: usize, port: &Port) -> Result<(), EngineError> {
    let fact = model.input_fact(index).map_err(|error| EngineError::Prepare(chain(&error)))?;
    let declared: Vec<Option<i64>> =
        fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok())).collect();
    let agrees = declared.len() == port.shape.len()
        && declared.iter().zip(&port.shape).all(|(got, want)| got.is_none_or(|got| got == *want as i64));
    if agrees || fact.shape.is_open() {
        return Ok(());
    }
    let found: Vec<String> =
        declared.iter().map(|dim| dim.map_or_else(|| "N".to_owned(), |dim| dim.to_string())).collect();
    Err(EngineError::InputShape {
        name: port.name.clone(),
        expected: port.shape.clone(),
        found: format!("[{}]", found.join(", ")),
    })
}

fn inputs_differ(expected: &[Port], found: Vec<String>) -> EngineError {
    EngineError::Inputs { expected: expected.iter().map(|port| port.name.clone()).collect(), found }
}

fn run(state: &mut TypedSimpleState, inputs: Vec<Fp32>) -> TractResult<Vec<Fp32>> {
    let mut values: TVec<TValue> = tvec!();
    for input in inputs {
        let shape = input.shape().to_vec();
        values.push(Tensor::from_shape(&shape, input.values())?.into_tvalue());
    }
    state
        .run(values)?
        .into_iter()
        .map(|output| {
            let view = output.to_plain_array_view::<f32>()?;
            Ok(Fp32::new(view.shape().to_vec(), view.iter().copied().collect())?)
        })
        .collect()
}

/// The whole chain of causes on one line.
fn chain(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}
