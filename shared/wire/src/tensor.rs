//! Tensors on the wire: raw little-endian bytes, never numbers as text; in fewer bits and compressed where that is asked for.
//!
//! | numbers | bytes each | a value that comes back is off by at most |
//! | --- | --- | --- |
//! | FP32 | 4 | nothing |
//! | FP16 | 2 | 1/2048 of itself (6e-8 under 6e-5) |
//! | INT8 | 1 | half of `scale`: 1/510 of the tensor's range; a picture's 256 grey levels come back as they were |
//!
//! Zstandard is tried on each and kept where it is smaller. The reader knows from shape and datatype what a tensor unfolds
//! to, and gives the decompressor room for that and no more.

use bytes::Bytes;
use half::f16;
use millgate_array::{Array, Datatype, Scale};
use serde::Deserialize;

use super::error::WireError;
use crate::proto::v1;

/// Fewest bytes worth compressing: Zstandard's own frame takes a dozen.
const LEAST_COMPRESSED: usize = 32;
/// Level of compression: Zstandard's own default. Higher ones take several times as long for a percent or two.
const LEVEL: i32 = 3;

/// Form in which the numbers of a tensor are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    #[default]
    Fp32,
    Fp16,
    Int8,
}

impl Numbers {
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Fp16, Self::Int8];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// Writes an array as it is, uncompressed: what an expert gives.
pub fn write_tensor(name: &str, array: &Array) -> v1::Tensor {
    v1::Tensor {
        name: name.to_owned(),
        datatype: wire_datatype(array.datatype()).into(),
        shape: shape_of(array.shape()),
        data: array.values().to_raw().into(),
        ..v1::Tensor::default()
    }
}

/// Axes as messages write them.
pub(super) fn shape_of(axes: &[usize]) -> Vec<i64> {
    axes.iter().map(|axis| *axis as i64).collect()
}

/// Each datatype with its number in messages.
const DATATYPES: [(Datatype, v1::DataType); 14] = [
    (Datatype::Bool, v1::DataType::Bool),
    (Datatype::Uint8, v1::DataType::Uint8),
    (Datatype::Uint16, v1::DataType::Uint16),
    (Datatype::Uint32, v1::DataType::Uint32),
    (Datatype::Uint64, v1::DataType::Uint64),
    (Datatype::Int8, v1::DataType::Int8),
    (Datatype::Int16, v1::DataType::Int16),
    (Datatype::Int32, v1::DataType::Int32),
    (Datatype::Int64, v1::DataType::Int64),
    (Datatype::Fp16, v1::DataType::Fp16),
    (Datatype::Bf16, v1::DataType::Bf16),
    (Datatype::Fp32, v1::DataType::Fp32),
    (Datatype::Fp64, v1::DataType::Fp64),
    (Datatype::Bytes, v1::DataType::Bytes),
];

/// A datatype as messages name it.
pub(super) fn wire_datatype(datatype: Datatype) -> v1::DataType {
    let known = DATATYPES.iter().find(|(known, _)| *known == datatype);
    known.map_or(v1::DataType::Unspecified, |(_, wire)| *wire)
}

/// The datatype that a message names; `None` if it says none.
pub(super) fn datatype_of(wire: v1::DataType) -> Option<Datatype> {
    DATATYPES.iter().find(|(_, known)| *known == wire).map(|(datatype, _)| *datatype)
}

/// Writes FP32 values in the numbers that are asked for (FP32 where a value does not fit them), and any others as
/// they are; compressed where that is smaller. `scale` is for INT8; without one it is that of the values.
pub fn write_packed(name: &str, array: &Array, numbers: Numbers, scale: Option<Scale>) -> v1::Tensor {
    let Ok(values) = array.as_fp32() else {
        let wire = write_tensor(name, array);
        let (data, encoding) = compress(wire.data);
        return v1::Tensor { data, encoding, ..wire };
    };
    let scale = match numbers {
        Numbers::Int8 => scale.or_else(|| Scale::of_values(values)),
        Numbers::Fp32 | Numbers::Fp16 => None,
    };
    let fits_fp16 = || values.iter().all(|value| f16::from_f32(*value).is_finite());
    let mut wire =
        v1::Tensor { name: name.to_owned(), shape: shape_of(array.shape()), ..v1::Tensor::default() };
    let data: Vec<u8> = match (numbers, scale) {
        (Numbers::Int8, Some(scale)) => {
            wire.datatype = v1::DataType::Int8.into();
            (wire.scale, wire.offset) = (scale.scale, scale.offset);
            values.iter().map(|value| scale.store(*value) as u8).collect()
        }
        (Numbers::Fp16, _) if fits_fp16() => {
            wire.datatype = v1::DataType::Fp16.into();
            values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
        }
        _ => {
            wire.datatype = v1::DataType::Fp32.into();
            array.values().to_raw()
        }
    };
    (wire.data, wire.encoding) = compress(data.into());
    wire
}

/// Compresses data with Zstandard, or keeps it as it is where that saves nothing.
fn compress(data: Bytes) -> (Bytes, i32) {
    let as_it_is = v1::Encoding::Unspecified.into();
    if data.len() < LEAST_COMPRESSED {
        return (data, as_it_is);
    }
    match zstd::bulk::compress(&data, LEVEL) {
        // The field that says so takes two bytes.
        Ok(smaller) if smaller.len() + 2 < data.len() => (smaller.into(), v1::Encoding::Zstd.into()),
        _ => (data, as_it_is),
    }
}

/// Reads FP32 values, in whatever numbers they were written. `expected` is the shape that the receiver knows the
/// tensor must have, batch axis included.
pub fn read_tensor(field: &str, wire: &v1::Tensor, expected: &[usize]) -> Result<Array, WireError> {
    let refuse = |part: &str, message: String| Err(WireError::new(format!("{field}.{part}"), message));
    let shape: Option<Vec<usize>> = wire.shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
    if shape.as_deref() != Some(expected) {
        return refuse("shape", format!("is {:?}, must be {expected:?}", wire.shape));
    }
    let (datatype, width) = match v1::DataType::try_from(wire.datatype) {
        Ok(datatype @ v1::DataType::Fp32) => (datatype, 4),
        Ok(datatype @ v1::DataType::Fp16) => (datatype, 2),
        Ok(datatype @ (v1::DataType::Uint8 | v1::DataType::Int8)) => (datatype, 1),
        Ok(_) | Err(_) => {
            return refuse("datatype", "must be FP32, FP16, UINT8 or INT8".to_owned());
        }
    };
    let scale = match read_scale(wire, width) {
        Ok(scale) => scale,
        Err((part, message)) => return refuse(part, message),
    };
    let count: usize = expected.iter().product();
    let data = match decompress(wire, count.saturating_mul(width)) {
        Ok(data) => data,
        Err((part, message)) => return refuse(part, message),
    };
    let values: Vec<f32> = match datatype {
        v1::DataType::Fp32 => match data.as_chunks::<4>() {
            (values, []) => values.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            _ => return refuse("data", format!("{} bytes are not a multiple of 4", data.len())),
        },
        v1::DataType::Fp16 => match data.as_chunks::<2>() {
            (values, []) => values.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect(),
            _ => return refuse("data", format!("{} bytes are not a multiple of 2", data.len())),
        },
        v1::DataType::Int8 => data.iter().map(|value| f32::from(*value as i8)).collect(),
        _ => data.iter().map(|value| f32::from(*value)).collect(),
    };
    let values = match scale {
        Some(scale) => values.into_iter().map(|stored| scale.value(stored)).collect(),
        None => values,
    };
    let array = Array::new(expected.to_vec(), values.into())
        .map_err(|error| WireError::new(format!("{field}.data"), error.to_string()))?;
    if !array.is_finite() {
        return refuse("data", "holds a value that is not finite".to_owned());
    }
    Ok(array)
}

/// Field that is wrong, and what is wrong with it.
type Refused = (&'static str, String);

fn read_scale(wire: &v1::Tensor, width: usize) -> Result<Option<Scale>, Refused> {
    let (scale, offset) = (wire.scale, wire.offset);
    match (scale, offset) {
        (0.0, 0.0) => Ok(None),
        _ if width != 1 => Err(("scale", "is for INT8 and UINT8".to_owned())),
        (0.0, _) => Err(("offset", "goes with a `scale`".to_owned())),
        _ if !scale.is_finite() => Err(("scale", format!("is {scale}, must be finite"))),
        _ if !offset.is_finite() => Err(("offset", format!("is {offset}, must be finite"))),
        _ => Ok(Some(Scale { scale, offset })),
    }
}

/// Gives the tensor's bytes; never more than `size` of them are made.
fn decompress(wire: &v1::Tensor, size: usize) -> Result<Bytes, Refused> {
    match v1::Encoding::try_from(wire.encoding) {
        Ok(v1::Encoding::Unspecified) => Ok(wire.data.clone()),
        Ok(v1::Encoding::Zstd) => {
            let data = zstd::bulk::decompress(&wire.data, size).map_err(|error| {
                ("data", format!("is no Zstandard frame of at most {size} bytes: {error}"))
            })?;
            match data.len() == size {
                true => Ok(data.into()),
                false => Err(("data", format!("unfolds to {} bytes, the shape needs {size}", data.len()))),
            }
        }
        Err(_) => Err(("encoding", format!("{} is not an encoding", wire.encoding))),
    }
}

#[cfg(test)]
mod tests;
