//! A run: arrays in, arrays out. Inputs are moved into the library's tensors, outputs are copied out once.

use std::fmt::Debug;

use millgate_shared::array::{Array, Datatype, Values};
use millgate_shared::engine::{EngineError, Port, Signature};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

/// `inputs` in the signature's order; so are the outputs. The orders are those of [`super::Order`].
pub(super) fn run(
    session: &mut Session,
    order: &[usize],
    wanted: &[usize],
    inputs: Vec<Array>,
    signature: &Signature,
) -> Result<Vec<Array>, EngineError> {
    let mut places: Vec<Option<Array>> = inputs.into_iter().map(Some).collect();
    let mut values = Vec::with_capacity(order.len());
    for at in order {
        let array = places.get_mut(*at).and_then(Option::take);
        let array = array.ok_or_else(|| EngineError::Run("an input is missing".to_owned()))?;
        values.push(to_value(array)?);
    }
    let outputs = session.run(values.as_slice()).map_err(failed)?;
    if wanted.iter().any(|at| *at >= outputs.len()) {
        return Err(EngineError::Run(format!("it gave {} outputs", outputs.len())));
    }
    wanted.iter().zip(&signature.outputs).map(|(at, port)| from_value(&outputs[*at], port)).collect()
}

/// On one line.
pub(super) fn text<R>(error: &ort::Error<R>) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failed(error: ort::Error) -> EngineError {
    EngineError::Run(text(&error))
}

fn to_value(array: Array) -> Result<SessionInputValue<'static>, EngineError> {
    let (shape, values) = array.into_parts();
    Ok(match values {
        Values::Bool(values) => moved(shape, values)?,
        Values::Uint8(values) => moved(shape, values)?,
        Values::Uint16(values) => moved(shape, values)?,
        Values::Uint32(values) => moved(shape, values)?,
        Values::Uint64(values) => moved(shape, values)?,
        Values::Int8(values) => moved(shape, values)?,
        Values::Int16(values) => moved(shape, values)?,
        Values::Int32(values) => moved(shape, values)?,
        Values::Int64(values) => moved(shape, values)?,
        Values::Fp16(values) => moved(shape, values)?,
        Values::Bf16(values) => moved(shape, values)?,
        Values::Fp32(values) => moved(shape, values)?,
        Values::Fp64(values) => moved(shape, values)?,
        Values::Bytes(values) => {
            let text = |value: &bytes::Bytes| std::str::from_utf8(value).map(str::to_owned);
            let texts: Result<Vec<String>, _> = values.iter().map(text).collect();
            let texts = texts.map_err(|_| EngineError::Run("an element of BYTES is not UTF-8".to_owned()))?;
            if texts.iter().any(|text| text.contains('\0')) {
                return Err(EngineError::Run("an element of BYTES holds a zero byte".to_owned()));
            }
            Tensor::from_string_array((shape, texts.as_slice())).map_err(failed)?.into()
        }
    })
}

fn moved<T>(shape: Vec<usize>, values: Vec<T>) -> Result<SessionInputValue<'static>, EngineError>
where
    T: PrimitiveTensorElementType + Clone + Debug + 'static,
{
    Ok(Tensor::from_array((shape, values)).map_err(failed)?.into())
}

fn from_value(value: &DynValue, port: &Port) -> Result<Array, EngineError> {
    match port.datatype {
        Datatype::Bool => copied::<bool>(value, port),
        Datatype::Uint8 => copied::<u8>(value, port),
        Datatype::Uint16 => copied::<u16>(value, port),
        Datatype::Uint32 => copied::<u32>(value, port),
        Datatype::Uint64 => copied::<u64>(value, port),
        Datatype::Int8 => copied::<i8>(value, port),
        Datatype::Int16 => copied::<i16>(value, port),
        Datatype::Int32 => copied::<i32>(value, port),
        Datatype::Int64 => copied::<i64>(value, port),
        Datatype::Fp16 => copied::<half::f16>(value, port),
        Datatype::Bf16 => copied::<half::bf16>(value, port),
        Datatype::Fp32 => copied::<f32>(value, port),
        Datatype::Fp64 => copied::<f64>(value, port),
        Datatype::Bytes => {
            let (shape, texts) = value.try_extract_strings().map_err(|error| unlike(&error, port))?;
            let texts: Vec<bytes::Bytes> = texts.into_iter().map(bytes::Bytes::from).collect();
            Ok(Array::new(usual(shape)?, texts.into())?)
        }
    }
}

fn copied<T>(value: &DynValue, port: &Port) -> Result<Array, EngineError>
where
    T: PrimitiveTensorElementType + Clone,
    Values: From<Vec<T>>,
{
    let (shape, values) = value.try_extract_tensor::<T>().map_err(|error| unlike(&error, port))?;
    Ok(Array::new(usual(shape)?, values.to_vec().into())?)
}

fn usual(shape: &[i64]) -> Result<Vec<usize>, EngineError> {
    let usual = shape.iter().map(|axis| usize::try_from(*axis)).collect::<Result<_, _>>();
    usual.map_err(|_| EngineError::Run(format!("it gave an output of shape {shape:?}")))
}

fn unlike(error: &ort::Error, port: &Port) -> EngineError {
    EngineError::Run(format!("output `{}`: {}", port.name, text(error)))
}
