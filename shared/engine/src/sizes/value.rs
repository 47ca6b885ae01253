//! What is known of one value: its least shape, its elements' width, and its elements where they are few.

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::{self, type_proto};

use crate::error::EngineError;

/// Most elements whose values are followed: lengths of axes, repeats and the like.
const MOST_FOLLOWED: usize = 64;

/// Least that a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Lengths of its axes, at least; an axis that nothing fixes has 1.
    pub(super) shape: Vec<u64>,
    /// Bytes of an element; 1 where that is not known.
    pub(super) width: u64,
    /// Elements, where they are few whole numbers and known exactly.
    pub(super) elements: Option<Vec<i64>>,
    /// True if it does not depend on what the model is given.
    pub(super) is_constant: bool,
    /// True if each axis is exactly as long as `shape` says.
    pub(super) is_exact: bool,
}

impl Value {
    /// Value that is computed, of this shape.
    pub(super) fn computed(shape: Vec<u64>, width: u64) -> Self {
        Self { shape, width, elements: None, is_constant: false, is_exact: false }
    }

    /// Whole numbers that are known, along one axis.
    pub(super) fn numbers(elements: Vec<i64>, is_constant: bool) -> Self {
        let shape = vec![elements.len() as u64];
        let elements = (elements.len() <= MOST_FOLLOWED).then_some(elements);
        Self { shape, width: 8, elements, is_constant, is_exact: true }
    }

    /// What a port says of itself; `None` if it does not even say how many axes there are.
    pub(super) fn declared(port: &pb::ValueInfoProto) -> Option<Self> {
        let type_proto::Value::TensorType(tensor) = port.r#type.as_ref()?.value.as_ref()?;
        let fixed = |dim: &pb::tensor_shape_proto::Dimension| match dim.value {
            Some(Length::DimValue(length)) => u64::try_from(length).ok().filter(|length| *length > 0),
            _ => None,
        };
        let axes: Vec<Option<u64>> = tensor.shape.as_ref()?.dim.iter().map(fixed).collect();
        let is_exact = axes.iter().all(Option::is_some);
        let shape = axes.into_iter().map(|axis| axis.unwrap_or(1)).collect();
        Some(Self { is_exact, ..Self::computed(shape, width(tensor.elem_type).unwrap_or(1)) })
    }

    /// A weight, which must hold as many elements as its shape says; those beside the file are checked where they are
    /// read.
    pub(super) fn held(tensor: &pb::TensorProto) -> Result<Self, EngineError> {
        let refuse = |what: String| EngineError::NotOnnx(format!("weight `{}` {what}", tensor.name));
        let shape = lengths(&tensor.dims)
            .ok_or_else(|| refuse(format!("has the shape {:?}, which is none", tensor.dims)))?;
        let width = width(tensor.data_type);
        let value = Self {
            elements: elements(tensor),
            is_constant: true,
            is_exact: true,
            ..Self::computed(shape, width.unwrap_or(1))
        };
        if tensor.data_location == Some(DataLocation::External as i32) {
            return Ok(value);
        }
        let count = value.count();
        let holds = match width {
            // Of kinds that are packed closer only the shape is known.
            None => return Ok(value),
            Some(_) if tensor.data_type == DataType::String as i32 => tensor.string_data.len() as u64,
            Some(width) if !tensor.raw_data.is_empty() => tensor.raw_data.len() as u64 / width,
            Some(_) => [
                tensor.float_data.len() / if is_complex(tensor.data_type) { 2 } else { 1 },
                tensor.int32_data.len(),
                tensor.int64_data.len(),
                tensor.double_data.len() / if is_complex(tensor.data_type) { 2 } else { 1 },
                tensor.uint64_data.len(),
            ]
            .into_iter()
            .max()
            .unwrap_or(0) as u64,
        };
        if holds < count {
            return Err(refuse(format!("holds {holds} elements, its shape {:?} has {count}", tensor.dims)));
        }
        Ok(value)
    }

    /// Number of its elements, or the largest number there is.
    pub(super) fn count(&self) -> u64 {
        product(&self.shape)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.count().saturating_mul(self.width)
    }
}

pub(super) fn product(shape: &[u64]) -> u64 {
    if shape.contains(&0) { 0 } else { shape.iter().fold(1, |all, length| all.saturating_mul(*length)) }
}

/// Lengths of axes; `None` if one is negative.
pub(super) fn lengths(dims: &[i64]) -> Option<Vec<u64>> {
    dims.iter().map(|length| u64::try_from(*length).ok()).collect()
}

/// Bytes of the whole tensor that a sparse one stands for.
pub(super) fn dense(sparse: &pb::SparseTensorProto) -> Result<u64, EngineError> {
    let refuse =
        || EngineError::NotOnnx(format!("a sparse weight has the shape {:?}, which is none", sparse.dims));
    let shape = lengths(&sparse.dims).ok_or_else(refuse)?;
    let kind = sparse.values.as_ref().map_or(0, |values| values.data_type);
    Ok(product(&shape).saturating_mul(width(kind).unwrap_or(1)))
}

/// Bytes of an element in memory; `None` for kinds that are packed closer or not known.
pub(super) fn width(kind: i32) -> Option<u64> {
    Some(match DataType::try_from(kind).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 4,
        DataType::Int64 | DataType::Uint64 | DataType::Double | DataType::Complex64 => 8,
        DataType::Complex128 => 16,
        // An empty one.
        DataType::String => size_of::<String>() as u64,
        _ => return None,
    })
}

fn is_complex(kind: i32) -> bool {
    [DataType::Complex64, DataType::Complex128].into_iter().any(|complex| complex as i32 == kind)
}

/// Elements of a small tensor of whole numbers or of floats that are whole.
fn elements(tensor: &pb::TensorProto) -> Option<Vec<i64>> {
    let raw = &tensor.raw_data;
    let found: Vec<i64> = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int64 if raw.is_empty() => {
            tensor.int64_data.iter().take(MOST_FOLLOWED + 1).copied().collect()
        }
        DataType::Int32 if raw.is_empty() => {
            tensor.int32_data.iter().take(MOST_FOLLOWED + 1).map(|element| i64::from(*element)).collect()
        }
        DataType::Int64 => each(raw, i64::from_le_bytes),
        DataType::Int32 => each(raw, |bytes| i64::from(i32::from_le_bytes(bytes))),
        _ => return None,
    };
    (found.len() <= MOST_FOLLOWED).then_some(found)
}

fn each<const WIDTH: usize>(raw: &[u8], read: impl Fn([u8; WIDTH]) -> i64) -> Vec<i64> {
    let elements = raw.chunks_exact(WIDTH).take(MOST_FOLLOWED + 1);
    elements.filter_map(|bytes| Some(read(bytes.try_into().ok()?))).collect()
}
