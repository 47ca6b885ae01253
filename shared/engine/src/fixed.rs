//! A model that takes one sample at a time, of shapes and in an order that a manifest gives, and answers in FP32: a
//! bundle's models.

use std::sync::Arc;

use millgate_array::{Array, Datatype};

use crate::error::{EngineError, OPSETS};
use crate::port::{Axis, Port};
use crate::running::{Engine, Model, OnnxFile, Session, Shapes};

/// Named input or output, with a batch axis of 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedPort {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Model that runs on one sample at a time.
#[derive(Debug)]
pub struct FixedModel {
    model: Arc<dyn Model>,
    inputs: Vec<FixedPort>,
    outputs: Vec<FixedPort>,
    /// Place of each of the file's inputs among ours.
    order: Vec<usize>,
}

impl FixedModel {
    /// Loads a model. `inputs` are its inputs in the order in which [`FixedSession::run`] will get them; an error if
    /// the file has others.
    pub fn load(engine: &dyn Engine, onnx: &[u8], inputs: &[FixedPort]) -> Result<Self, EngineError> {
        let file = OnnxFile::read(bytes::Bytes::copy_from_slice(onnx), None)?;
        let opset = file.signature.opsets.get("").copied();
        if let Some(found) = opset.filter(|version| !OPSETS.contains(version)) {
            return Err(EngineError::Opset { found });
        }
        let order = order(&file, inputs)?;
        let shapes: Vec<Vec<usize>> = order.iter().map(|at| inputs[*at].shape.clone()).collect();
        let model = engine.load(&file, Shapes::Only(&shapes))?;
        let outputs = model.signature().outputs.iter().map(output).collect::<Result<_, _>>()?;
        Ok(Self { model, inputs: inputs.to_vec(), outputs, order })
    }

    /// Gives the same model run by `model`: the same file, loaded by another engine or for more shapes.
    pub fn run_by(&self, model: Arc<dyn Model>) -> Self {
        Self { model, inputs: self.inputs.clone(), outputs: self.outputs.clone(), order: self.order.clone() }
    }

    /// The name of the engine that runs it.
    pub fn engine(&self) -> &'static str {
        self.model.engine()
    }

    pub fn inputs(&self) -> &[FixedPort] {
        &self.inputs
    }

    /// Outputs, in the order in which [`FixedSession::run`] gives them.
    pub fn outputs(&self) -> &[FixedPort] {
        &self.outputs
    }

    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|port| port.name == name)
    }

    /// Finds the output `name`, which must have this shape (with batch axis 1).
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

    pub fn session(self: &Arc<Self>) -> Result<FixedSession, EngineError> {
        Ok(FixedSession { session: Arc::clone(&self.model).session()?, model: Arc::clone(self) })
    }
}

/// State of one thread for one model.
pub struct FixedSession {
    session: Box<dyn Session>,
    model: Arc<FixedModel>,
}

impl FixedSession {
    pub fn model(&self) -> &Arc<FixedModel> {
        &self.model
    }

    /// Runs one sample and gives all outputs, as FP32. `inputs` are in the order given to [`FixedModel::load`].
    pub fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
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
        let mut inputs: Vec<Option<Array>> = inputs.into_iter().map(Some).collect();
        let ordered: Vec<Array> = self.model.order.iter().filter_map(|at| inputs[*at].take()).collect();
        for (port, input) in self.model.model.signature().inputs.iter().zip(&ordered) {
            if input.datatype() != port.datatype {
                let (expected, found) = (port.datatype, input.datatype());
                return Err(EngineError::InputType { name: port.name.clone(), expected, found });
            }
        }
        let outputs = self.session.run(ordered)?;
        for output in &outputs {
            output.as_fp32()?;
        }
        Ok(outputs)
    }
}

impl std::fmt::Debug for FixedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedSession").field("model", &self.model).finish_non_exhaustive()
    }
}

/// Place of each of the file's inputs in `expected`. The shapes must agree on every axis that the file fixes.
fn order(file: &OnnxFile, expected: &[FixedPort]) -> Result<Vec<usize>, EngineError> {
    let inputs = &file.signature.inputs;
    let differ = || EngineError::Inputs {
        expected: expected.iter().map(|port| port.name.clone()).collect(),
        found: inputs.iter().map(|port| port.name.clone()).collect(),
    };
    if inputs.len() != expected.len() {
        return Err(differ());
    }
    let mut order = Vec::with_capacity(inputs.len());
    for input in inputs {
        let at = expected.iter().position(|port| port.name == input.name).ok_or_else(differ)?;
        let port = &expected[at];
        let fits = |(axis, length): (&Axis, &usize)| !matches!(axis, Axis::Fixed(fixed) if fixed != length);
        let agrees = input
            .shape
            .as_ref()
            .is_none_or(|axes| axes.len() == port.shape.len() && axes.iter().zip(&port.shape).all(fits));
        if !agrees {
            let (name, expected) = (port.name.clone(), port.shape.clone());
            return Err(EngineError::InputShape {
                name,
                expected,
                found: format!("{:?}", input.wire_shape()),
            });
        }
        order.push(at);
    }
    Ok(order)
}

fn output(port: &Port) -> Result<FixedPort, EngineError> {
    let name = port.name.clone();
    if port.datatype != Datatype::Fp32 {
        return Err(EngineError::Prepare(format!("output `{name}` is {}, not FP32", port.datatype)));
    }
    let fixed = |axis: &Axis| match axis {
        Axis::Fixed(length) => Some(*length),
        Axis::Named(_) | Axis::Any => None,
    };
    let shape: Option<Vec<usize>> = port.shape.as_ref().and_then(|axes| axes.iter().map(fixed).collect());
    let shape = shape
        .ok_or_else(|| EngineError::Prepare(format!("output `{name}` has a shape that nothing fixes")))?;
    Ok(FixedPort { name, shape })
}
