//! Whether a model holds infinite numbers, as masks are made of.

use half::f16;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// True if a constant of the graph, or of one within it, holds an infinite number. Weights in other files are taken
/// for finite.
pub(super) fn holds_any(graph: &pb::GraphProto) -> bool {
    graph.initializer.iter().any(of_tensor)
        || graph.node.iter().flat_map(|node| &node.attribute).any(of_attribute)
}

fn of_attribute(attribute: &pb::AttributeProto) -> bool {
    attribute.f.is_infinite()
        || attribute.floats.iter().any(|value| value.is_infinite())
        || attribute.t.iter().chain(&attribute.tensors).any(of_tensor)
        || attribute.g.iter().chain(&attribute.graphs).any(holds_any)
}

fn of_tensor(tensor: &pb::TensorProto) -> bool {
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let (chunks, _) = raw.as_chunks::<4>();
            chunks.iter().any(|bytes| f32::from_le_bytes(*bytes).is_infinite())
                || tensor.float_data.iter().any(|value| value.is_infinite())
        }
        Ok(DataType::Double) => {
            let (chunks, _) = raw.as_chunks::<8>();
            chunks.iter().any(|bytes| f64::from_le_bytes(*bytes).is_infinite())
                || tensor.double_data.iter().any(|value| value.is_infinite())
        }
        Ok(DataType::Float16) => {
            let (chunks, _) = raw.as_chunks::<2>();
            chunks.iter().any(|bytes| f16::from_le_bytes(*bytes).is_infinite())
                || tensor.int32_data.iter().any(|bits| *bits & 0x7fff == 0x7c00)
        }
        _ => false,
    }
}
