//! A dense tensor of any datatype that the Open Inference Protocol names: what samples hold, and what models take and give.
//!
//! Names, sizes and byte layout are those of the protocol: row-major, little-endian; an element of BYTES is its length
//! as four bytes, then that many bytes.
//!
//! ```
//! use millgate_array::{Array, Values};
//!
//! let row = Array::new(vec![1, 2], Values::Fp32(vec![0.5, 1.0]))?;
//! let batch = Array::join(&[&row, &row, &row])?;
//! assert_eq!(batch.shape(), [3, 2]);
//! assert_eq!(batch.split(&[1, 2])?[0], row);
//! # Ok::<(), millgate_array::ArrayError>(())
//! ```

use bytes::Bytes;
use half::{bf16, f16};

pub use scale::Scale;

/// Datatype of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Name of the datatype, as the protocol writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Size of one element in bytes; `None` for BYTES, whose elements differ.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Elements of an array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Bytes>),
}

/// Runs `$body` with `$values` bound to the vector inside, whatever its type.
#[macro_export]
macro_rules! each_values {
    ($of:expr, $values:ident => $body:expr) => {
        match $of {
            $crate::Values::Bool($values) => $body,
            $crate::Values::Uint8($values) => $body,
            $crate::Values::Uint16($values) => $body,
            $crate::Values::Uint32($values) => $body,
            $crate::Values::Uint64($values) => $body,
            $crate::Values::Int8($values) => $body,
            $crate::Values::Int16($values) => $body,
            $crate::Values::Int32($values) => $body,
            $crate::Values::Int64($values) => $body,
            $crate::Values::Fp16($values) => $body,
            $crate::Values::Bf16($values) => $body,
            $crate::Values::Fp32($values) => $body,
            $crate::Values::Fp64($values) => $body,
            $crate::Values::Bytes($values) => $body,
        }
    };
}

impl Values {
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp16(_) => Datatype::Fp16,
            Self::Bf16(_) => Datatype::Bf16,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    pub fn len(&self) -> usize {
        each_values!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `count` elements from the protocol's raw bytes; an error if their number does not fit.
    pub fn from_raw(datatype: Datatype, count: usize, raw: &[u8]) -> Result<Self, ArrayError> {
        let Some(size) = datatype.size() else { return Ok(Self::Bytes(raw::elements(count, raw)?)) };
        let expected = count.checked_mul(size).ok_or(ArrayError::TooLarge)?;
        if raw.len() != expected {
            return Err(ArrayError::RawLength { datatype, count, expected, got: raw.len() });
        }
        Ok(match datatype {
            // Any byte but 0 is true, as C's bool has it.
            Datatype::Bool => Self::Bool(raw.iter().map(|byte| *byte != 0).collect()),
            Datatype::Uint8 => Self::Uint8(raw.to_vec()),
            Datatype::Uint16 => Self::Uint16(raw::collect(raw)),
            Datatype::Uint32 => Self::Uint32(raw::collect(raw)),
            Datatype::Uint64 => Self::Uint64(raw::collect(raw)),
            Datatype::Int8 => Self::Int8(raw::collect(raw)),
            Datatype::Int16 => Self::Int16(raw::collect(raw)),
            Datatype::Int32 => Self::Int32(raw::collect(raw)),
            Datatype::Int64 => Self::Int64(raw::collect(raw)),
            Datatype::Fp16 => Self::Fp16(raw::collect(raw)),
            Datatype::Bf16 => Self::Bf16(raw::collect(raw)),
            Datatype::Fp32 => Self::Fp32(raw::collect(raw)),
            Datatype::Fp64 => Self::Fp64(raw::collect(raw)),
            Datatype::Bytes => return Err(ArrayError::TooLarge),
        })
    }

    /// Makes `count` elements of which `fill` writes the protocol's raw bytes, `size` of them, where they will stay. An
    /// error if they do not fit, if there is no memory for them, or the one of `fill`.
    pub fn filled<E: From<ArrayError>>(
        datatype: Datatype,
        count: usize,
        size: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let expected = datatype.size().map_or(Some(size), |element| element.checked_mul(count));
        let expected = expected.ok_or(ArrayError::TooLarge)?;
        if size != expected {
            return Err(ArrayError::RawLength { datatype, count, expected, got: size }.into());
        }
        raw::filled(datatype, count, size, fill)
    }

    /// Size of the protocol's raw bytes.
    pub fn raw_size(&self) -> usize {
        match self {
            Self::Bytes(values) => values.iter().map(|value| raw::PREFIX + value.len()).sum(),
            other => other.len() * other.datatype().size().unwrap_or(1),
        }
    }

    /// Writes the protocol's raw bytes.
    pub fn to_raw(&self) -> Vec<u8> {
        match self {
            Self::Bool(values) => values.iter().map(|value| u8::from(*value)).collect(),
            Self::Uint8(values) => values.clone(),
            Self::Uint16(values) => raw::bytes(values),
            Self::Uint32(values) => raw::bytes(values),
            Self::Uint64(values) => raw::bytes(values),
            Self::Int8(values) => raw::bytes(values),
            Self::Int16(values) => raw::bytes(values),
            Self::Int32(values) => raw::bytes(values),
            Self::Int64(values) => raw::bytes(values),
            Self::Fp16(values) => raw::bytes(values),
            Self::Bf16(values) => raw::bytes(values),
            Self::Fp32(values) => raw::bytes(values),
            Self::Fp64(values) => raw::bytes(values),
            Self::Bytes(values) => raw::prefixed(values),
        }
    }

    /// Shows the protocol's raw bytes piece by piece, in order and without a copy.
    pub fn visit_raw(&self, see: impl FnMut(&[u8])) {
        raw::visit(self, see);
    }

    /// Bytes of memory held, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(values) => values.iter().map(|value| value.len() + size_of::<Bytes>()).sum(),
            other => other.len() * other.datatype().size().unwrap_or(1),
        }
    }
}

/// Values with a shape, whose product is always the number of values. An axis may be 0.
#[derive(Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    values: Values,
}

/// Reason why something is not an array, or not the wanted one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    #[error("shape {shape:?} needs {expected} elements, got {got}")]
    Count { shape: Vec<usize>, expected: usize, got: usize },
    #[error("{count} elements of {datatype} are {expected} bytes, got {got}")]
    RawLength { datatype: Datatype, count: usize, expected: usize, got: usize },
    #[error("element {element} of BYTES has no whole length: {left} bytes are left of 4")]
    NoLength { element: usize, left: usize },
    #[error("element {element} of BYTES says {length} bytes, {left} are left")]
    ElementLength { element: usize, length: usize, left: usize },
    #[error("{left} bytes are left after all {count} elements of BYTES")]
    Trailing { count: usize, left: usize },
    #[error("the shape overflows")]
    TooLarge,
    #[error("cannot be joined: {0}")]
    Join(&'static str),
    #[error("has {got} rows, {expected} were expected")]
    Rows { expected: usize, got: usize },
    #[error("holds {found}, not {expected}")]
    Datatype { expected: Datatype, found: Datatype },
}

impl Array {
    pub fn new(shape: Vec<usize>, values: Values) -> Result<Self, ArrayError> {
        let expected = elements(&shape).ok_or(ArrayError::TooLarge)?;
        if expected != values.len() {
            return Err(ArrayError::Count { shape, expected, got: values.len() });
        }
        Ok(Self { shape, values })
    }

    pub fn from_raw(datatype: Datatype, shape: Vec<usize>, raw: &[u8]) -> Result<Self, ArrayError> {
        let count = elements(&shape).ok_or(ArrayError::TooLarge)?;
        let values = Values::from_raw(datatype, count, raw)?;
        Ok(Self { shape, values })
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    pub fn into_parts(self) -> (Vec<usize>, Values) {
        (self.shape, self.values)
    }

    pub fn datatype(&self) -> Datatype {
        self.values.datatype()
    }

    /// Length of the first axis; 1 where there is none.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// FP32 values; [`ArrayError::Datatype`] if it holds others.
    pub fn as_fp32(&self) -> Result<&[f32], ArrayError> {
        match &self.values {
            Values::Fp32(values) => Ok(values),
            other => Err(ArrayError::Datatype { expected: Datatype::Fp32, found: other.datatype() }),
        }
    }

    /// False if any value is NaN or infinite. What is no floating-point number is always finite.
    pub fn is_finite(&self) -> bool {
        match &self.values {
            Values::Fp16(values) => values.iter().all(|value| value.is_finite()),
            Values::Bf16(values) => values.iter().all(|value| value.is_finite()),
            Values::Fp32(values) => values.iter().all(|value| value.is_finite()),
            Values::Fp64(values) => values.iter().all(|value| value.is_finite()),
            _ => true,
        }
    }

    /// Joins arrays one after the other along the first axis. All must agree in datatype and in every other axis.
    pub fn join(parts: &[&Self]) -> Result<Self, ArrayError> {
        let Some((first, rest)) = parts.split_first() else { return Err(ArrayError::Join("nothing given")) };
        let Some((_, inner)) = first.shape.split_first() else {
            return Err(ArrayError::Join("there is no first axis"));
        };
        if rest.iter().any(|part| part.shape.get(1..) != Some(inner)) {
            return Err(ArrayError::Join("the shapes differ beyond the first axis"));
        }
        let rows = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.rows()));
        let mut shape = first.shape.clone();
        shape[0] = rows.ok_or(ArrayError::TooLarge)?;
        let mut values = first.values.clone();
        for part in rest {
            raw::append(&mut values, &part.values)?;
        }
        Self::new(shape, values)
    }

    /// Cuts along the first axis into parts of so many rows each; they must add up.
    pub fn split(self, rows: &[usize]) -> Result<Vec<Self>, ArrayError> {
        let total: usize = rows.iter().sum();
        if self.shape.first() != Some(&total) {
            return Err(ArrayError::Rows { expected: total, got: self.rows() });
        }
        if rows.len() == 1 {
            return Ok(vec![self]);
        }
        let inner = elements(&self.shape[1..]).ok_or(ArrayError::TooLarge)?;
        let mut from = 0;
        let mut parts = Vec::with_capacity(rows.len());
        for count in rows {
            let mut shape = self.shape.clone();
            shape[0] = *count;
            let to = from + count * inner;
            parts.push(Self::new(shape, raw::range(&self.values, from..to))?);
            from = to;
        }
        Ok(parts)
    }
}

/// The product of a shape, `None` if it overflows.
pub fn elements(shape: &[usize]) -> Option<usize> {
    // An axis of 0 makes it 0 whatever the others are; but the others must not overflow either.
    let product =
        shape.iter().filter(|axis| **axis != 0).try_fold(1usize, |all, axis| all.checked_mul(*axis))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.datatype(), self.shape)
    }
}

mod raw;
mod scale;
#[cfg(test)]
mod tests;
