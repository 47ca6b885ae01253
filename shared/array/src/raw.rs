//! Elements to and from the protocol's bytes, and along the first axis.

use std::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit, Zeroable};
use bytes::Bytes;

use super::{ArrayError, Datatype, Values};

/// Length prefix of an element of BYTES.
pub(super) const PREFIX: usize = 4;

// What follows reads memory as it lies.
const _: () = assert!(cfg!(target_endian = "little"), "raw contents are little-endian");

/// Reads numbers; `raw` must be a whole number of elements.
pub(super) fn collect<T: AnyBitPattern + NoUninit>(raw: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(raw)
}

/// `size` is what `count` elements take; for BYTES it is anything.
pub(super) fn filled<E: From<ArrayError>>(
    datatype: Datatype,
    count: usize,
    size: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Values, E> {
    fn made<T: Zeroable + AnyBitPattern + NoUninit, E: From<ArrayError>>(
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<T>, E> {
        let mut values = bytemuck::try_zeroed_vec::<T>(count).map_err(|()| ArrayError::TooLarge)?;
        fill(bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }
    Ok(match datatype {
        Datatype::Bool => {
            let bytes: Vec<u8> = made(count, fill)?;
            Values::Bool(bytes.into_iter().map(|byte| byte != 0).collect())
        }
        Datatype::Uint8 => Values::Uint8(made(count, fill)?),
        Datatype::Uint16 => Values::Uint16(made(count, fill)?),
        Datatype::Uint32 => Values::Uint32(made(count, fill)?),
        Datatype::Uint64 => Values::Uint64(made(count, fill)?),
        Datatype::Int8 => Values::Int8(made(count, fill)?),
        Datatype::Int16 => Values::Int16(made(count, fill)?),
        Datatype::Int32 => Values::Int32(made(count, fill)?),
        Datatype::Int64 => Values::Int64(made(count, fill)?),
        Datatype::Fp16 => Values::Fp16(made(count, fill)?),
        Datatype::Bf16 => Values::Bf16(made(count, fill)?),
        Datatype::Fp32 => Values::Fp32(made(count, fill)?),
        Datatype::Fp64 => Values::Fp64(made(count, fill)?),
        Datatype::Bytes => Values::Bytes(elements(count, &made::<u8, E>(size, fill)?)?),
    })
}

pub(super) fn bytes<T: NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// Reads exactly `count` length-prefixed elements.
pub(super) fn elements(count: usize, raw: &[u8]) -> Result<Vec<Bytes>, ArrayError> {
    // Each takes at least its prefix, so a short buffer cannot ask for a large vector.
    let mut found = Vec::with_capacity(count.min(raw.len() / PREFIX));
    let mut left = Bytes::copy_from_slice(raw);
    for element in 0..count {
        let Some((prefix, _)) = left.split_first_chunk::<PREFIX>() else {
            return Err(ArrayError::NoLength { element, left: left.len() });
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        let mut rest = left.slice(PREFIX..);
        if length > rest.len() {
            return Err(ArrayError::ElementLength { element, length, left: rest.len() });
        }
        found.push(rest.split_to(length));
        left = rest;
    }
    match left.len() {
        0 => Ok(found),
        left => Err(ArrayError::Trailing { count, left }),
    }
}

pub(super) fn prefixed(values: &[Bytes]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(values.iter().map(|value| PREFIX + value.len()).sum());
    for value in values {
        // No element is longer than a message, and no message is 4 GiB.
        raw.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        raw.extend_from_slice(value);
    }
    raw
}

/// Shows raw bytes: those of numbers at once, elements of BYTES prefix by prefix.
pub(super) fn visit(values: &Values, mut see: impl FnMut(&[u8])) {
    fn as_bytes<T: NoUninit>(values: &[T]) -> &[u8] {
        bytemuck::cast_slice(values)
    }
    match values {
        Values::Bool(values) => see(as_bytes(values)),
        Values::Uint8(values) => see(values),
        Values::Uint16(values) => see(as_bytes(values)),
        Values::Uint32(values) => see(as_bytes(values)),
        Values::Uint64(values) => see(as_bytes(values)),
        Values::Int8(values) => see(as_bytes(values)),
        Values::Int16(values) => see(as_bytes(values)),
        Values::Int32(values) => see(as_bytes(values)),
        Values::Int64(values) => see(as_bytes(values)),
        Values::Fp16(values) => see(as_bytes(values)),
        Values::Bf16(values) => see(as_bytes(values)),
        Values::Fp32(values) => see(as_bytes(values)),
        Values::Fp64(values) => see(as_bytes(values)),
        Values::Bytes(values) => {
            for value in values {
                see(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
                see(value);
            }
        }
    }
}

pub(super) fn append(to: &mut Values, more: &Values) -> Result<(), ArrayError> {
    match (to, more) {
        (Values::Bool(to), Values::Bool(more)) => to.extend_from_slice(more),
        (Values::Uint8(to), Values::Uint8(more)) => to.extend_from_slice(more),
        (Values::Uint16(to), Values::Uint16(more)) => to.extend_from_slice(more),
        (Values::Uint32(to), Values::Uint32(more)) => to.extend_from_slice(more),
        (Values::Uint64(to), Values::Uint64(more)) => to.extend_from_slice(more),
        (Values::Int8(to), Values::Int8(more)) => to.extend_from_slice(more),
        (Values::Int16(to), Values::Int16(more)) => to.extend_from_slice(more),
        (Values::Int32(to), Values::Int32(more)) => to.extend_from_slice(more),
        (Values::Int64(to), Values::Int64(more)) => to.extend_from_slice(more),
        (Values::Fp16(to), Values::Fp16(more)) => to.extend_from_slice(more),
        (Values::Bf16(to), Values::Bf16(more)) => to.extend_from_slice(more),
        (Values::Fp32(to), Values::Fp32(more)) => to.extend_from_slice(more),
        (Values::Fp64(to), Values::Fp64(more)) => to.extend_from_slice(more),
        (Values::Bytes(to), Values::Bytes(more)) => to.extend_from_slice(more),
        _ => return Err(ArrayError::Join("the datatypes differ")),
    }
    Ok(())
}

/// Copies a range of values, which must lie within them.
pub(super) fn range(values: &Values, range: Range<usize>) -> Values {
    each_values!(values, values => values[range].to_vec().into())
}

macro_rules! from_vec {
    ($($variant:ident($element:ty)),*) => {
        $(impl From<Vec<$element>> for Values {
            fn from(values: Vec<$element>) -> Self {
                Self::$variant(values)
            }
        })*
    };
}

from_vec!(
    Bool(bool),
    Uint8(u8),
    Uint16(u16),
    Uint32(u32),
    Uint64(u64),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Fp16(half::f16),
    Bf16(half::bf16),
    Fp32(f32),
    Fp64(f64),
    Bytes(Bytes)
);
