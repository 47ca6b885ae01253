//! Values as the protocol has them, and as tract has them.

use millgate_array::{Array, Datatype, Values};
use tract_onnx::prelude::*;

use crate::error::EngineError;
use crate::onnx::chain;
use crate::port::Port;

pub(super) fn to_tract(array: Array) -> Result<Tensor, EngineError> {
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

pub(super) fn from_tract(tensor: &Tensor, port: &Port) -> Result<Array, EngineError> {
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

/// True if some floating point element is such a number.
pub(super) fn holds(array: &Array, such: impl Fn(f64) -> bool) -> bool {
    match array.values() {
        Values::Fp16(values) => values.iter().any(|value| such(value.to_f64())),
        Values::Fp32(values) => values.iter().any(|value| such(f64::from(*value))),
        Values::Fp64(values) => values.iter().any(|value| such(*value)),
        _ => false,
    }
}

pub(super) fn datum(datatype: Datatype) -> Result<DatumType, EngineError> {
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
