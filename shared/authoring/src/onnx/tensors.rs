//! Weights and descriptions of values, as ONNX's messages.

use half::f16;
use millgate_engine::pb;
use millgate_engine::pb::tensor_proto::DataType;
use millgate_engine::pb::tensor_shape_proto::{Dimension, dimension};
use millgate_engine::pb::type_proto;

/// Name of the free first axis.
const BATCH: &str = "N";

/// FP32 weights.
pub(super) fn float(name: &str, dims: &[usize], values: &[f32]) -> pb::TensorProto {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, raw)
}

/// FP16 weights.
pub(super) fn half(name: &str, dims: &[usize], values: &[f32]) -> pb::TensorProto {
    let raw = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    tensor(name, dims, DataType::Float16, raw)
}

/// Whole numbers.
pub(super) fn int64(name: &str, values: &[i64]) -> pb::TensorProto {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, &[values.len()], DataType::Int64, raw)
}

fn tensor(name: &str, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> pb::TensorProto {
    let dims = dims.iter().map(|axis| *axis as i64).collect();
    pb::TensorProto { name: name.to_owned(), dims, data_type: kind.into(), raw_data, ..Default::default() }
}

/// Describes an FP32 value: its first axis is free, `shape` are the others.
pub(super) fn described(name: &str, shape: &[usize]) -> pb::ValueInfoProto {
    let others = shape.iter().map(|axis| dimension::Value::DimValue(*axis as i64));
    info(name, [free_axis(BATCH)].into_iter().chain(others))
}

/// Describes maps of any size: height and width are free as the first axis is.
pub(super) fn free(name: &str, channels: usize) -> pb::ValueInfoProto {
    let channels = dimension::Value::DimValue(channels as i64);
    // The maps of an output are smaller than the picture, so that each has axes of its own.
    let [height, width] = ["height", "width"].map(|axis| free_axis(&format!("{name}_{axis}")));
    info(name, [free_axis(BATCH), channels, height, width])
}

/// The type of an FP32 value of any shape.
pub(super) fn unshaped() -> Option<pb::TypeProto> {
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape: None };
    let value = Some(type_proto::Value::TensorType(tensor));
    Some(pb::TypeProto { value, ..pb::TypeProto::default() })
}

fn free_axis(name: &str) -> dimension::Value {
    dimension::Value::DimParam(name.to_owned())
}

fn info(name: &str, axes: impl IntoIterator<Item = dimension::Value>) -> pb::ValueInfoProto {
    let dim = axes.into_iter().map(|value| Dimension { value: Some(value), ..Dimension::default() });
    let shape = Some(pb::TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(pb::TypeProto { value, ..pb::TypeProto::default() });
    pb::ValueInfoProto { name: name.to_owned(), r#type, ..Default::default() }
}

/// Number of elements of a tensor.
pub fn elements(tensor: &pb::TensorProto) -> usize {
    tensor.dims.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).product()
}

/// The values of a tensor of floating-point numbers; `None` of another one.
pub fn numbers(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type == i32::from(DataType::Float) {
        if !tensor.float_data.is_empty() {
            return Some(tensor.float_data.clone());
        }
        let (values, _) = tensor.raw_data.as_chunks::<4>();
        return Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect());
    }
    if tensor.data_type == i32::from(DataType::Float16) {
        let (values, _) = tensor.raw_data.as_chunks::<2>();
        return Some(values.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect());
    }
    None
}
