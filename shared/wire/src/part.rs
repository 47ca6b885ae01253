//! Parts of a sample on the wire.

use std::borrow::Cow;

use millgate_sample::part::{FILE, Part};
use millgate_sample::sample::Unread;

use super::error::WireError;
use super::tensor::{datatype_of, shape_of, wire_datatype};
use crate::proto::v1;

/// Attributes that a part may have.
const MOST_ATTRIBUTES: usize = 64;

/// A part as it goes up.
pub fn write_part(part: Part) -> v1::Part {
    v1::Part {
        modality: part.modality,
        // The commonest codec takes no byte.
        codec: if part.codec == FILE { String::new() } else { part.codec.into_owned() },
        shape: shape_of(&part.shape),
        datatype: part.datatype.map_or(v1::DataType::Unspecified, wire_datatype).into(),
        data: part.bytes,
        attributes: part.attributes.into_iter().collect(),
    }
}

/// Parts as they came; `field` is where they stand. What is in them is looked at when the sample is read.
pub fn read_parts(field: &str, parts: Vec<v1::Part>) -> Result<Vec<Part>, WireError> {
    let read = |(at, part): (usize, v1::Part)| {
        let refuse = |inner: &str, message: String| WireError::new(format!("{field}[{at}].{inner}"), message);
        let shape: Option<Vec<usize>> = part.shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
        let shape = shape.ok_or_else(|| refuse("shape", format!("{:?} has a negative axis", part.shape)))?;
        let datatype = v1::DataType::try_from(part.datatype)
            .map_err(|_| refuse("datatype", format!("{} is not a datatype", part.datatype)))?;
        if part.attributes.len() > MOST_ATTRIBUTES {
            let message = format!("are {}, at most {MOST_ATTRIBUTES} are taken", part.attributes.len());
            return Err(refuse("attributes", message));
        }
        Ok(Part {
            modality: part.modality,
            codec: if part.codec.is_empty() { FILE.into() } else { Cow::Owned(part.codec) },
            shape,
            datatype: datatype_of(datatype),
            bytes: part.data,
            attributes: part.attributes.into_iter().collect(),
        })
    };
    parts.into_iter().enumerate().map(read).collect()
}

/// What is wrong with one of the parts that stand in `field`.
pub fn unread(field: &str, error: &Unread) -> WireError {
    let Unread { at, source, .. } = error;
    WireError::new(format!("{field}[{at}].{}", source.field), source.message.clone())
}

#[cfg(test)]
mod tests {
    use millgate_array::{Array, Values};

    use super::*;

    #[test]
    fn a_part_survives_the_wire() {
        let array = Array::new(vec![2, 3], Values::Int64(vec![1, -2, 3, 4, 5, 6])).unwrap();
        let mut file = Part::file("image", b"bytes".to_vec());
        file.attributes.insert("bit_depth".to_owned(), "12".to_owned());
        let parts = vec![file, Part::tensor("vibration", &array)];
        let wire: Vec<v1::Part> = parts.iter().cloned().map(write_part).collect();
        assert!(wire[0].codec.is_empty(), "a file's codec takes no byte");
        assert_eq!(read_parts("parts", wire).unwrap(), parts);
    }

    #[test]
    fn what_no_part_can_have_is_named() {
        let field = |part: v1::Part| {
            let parts = vec![v1::Part::default(), part];
            read_parts("sample.parts", parts).unwrap_err().field
        };
        assert_eq!(field(v1::Part { shape: vec![2, -1], ..Default::default() }), "sample.parts[1].shape");
        assert_eq!(field(v1::Part { datatype: 99, ..Default::default() }), "sample.parts[1].datatype");
        let attributes = (0..65).map(|at| (at.to_string(), String::new())).collect();
        assert_eq!(field(v1::Part { attributes, ..Default::default() }), "sample.parts[1].attributes");
    }
}
