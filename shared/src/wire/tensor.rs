//! Tensors on the wire: raw little-endian bytes, never numbers as text.

use super::WireError;
use crate::proto::v1;
use crate::tensor::Tensor;

/// FP32 only: every input and output of an expert is.
pub fn write_tensor(name: &str, tensor: &Tensor) -> v1::Tensor {
    v1::Tensor {
        name: name.to_owned(),
        datatype: v1::DataType::Fp32.into(),
        shape: tensor.shape().iter().map(|axis| *axis as i64).collect(),
        data: tensor.values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
    }
}

/// `expected` is the shape that the receiver knows the tensor must have, batch axis included.
pub fn read_tensor(field: &str, wire: &v1::Tensor, expected: &[usize]) -> Result<Tensor, WireError> {
    let refuse = |part: &str, message: String| Err(WireError::new(format!("{field}.{part}"), message));
    let shape: Option<Vec<usize>> = wire.shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
    if shape.as_deref() != Some(expected) {
        return refuse("shape", format!("is {:?}, must be {expected:?}", wire.shape));
    }
    let values: Vec<f32> = match v1::DataType::try_from(wire.datatype) {
        Ok(v1::DataType::Fp32) => match wire.data.as_chunks::<4>() {
            (values, []) => values.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            _ => return refuse("data", format!("{} bytes are not a multiple of 4", wire.data.len())),
        },
        Ok(v1::DataType::Uint8) => wire.data.iter().map(|value| f32::from(*value)).collect(),
        Ok(v1::DataType::Int8) => wire.data.iter().map(|value| f32::from(*value as i8)).collect(),
        Ok(v1::DataType::Fp16 | v1::DataType::Unspecified) | Err(_) => {
            return refuse("datatype", "must be FP32, UINT8 or INT8".to_owned());
        }
    };
    let tensor = Tensor::new(expected.to_vec(), values)
        .map_err(|error| WireError::new(format!("{field}.data"), error.to_string()))?;
    if !tensor.is_finite() {
        return refuse("data", "holds a value that is not finite".to_owned());
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_survives_the_wire() {
        let tensor = Tensor::new(vec![1, 3], vec![0.5, -1.0, f32::MIN_POSITIVE]).unwrap();
        assert_eq!(read_tensor("t", &write_tensor("x", &tensor), &[1, 3]).unwrap(), tensor);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = write_tensor("x", &Tensor::new(vec![1, 2], vec![1.0, 2.0]).unwrap());
        let field = |wire: v1::Tensor| read_tensor("t", &wire, &[1, 2]).unwrap_err().field;
        assert_eq!(field(v1::Tensor { shape: vec![2, 1], ..good.clone() }), "t.shape");
        assert_eq!(field(v1::Tensor { shape: vec![-1, 2], ..good.clone() }), "t.shape");
        assert_eq!(field(v1::Tensor { data: good.data.slice(..7), ..good.clone() }), "t.data");
        assert_eq!(field(v1::Tensor { data: good.data.slice(..4), ..good.clone() }), "t.data");
        assert_eq!(field(v1::Tensor { datatype: 0, ..good.clone() }), "t.datatype");
        let nan = Tensor::new(vec![1, 2], vec![1.0, f32::NAN]).unwrap();
        assert_eq!(field(write_tensor("x", &nan)), "t.data");
    }
}
