//! What is known of a graph's values before anything runs: element types, and the values of constants.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{self, type_proto};

/// Place where a constant stands.
#[derive(Debug, Clone, Copy)]
enum Held<'a> {
    Tensor(&'a pb::TensorProto),
    /// A `Constant` that gives its value otherwise than as a tensor.
    Node(&'a pb::NodeProto),
}

/// The values that a graph's nodes may name: its own, and those of the graphs around it.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    around: Option<&'a Self>,
    types: HashMap<&'a str, DataType>,
    constants: HashMap<&'a str, Held<'a>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(graph: &'a pb::GraphProto, around: Option<&'a Self>) -> Self {
        let mut scope = Self { around, ..Self::default() };
        for tensor in &graph.initializer {
            scope.constants.insert(&tensor.name, Held::Tensor(tensor));
            scope.see(&tensor.name, DataType::try_from(tensor.data_type).ok());
        }
        for port in graph.input.iter().chain(&graph.value_info).chain(&graph.output) {
            scope.see(&port.name, declared(port));
        }
        scope
    }

    /// Takes in what a node gives, once its inputs are known.
    pub(super) fn learn(&mut self, node: &'a pb::NodeProto, types: &[Option<DataType>]) {
        for (name, kind) in node.output.iter().zip(types) {
            self.see(name, *kind);
        }
        let Some(output) = node.output.first() else { return };
        match node.op_type.as_str() {
            "Constant" => {
                let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
                self.constants.insert(output, tensor.map_or(Held::Node(node), Held::Tensor));
            }
            "Identity" => {
                let held = node.input.first().and_then(|name| self.constant(name));
                if let Some(held) = held {
                    self.constants.insert(output, held);
                }
            }
            _ => {}
        }
    }

    /// Notes the type of a value. What a file declares is believed before what would be derived.
    fn see(&mut self, name: &'a str, kind: Option<DataType>) {
        if let Some(kind) = kind
            && !name.is_empty()
        {
            self.types.entry(name).or_insert(kind);
        }
    }

    pub(super) fn datatype(&self, name: &str) -> Option<DataType> {
        let own = self.types.get(name).copied();
        own.or_else(|| self.around.and_then(|around| around.datatype(name)))
    }

    fn constant(&self, name: &str) -> Option<Held<'a>> {
        let own = self.constants.get(name).copied();
        own.or_else(|| self.around.and_then(|around| around.constant(name)))
    }

    /// The elements of a constant of whole numbers or flags, if they lie in the file itself.
    pub(super) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        match self.constant(name)? {
            Held::Tensor(tensor) => integers(tensor),
            Held::Node(node) => {
                let attribute = node.attribute.first()?;
                match attribute.name.as_str() {
                    "value_int" => Some(vec![attribute.i]),
                    "value_ints" => Some(attribute.ints.clone()),
                    _ => None,
                }
            }
        }
    }
}

fn declared(port: &pb::ValueInfoProto) -> Option<DataType> {
    let value = port.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let type_proto::Value::TensorType(tensor) = value?;
    DataType::try_from(tensor.elem_type).ok().filter(|kind| *kind != DataType::Undefined)
}

fn integers(tensor: &pb::TensorProto) -> Option<Vec<i64>> {
    macro_rules! raw {
        ($of:ty) => {
            (tensor.raw_data.chunks_exact(size_of::<$of>()))
                .map(|bytes| i64::try_from(<$of>::from_le_bytes(bytes.try_into().ok()?)).ok())
                .collect::<Option<Vec<i64>>>()
        };
    }
    if !tensor.external_data.is_empty() {
        return None;
    }
    let kind = DataType::try_from(tensor.data_type).ok()?;
    if !tensor.raw_data.is_empty() {
        return match kind {
            DataType::Int8 => raw!(i8),
            DataType::Int16 => raw!(i16),
            DataType::Int32 => raw!(i32),
            DataType::Int64 => raw!(i64),
            DataType::Uint8 | DataType::Bool => raw!(u8),
            DataType::Uint16 => raw!(u16),
            DataType::Uint32 => raw!(u32),
            DataType::Uint64 => raw!(u64),
            _ => None,
        };
    }
    match kind {
        DataType::Int64 => Some(tensor.int64_data.clone()),
        DataType::Uint32 | DataType::Uint64 => {
            tensor.uint64_data.iter().map(|value| i64::try_from(*value).ok()).collect()
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Bool => Some(tensor.int32_data.iter().copied().map(i64::from).collect()),
        _ => None,
    }
}
