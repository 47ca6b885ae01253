//! How much memory an ONNX file's description takes once it is read, counted on the bytes before anything is made of them:
//! an empty node is two bytes in the file and hundreds in memory, a whole number one byte and eight.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tract_onnx::pb;

/// Deepest nesting of messages that is looked into; reading refuses what is deeper.
const DEEPEST: usize = 100;
/// Factor by which a list may be larger than what is in it, since it doubles as it grows.
const GROWTH: u64 = 2;
/// Bytes of one number of a list.
const NUMBER: u64 = 8;

/// Kind of a message that may hold others or lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Function,
    Training,
    Annotation,
    Info,
    Type,
    TensorType,
    Shape,
    /// A message of plain fields alone.
    Plain,
}

/// Content of a field that has a length.
enum Content {
    Message(Kind),
    /// Numbers of variable length.
    Numbers,
    Bytes,
}

impl Kind {
    fn size(self) -> u64 {
        let size = match self {
            Self::Model => size_of::<pb::ModelProto>(),
            Self::Graph => size_of::<pb::GraphProto>(),
            Self::Node => size_of::<pb::NodeProto>(),
            Self::Attribute => size_of::<pb::AttributeProto>(),
            Self::Tensor => size_of::<pb::TensorProto>(),
            Self::Sparse => size_of::<pb::SparseTensorProto>(),
            Self::Function => size_of::<pb::FunctionProto>(),
            Self::Training => size_of::<pb::TrainingInfoProto>(),
            Self::Annotation => size_of::<pb::TensorAnnotation>(),
            Self::Info => size_of::<pb::ValueInfoProto>(),
            Self::Type => size_of::<pb::TypeProto>(),
            Self::TensorType => size_of::<pb::type_proto::Tensor>(),
            Self::Shape => size_of::<pb::TensorShapeProto>(),
            Self::Plain => {
                size_of::<pb::StringStringEntryProto>().max(size_of::<pb::tensor_shape_proto::Dimension>())
            }
        };
        size as u64
    }

    /// Content of a field that has a length, by the field's number in the standard's schema.
    fn holds(self, tag: u32) -> Content {
        use Content::{Bytes, Message, Numbers};
        match (self, tag) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Message(Self::Graph),
            (Self::Model, 20) => Message(Self::Training),
            (Self::Model, 25) => Message(Self::Function),
            (Self::Model, 8 | 14)
            | (Self::Function, 9)
            | (Self::Training, 3 | 4)
            | (Self::Annotation, 2)
            | (Self::Shape, 1)
            | (Self::Tensor, 3 | 13) => Message(Self::Plain),
            (Self::Graph, 1) | (Self::Function, 7) => Message(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Message(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Message(Self::Sparse),
            (Self::Graph, 11..=13) => Message(Self::Info),
            (Self::Graph, 14) => Message(Self::Annotation),
            (Self::Node, 5) => Message(Self::Attribute),
            (Self::Attribute, 15) | (Self::Info, 2) => Message(Self::Type),
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Attribute, 8) | (Self::Tensor, 1 | 5 | 7 | 11) | (Self::Sparse, 3) => Numbers,
            _ => Bytes,
        }
    }
}

/// Bytes that the description in `file` takes in memory, roughly and rather too many. Of what cannot be read only the
/// part before it counts.
pub(super) fn bytes(file: &[u8]) -> u64 {
    let mut total = 0;
    // Reading says what is wrong with it.
    let _read = count(file, Kind::Model, DEEPEST, &mut total).is_some();
    total
}

fn count(mut message: &[u8], kind: Kind, deepest: usize, total: &mut u64) -> Option<()> {
    *total += GROWTH * kind.size();
    let deeper = deepest.checked_sub(1)?;
    while message.has_remaining() {
        let (tag, wire) = decode_key(&mut message).ok()?;
        if wire != WireType::LengthDelimited {
            *total += GROWTH * NUMBER;
            skip_field(wire, tag, &mut message, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        let inner = message.get(..length)?;
        match kind.holds(tag) {
            Content::Message(inside) => count(inner, inside, deeper, total)?,
            // Each ends with the byte whose highest bit is not set.
            Content::Numbers => {
                let numbers = inner.iter().filter(|byte| **byte < 0x80).count() as u64;
                *total += GROWTH * NUMBER * numbers;
            }
            Content::Bytes => *total += length as u64 + GROWTH * size_of::<Vec<u8>>() as u64,
        }
        message.advance(length);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn model(graph: pb::GraphProto) -> Vec<u8> {
        pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn empty_nodes_and_small_numbers_count_as_what_they_become() {
        let many = 100_000;
        let nodes =
            model(pb::GraphProto { node: vec![pb::NodeProto::default(); many], ..Default::default() });
        assert!(nodes.len() < 3 * many);
        assert!(bytes(&nodes) >= (many * size_of::<pb::NodeProto>()) as u64);
        let list = pb::TensorProto { int64_data: vec![1; many], ..Default::default() };
        let inner = pb::GraphProto { initializer: vec![list], ..Default::default() };
        let attribute = pb::AttributeProto { g: Some(inner), ..Default::default() };
        let node = pb::NodeProto { attribute: vec![attribute], ..Default::default() };
        let lists = model(pb::GraphProto { node: vec![node], ..Default::default() });
        assert!(lists.len() < 2 * many && bytes(&lists) >= 8 * many as u64);
    }

    #[test]
    fn what_stands_behind_a_named_axis_counts_too() {
        use pb::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
        use pb::{TensorShapeProto, TypeProto, type_proto};
        let axis = |value| pb::tensor_shape_proto::Dimension { value: Some(value), ..Default::default() };
        let shape = TensorShapeProto { dim: vec![axis(DimParam("n".to_owned())), axis(DimValue(3))] };
        let tensor = type_proto::Tensor { shape: Some(shape), ..Default::default() };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        let input = pb::ValueInfoProto { r#type: Some(kind), ..Default::default() };
        // What is written twice is one message: the input stands before the nodes.
        let mut file = model(pb::GraphProto { input: vec![input], ..Default::default() });
        let many = 10_000;
        let nodes = pb::GraphProto { node: vec![pb::NodeProto::default(); many], ..Default::default() };
        file.extend(model(nodes));
        assert!(bytes(&file) >= (many * size_of::<pb::NodeProto>()) as u64);
    }

    #[test]
    fn weights_count_as_what_they_are() {
        let weight = pb::TensorProto { raw_data: vec![0x12; 1 << 20], ..Default::default() };
        let file = model(pb::GraphProto { initializer: vec![weight], ..Default::default() });
        assert!((1 << 20..(1 << 20) + 10_000).contains(&bytes(&file)));
    }

    #[test]
    fn what_is_no_message_counts_as_far_as_it_goes() {
        assert!(bytes(b"no model at all") < 10_000);
        assert!(bytes(&[0x3a, 0xff]) < 10_000);
        let mut nested = Vec::new();
        for _ in 0..300 {
            let (mut graph, length) = (vec![0x0a], nested.len());
            prost::encoding::encode_varint(length as u64, &mut graph);
            graph.append(&mut nested);
            nested = graph;
        }
        assert!(bytes(&nested) < 100_000);
    }
}
