//! Tensors of the Open Inference Protocol, from raw or typed contents and back.
//!
//! A request carries either raw contents for all of its inputs or typed contents in each, never both. FP16 and BF16
//! travel raw only.

use bytes::Bytes;
use millgate_shared::array::{Array, Datatype, Values, elements};
use millgate_shared::proto::inference::InferTensorContents;

use crate::failure::Failure;

/// A shape as the protocol has it, checked: no axis is negative, and the product does not overflow.
pub(crate) fn shape(field: &str, shape: &[i64]) -> Result<Vec<usize>, Failure> {
    let checked: Option<Vec<usize>> = shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
    let Some(checked) = checked else {
        return Err(Failure::field(format!("{field}.shape"), format!("{shape:?} has a negative axis")));
    };
    match elements(&checked) {
        // The largest element is 8 bytes.
        Some(count) if count <= isize::MAX as usize / 8 => Ok(checked),
        _ => Err(Failure::field(format!("{field}.shape"), format!("{shape:?} overflows"))),
    }
}

pub(crate) fn datatype(field: &str, name: &str) -> Result<Datatype, Failure> {
    Datatype::from_name(name)
        .ok_or_else(|| Failure::field(format!("{field}.datatype"), format!("`{name}` is not a datatype")))
}

/// Bytes that a string of a tensor takes beyond its own, at most: a place in a list, three times over while that grows, and
/// what the allocator adds.
pub(crate) const TEXT: u64 = 112;

/// Bytes that raw contents take when they are read, beyond their own: strings may be as short as nothing, four bytes on the wire.
pub(crate) fn unfolds_to(datatype: Datatype, mut raw: &[u8]) -> u64 {
    if datatype != Datatype::Bytes {
        return 0;
    }
    let mut cost = 0;
    while let Some((length, rest)) = raw.split_first_chunk() {
        cost += TEXT;
        raw = rest.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default();
    }
    cost
}

/// From raw contents.
pub(crate) fn raw(field: &str, datatype: Datatype, shape: Vec<usize>, raw: &[u8]) -> Result<Array, Failure> {
    Array::from_raw(datatype, shape, raw)
        .map_err(|error| Failure::field(format!("{field} (raw contents)"), error.to_string()))
}

/// From typed contents: the field that belongs to the datatype must hold exactly the shape's elements, and no other
/// field any.
pub(crate) fn typed(
    field: &str,
    datatype: Datatype,
    shape: Vec<usize>,
    contents: InferTensorContents,
) -> Result<Array, Failure> {
    let refuse = |message: String| Failure::field(format!("{field}.contents"), message);
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let filled: Vec<&str> = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ]
    .into_iter()
    .filter_map(|(name, length)| (length > 0).then_some(name))
    .collect();
    let belongs = match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(refuse(format!("{datatype} can only be sent in raw_input_contents")));
        }
    };
    if let Some(other) = filled.iter().find(|name| **name != belongs) {
        return Err(refuse(format!("has {other}, but {datatype} goes in {belongs}")));
    }
    let range = |_| refuse(format!("holds a value that {datatype} does not"));
    let values: Values = match datatype {
        Datatype::Bool => bool_contents.into(),
        Datatype::Int8 => narrow::<_, i8>(int_contents).map_err(range)?.into(),
        Datatype::Int16 => narrow::<_, i16>(int_contents).map_err(range)?.into(),
        Datatype::Int32 => int_contents.into(),
        Datatype::Int64 => int64_contents.into(),
        Datatype::Uint8 => narrow::<_, u8>(uint_contents).map_err(range)?.into(),
        Datatype::Uint16 => narrow::<_, u16>(uint_contents).map_err(range)?.into(),
        Datatype::Uint32 => uint_contents.into(),
        Datatype::Uint64 => uint64_contents.into(),
        Datatype::Fp32 => fp32_contents.into(),
        Datatype::Fp64 => fp64_contents.into(),
        Datatype::Bytes | Datatype::Fp16 | Datatype::Bf16 => bytes_contents.into(),
    };
    Array::new(shape, values).map_err(|error| refuse(error.to_string()))
}

fn narrow<Wide, Narrow: TryFrom<Wide>>(values: Vec<Wide>) -> Result<Vec<Narrow>, Narrow::Error> {
    values.into_iter().map(Narrow::try_from).collect()
}

/// Typed contents; `None` where the protocol has none for the datatype.
pub(crate) fn to_typed(values: &Values) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(values) => contents.bool_contents.clone_from(values),
        Values::Int8(values) => contents.int_contents = wide(values),
        Values::Int16(values) => contents.int_contents = wide(values),
        Values::Int32(values) => contents.int_contents.clone_from(values),
        Values::Int64(values) => contents.int64_contents.clone_from(values),
        Values::Uint8(values) => contents.uint_contents = wide(values),
        Values::Uint16(values) => contents.uint_contents = wide(values),
        Values::Uint32(values) => contents.uint_contents.clone_from(values),
        Values::Uint64(values) => contents.uint64_contents.clone_from(values),
        Values::Fp32(values) => contents.fp32_contents.clone_from(values),
        Values::Fp64(values) => contents.fp64_contents.clone_from(values),
        Values::Bytes(values) => contents.bytes_contents.clone_from(values),
        Values::Fp16(_) | Values::Bf16(_) => return None,
    }
    Some(contents)
}

fn wide<Narrow: Copy, Wide: From<Narrow>>(values: &[Narrow]) -> Vec<Wide> {
    values.iter().map(|value| Wide::from(*value)).collect()
}

/// Raw contents.
pub(crate) fn to_raw(values: &Values) -> Bytes {
    values.to_raw().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Array, Failure>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_shape_is_checked_before_anything_is_read() {
        assert!(shape("inputs[0]", &[2, 0, 3]).is_ok());
        let negative = shape("inputs[0]", &[2, -1]).unwrap_err().to_string();
        assert!(negative.contains("inputs[0].shape") && negative.contains("negative"), "{negative}");
        for huge in [vec![1 << 62, 8], vec![i64::MAX], vec![0, i64::MAX, i64::MAX]] {
            let overflow = shape("x", &huge).unwrap_err().to_string();
            assert!(overflow.contains("overflows"), "{overflow}");
        }
    }

    #[test]
    fn strings_are_counted_before_they_are_read() {
        assert_eq!(unfolds_to(Datatype::Fp32, &[0; 400]), 0);
        assert_eq!(unfolds_to(Datatype::Bytes, &[0; 400]), 100 * TEXT);
        let texts = [&[2, 0, 0, 0][..], b"ab", &[0, 0, 0, 0], &[9, 0, 0, 0], b"cut"].concat();
        assert_eq!(unfolds_to(Datatype::Bytes, &texts), 3 * TEXT);
    }

    #[test]
    fn typed_contents_come_back_as_they_went() {
        for datatype in Datatype::ALL {
            let raw = vec![1u8; 2 * datatype.size().unwrap_or(0)];
            let array = match datatype {
                Datatype::Bytes => Array::new(vec![2], vec![Bytes::from_static(b"a"); 2].into()),
                datatype => Array::from_raw(datatype, vec![2], &raw),
            };
            let array = array.unwrap();
            match to_typed(array.values()) {
                Some(contents) => assert_eq!(typed("x", datatype, vec![2], contents).unwrap(), array),
                None => assert!(matches!(datatype, Datatype::Fp16 | Datatype::Bf16)),
            }
        }
    }

    #[test]
    fn typed_contents_must_be_the_datatypes_own() {
        let ints = |values: Vec<i32>| InferTensorContents { int_contents: values, ..Default::default() };
        assert!(typed("i", Datatype::Int8, vec![2], ints(vec![-128, 127])).is_ok());
        assert!(message(typed("i", Datatype::Int8, vec![1], ints(vec![128]))).contains("INT8 does not"));
        assert!(message(typed("i", Datatype::Int64, vec![1], ints(vec![1]))).contains("int64_contents"));
        assert!(message(typed("i", Datatype::Int32, vec![2], ints(vec![1]))).contains("needs 2 elements"));
        assert!(message(typed("i", Datatype::Fp16, vec![0], ints(vec![]))).contains("raw_input_contents"));
        let both = InferTensorContents { fp32_contents: vec![1.0], ..ints(vec![1]) };
        assert!(message(typed("i", Datatype::Fp32, vec![1], both)).contains("int_contents"));
    }
}
