//! tract: pure Rust, so it is there wherever we are.
//!
//! A plan is made for exact shapes, because one with a symbolic batch axis runs convolutions 6 to 28 times slower. A
//! model keeps the plans of the shapes it was last given; threads share them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimplePlan;
use tract_onnx::tract_core::transform::get_transform;

use super::external::ExternalFile;
use super::{Engine, EngineError, Model, OnnxFile, Session, Shapes, Signature};
use crate::array::{Array, Datatype, Values};
use crate::panics::caught;

mod quantised;

/// Plans that a model keeps, and states that a session keeps: a client that sends ever new shapes costs time, not
/// memory.
const KEPT_PLANS: usize = 16;

type Plan = TypedSimplePlan;
type State = TypedSimpleState;
type ShapeList = Vec<Vec<usize>>;

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tract;

impl Tract {
    /// As decisions name it.
    pub const NAME: &str = "tract";
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        // tract indexes into what the file says; a file can be wrong in more ways than it checks.
        catch_unwind(AssertUnwindSafe(|| load(file, shapes)))
            .unwrap_or_else(|_| Err(EngineError::Prepare("the file is inconsistent".to_owned())))
    }
}

pub(super) fn parse(file: &[u8]) -> Result<pb::ModelProto, EngineError> {
    let framework = onnx();
    framework.proto_model_for_read(&mut &*file).map_err(|error| EngineError::NotOnnx(chain(&error)))
}

/// Most recently used last.
type Kept<T> = Vec<(ShapeList, T)>;

#[derive(Debug)]
struct TractModel {
    signature: Arc<Signature>,
    /// What plans are made from; `None` if no more will be.
    source: Option<InferenceModel>,
    plans: Mutex<Kept<Arc<Plan>>>,
}

impl Model for TractModel {
    fn engine(&self) -> &'static str {
        Tract::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn plans_by_shape(&self) -> bool {
        true
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession { model: self, states: Vec::new() }))
    }
}

impl TractModel {
    fn plan(&self, shapes: &ShapeList) -> Result<Arc<Plan>, EngineError> {
        let found = {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            recent(&mut plans, shapes).map(Arc::clone)
        };
        if let Some(plan) = found {
            return Ok(plan);
        }
        let source = self.source.as_ref();
        let source = source.ok_or_else(|| EngineError::Prepare(format!("not loaded for {shapes:?}")))?;
        // Two threads may both make it; the lock is not held for that long.
        let plan = catch_unwind(AssertUnwindSafe(|| specialise(source.clone(), &self.signature, shapes)))
            .unwrap_or_else(|_| Err(EngineError::Prepare("the engine panicked".to_owned())))?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut plans, shapes.clone(), Arc::clone(&plan));
        Ok(plan)
    }
}

struct TractSession {
    model: Arc<TractModel>,
    states: Kept<State>,
}

impl Session for TractSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        let expected = self.model.signature.inputs.len();
        if inputs.len() != expected {
            return Err(EngineError::InputCount { expected, got: inputs.len() });
        }
        let shapes: ShapeList = inputs.iter().map(|input| input.shape().to_vec()).collect();
        if recent(&mut self.states, &shapes).is_none() {
            let state = self.model.plan(&shapes)?.spawn();
            keep(&mut self.states, shapes, state.map_err(|error| EngineError::Prepare(chain(&error)))?);
        }
        let signature = Arc::clone(&self.model.signature);
        let Some((_, state)) = self.states.last_mut() else {
            return Err(EngineError::Prepare("no state".to_owned()));
        };
        let ran = caught(|| run(state, inputs, &signature));
        // A recurrent network's state goes on where the last run ended, and an error leaves one half way: neither must
        // reach the next sample.
        let is_spent = !matches!(ran, Ok(Ok(_))) || state.op_states.iter().any(Option::is_some);
        if is_spent {
            self.states.pop();
        }
        ran.unwrap_or_else(|message| Err(EngineError::Run(format!("the engine panicked: {message}"))))
    }
}

/// The entry for `shapes`, moved to the end.
fn recent<'a, T>(kept: &'a mut Kept<T>, shapes: &ShapeList) -> Option<&'a T> {
    let at = kept.iter().rposition(|(of, _)| of == shapes)?;
    if at + 1 != kept.len() {
        let entry = kept.remove(at);
        kept.push(entry);
    }
    kept.last().map(|(_, value)| value)
}

fn keep<T>(kept: &mut Kept<T>, shapes: ShapeList, value: T) {
    if kept.len() >= KEPT_PLANS {
        kept.remove(0);
    }
    kept.push((shapes, value));
}

/// Weights come from what was read, not from the file again.
struct AlreadyRead(Vec<ExternalFile>);

impl ModelDataResolver for AlreadyRead {
    fn read_bytes_from_path(
        &self,
        buffer: &mut Vec<u8>,
        path: &Path,
        offset: usize,
        length: Option<usize>,
    ) -> TractResult<()> {
        let file = self.0.iter().find(|file| file.path == path);
        let bytes = file
            .map(|file| &*file.bytes)
            .ok_or_else(|| TractError::msg(format!("{} was not read", path.display())))?;
        let end = length.map_or(Some(bytes.len()), |length| offset.checked_add(length));
        let part = end.and_then(|end| bytes.get(offset..end));
        let part = part.ok_or_else(|| TractError::msg(format!("{} is too short", path.display())))?;
        buffer.extend_from_slice(part);
        Ok(())
    }
}

fn load(file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
    let prepare = |error: TractError| EngineError::Prepare(chain(&error));
    // Shapes inside the file may name its batch axis otherwise than its inputs do, which a fixed input contradicts.
    let mut framework = onnx().with_ignore_value_info(true);
    framework.provider = Arc::new(AlreadyRead(file.external.clone()));
    let proto = parse(&file.bytes)?;
    if let Some(operation) = proto.graph.as_ref().and_then(quantised::misread) {
        return Err(EngineError::Prepare(format!(
            "{operation} stands between DequantizeLinear and QuantizeLinear, which tract computes wrongly"
        )));
    }
    if let Some(name) = file.signature.left_out.first() {
        return Err(EngineError::Prepare(format!(
            "its output `{name}` is no tensor, which tract does not have"
        )));
    }
    let dir = file.dir.as_ref().and_then(|dir| dir.to_str());
    let mut source = framework.parse(&proto, dir).map_err(prepare)?.model;
    drop(proto);

    // The signature's order, which is not always tract's.
    let outlets = source.input_outlets().map_err(prepare)?.to_vec();
    let found: Vec<&str> = outlets.iter().map(|outlet| source.node(outlet.node).name.as_str()).collect();
    let mut order = Vec::with_capacity(outlets.len());
    for port in &file.signature.inputs {
        let at = found.iter().position(|name| *name == port.name);
        order.push(outlets[at.ok_or_else(|| EngineError::Prepare(format!("no input `{}`", port.name)))?]);
    }
    if order.len() != outlets.len() {
        return Err(EngineError::Prepare(format!("it has the inputs {found:?}")));
    }
    source.set_input_outlets(&order).map_err(prepare)?;

    let mut signature = Arc::clone(&file.signature);
    let mut plans = Vec::new();
    let source = match shapes {
        Shapes::Any => Some(source),
        Shapes::Only(shapes) => {
            let plan = specialise(source, &signature, shapes)?;
            let known = Arc::make_mut(&mut signature);
            for (index, port) in known.outputs.iter_mut().enumerate() {
                let fact = plan.model().output_fact(index).map_err(prepare)?;
                let concrete = fact.shape.as_concrete();
                port.shape = concrete.map(|shape| shape.iter().copied().map(super::Axis::Fixed).collect());
            }
            plans.push((shapes.to_vec(), plan));
            None
        }
    };
    Ok(Arc::new(TractModel { signature, source, plans: Mutex::new(plans) }))
}

fn specialise(
    mut model: InferenceModel,
    signature: &Signature,
    shapes: &[Vec<usize>],
) -> Result<Arc<Plan>, EngineError> {
    let prepare = |error: TractError| EngineError::Prepare(chain(&error));
    for (index, (port, shape)) in signature.inputs.iter().zip(shapes).enumerate() {
        let fact = InferenceFact::dt_shape(datum(port.datatype)?, shape.as_slice());
        model.set_input_fact(index, fact).map_err(prepare)?;
    }
    let mut typed = model.into_typed().map_err(prepare)?.into_decluttered().map_err(prepare)?;
    if signature.is_depthwise
        && let Some(transform) = get_transform("conv_nhwc").map_err(prepare)?
    {
        transform.transform(&mut typed).map_err(prepare)?;
        typed = typed.into_decluttered().map_err(prepare)?;
    }
    let optimized = typed.into_optimized().map_err(prepare)?;
    SimplePlan::new(optimized).map_err(prepare)
}

fn run(state: &mut State, inputs: Vec<Array>, signature: &Signature) -> Result<Vec<Array>, EngineError> {
    let failed = |error: TractError| EngineError::Run(chain(&error));
    let mut values: TVec<TValue> = tvec!();
    for input in inputs {
        values.push(to_tract(input)?.into_tvalue());
    }
    let outputs = state.run(values).map_err(failed)?;
    if outputs.len() != signature.outputs.len() {
        return Err(EngineError::Run(format!("it gave {} outputs", outputs.len())));
    }
    outputs.into_iter().zip(&signature.outputs).map(|(output, port)| from_tract(&output, port)).collect()
}

fn to_tract(array: Array) -> Result<Tensor, EngineError> {
    let (shape, values) = array.into_parts();
    let made = match &values {
        Values::Bool(values) => Tensor::from_shape(&shape, values),
        Values::Uint8(values) => Tensor::from_shape(&shape, values),
        Values::Uint16(values) => Tensor::from_shape(&shape, values),
        Values::Uint32(values) => Tensor::from_shape(&shape, values),
        Values::Uint64(values) => Tensor::from_shape(&shape, values),
        Values::Int8(values) => Tensor::from_shape(&shape, values),
        Values::Int16(values) => Tensor::from_shape(&shape, values),
        Values::Int32(values) => Tensor::from_shape(&shape, values),
        Values::Int64(values) => Tensor::from_shape(&shape, values),
        Values::Fp16(values) => Tensor::from_shape(&shape, values),
        Values::Fp32(values) => Tensor::from_shape(&shape, values),
        Values::Fp64(values) => Tensor::from_shape(&shape, values),
        Values::Bytes(values) => {
            let texts = values.iter().map(|value| std::str::from_utf8(value).map(str::to_owned));
            let texts = texts.collect::<Result<Vec<_>, _>>();
            let texts = texts.map_err(|_| EngineError::Run("an element of BYTES is not UTF-8".to_owned()))?;
            let array = tract_ndarray::ArrayD::from_shape_vec(shape, texts);
            return Ok(array.map_err(|error| EngineError::Run(error.to_string()))?.into_tensor());
        }
        Values::Bf16(_) => return Err(EngineError::Datatype(Datatype::Bf16)),
    };
    made.map_err(|error| EngineError::Run(chain(&error)))
}

fn from_tract(tensor: &Tensor, port: &super::Port) -> Result<Array, EngineError> {
    let failed = |error: TractError| EngineError::Run(chain(&error));
    let cast;
    let tensor = if tensor.datum_type() == datum(port.datatype)? {
        tensor
    } else if tensor.datum_type() == TDim::datum_type() && port.datatype == Datatype::Int64 {
        // tract computes with shapes in a type of its own.
        cast = tensor.cast_to::<i64>().map_err(failed)?;
        &cast
    } else {
        let found = format!("{:?}", tensor.datum_type());
        return Err(EngineError::OutputType { name: port.name.clone(), expected: port.datatype, found });
    };
    let view = tensor.try_as_plain_ram().map_err(failed)?;
    macro_rules! copied {
        ($element:ty) => {
            view.as_slice::<$element>().map_err(failed)?.to_vec().into()
        };
    }
    let values: Values = match port.datatype {
        Datatype::Bool => copied!(bool),
        Datatype::Uint8 => copied!(u8),
        Datatype::Uint16 => copied!(u16),
        Datatype::Uint32 => copied!(u32),
        Datatype::Uint64 => copied!(u64),
        Datatype::Int8 => copied!(i8),
        Datatype::Int16 => copied!(i16),
        Datatype::Int32 => copied!(i32),
        Datatype::Int64 => copied!(i64),
        Datatype::Fp16 => copied!(f16),
        Datatype::Fp32 => copied!(f32),
        Datatype::Fp64 => copied!(f64),
        Datatype::Bytes => {
            let texts = view.as_slice::<String>().map_err(failed)?;
            texts.iter().map(|text| bytes::Bytes::copy_from_slice(text.as_bytes())).collect::<Vec<_>>().into()
        }
        Datatype::Bf16 => return Err(EngineError::Datatype(Datatype::Bf16)),
    };
    Ok(Array::new(tensor.shape().to_vec(), values)?)
}

fn datum(datatype: Datatype) -> Result<DatumType, EngineError> {
    Ok(match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bytes => DatumType::String,
        Datatype::Bf16 => return Err(EngineError::Datatype(datatype)),
    })
}

/// The whole chain of causes on one line.
fn chain(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}
