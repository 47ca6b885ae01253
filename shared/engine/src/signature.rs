//! What an ONNX file says of itself: inputs, outputs, opsets and metadata, read without any engine.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use millgate_array::{Array, Datatype};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::{self, type_proto};

use crate::error::EngineError;
use crate::external::{self, Wanted};
use crate::graph::Graph;
use crate::onnx::parse;
use crate::port::{Axis, Port};
use crate::sizes;
use crate::zipmap::{self, Zipped};

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Version of the operator set by domain; the default domain is "".
    pub opsets: BTreeMap<String, i64>,
    pub producer: String,
    pub description: String,
    /// Entries of the file's `metadata_props`.
    pub properties: BTreeMap<String, String>,
    /// True if some convolution works on each channel alone.
    pub is_depthwise: bool,
    /// Other files in which weights lie, as this one names them.
    pub external_files: Vec<Wanted>,
    /// Facts that the operations show.
    pub graph: Graph,
    /// Outputs that are served as tables, though the file makes lists of maps of them.
    pub zipped: Vec<Zipped>,
    /// Outputs that are no tensors, and so are not served.
    pub left_out: Vec<String>,
}

/// Reason why a set of inputs does not fit a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("input `{name}` must be {expected}, got {found}")]
    Datatype { name: String, expected: Datatype, found: Datatype },
    #[error("input `{name}` must have shape {expected}, got {found:?}")]
    Shape { name: String, expected: String, found: Vec<usize> },
    #[error("input `{name}`: axis `{axis}` is {found}, but {other} elsewhere in this request")]
    Axis { name: String, axis: String, found: usize, other: usize },
}

impl Signature {
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|port| port.name == name)
    }

    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|port| port.name == name)
    }

    /// True if every input and output has a free first axis, so that it may be one of rows. Whether the rows are
    /// independent of each other only a trial can tell.
    pub fn may_batch(&self) -> bool {
        !self.inputs.is_empty() && self.inputs.iter().chain(&self.outputs).all(Port::starts_free)
    }

    /// Checks inputs that are in the signature's order.
    pub fn check(&self, inputs: &[Array]) -> Result<(), Misfit> {
        let mut named = HashMap::new();
        for (port, input) in self.inputs.iter().zip(inputs) {
            let name = &port.name;
            if input.datatype() != port.datatype {
                let (expected, found) = (port.datatype, input.datatype());
                return Err(Misfit::Datatype { name: name.clone(), expected, found });
            }
            let Some(axes) = &port.shape else { continue };
            let fits =
                |(axis, length): (&Axis, &usize)| !matches!(axis, Axis::Fixed(fixed) if fixed != length);
            if axes.len() != input.shape().len() || !axes.iter().zip(input.shape()).all(fits) {
                let expected = format!("{:?}", port.wire_shape());
                return Err(Misfit::Shape { name: name.clone(), expected, found: input.shape().to_vec() });
            }
            for (axis, length) in axes.iter().zip(input.shape()) {
                let Axis::Named(axis) = axis else { continue };
                let other = *named.entry(axis.as_str()).or_insert(*length);
                if other != *length {
                    let (axis, found) = (axis.clone(), *length);
                    return Err(Misfit::Axis { name: name.clone(), axis, found, other });
                }
            }
        }
        Ok(())
    }
}

/// Reads the signature from a file's bytes.
pub fn read(onnx: &[u8]) -> Result<Signature, EngineError> {
    let read = || {
        let proto = parse(onnx)?;
        of(&proto)
    };
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(EngineError::NotOnnx("the file is inconsistent".to_owned())))
}

fn of(proto: &pb::ModelProto) -> Result<Signature, EngineError> {
    let graph = proto.graph.as_ref();
    let graph = graph.ok_or_else(|| EngineError::NotOnnx("it holds no graph".to_owned()))?;
    if proto.opset_import.is_empty() {
        return Err(EngineError::NotOnnx("it imports no operator set".to_owned()));
    }
    sizes::check(proto)?;
    // Old files list their weights among the inputs.
    let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str()));
    let domain = |name: &str| if name == "ai.onnx" { String::new() } else { name.to_owned() };
    let joined = |parts: [&str; 2], by: &str| {
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(by)
    };
    let channels: HashMap<&str, i64> = (graph.initializer.iter())
        .filter_map(|weight| Some((weight.name.as_str(), *weight.dims.get(1)?)))
        .collect();
    let is_depthwise = |node: &pb::NodeProto| {
        let groups =
            node.attribute.iter().find(|attribute| attribute.name == "group").map_or(1, |group| group.i);
        let per_group = node.input.get(1).and_then(|weight| channels.get(weight.as_str()));
        node.op_type == "Conv" && groups > 1 && per_group == Some(&1)
    };
    let zipped = zipmap::find(graph);
    let (outputs, left_out) = outputs(graph, &zipped)?;
    Ok(Signature {
        inputs: inputs.map(port).collect::<Result<_, _>>()?,
        outputs,
        opsets: proto.opset_import.iter().map(|import| (domain(&import.domain), import.version)).collect(),
        producer: joined([&proto.producer_name, &proto.producer_version], " "),
        description: joined([&proto.doc_string, &graph.doc_string], "\n"),
        properties: (proto.metadata_props.iter())
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect(),
        is_depthwise: graph.node.iter().any(is_depthwise),
        external_files: external::locations(proto),
        graph: Graph::of(proto),
        zipped,
        left_out,
    })
}

/// Outputs that are tensors, or are made such, and the names of the others; an error if there are only others.
fn outputs(graph: &pb::GraphProto, zipped: &[Zipped]) -> Result<(Vec<Port>, Vec<String>), EngineError> {
    let (mut ports, mut left_out, mut refused) = (Vec::new(), Vec::new(), None);
    for info in &graph.output {
        if let Some(zipped) = zipped.iter().find(|zipped| zipped.output == info.name) {
            ports.push(zipped.port());
        } else if is_tensor(info) {
            ports.push(port(info)?);
        } else {
            refused = refused.or(port(info).err());
            left_out.push(info.name.clone());
        }
    }
    match refused {
        Some(error) if ports.is_empty() => Err(error),
        _ => Ok((ports, left_out)),
    }
}

fn is_tensor(info: &pb::ValueInfoProto) -> bool {
    info.r#type.as_ref().is_some_and(|kind| kind.value.is_some())
}

fn port(info: &pb::ValueInfoProto) -> Result<Port, EngineError> {
    let refuse = |what: &str| EngineError::Kind { name: info.name.clone(), what: what.to_owned() };
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(refuse("not a tensor"));
    };
    let datatype = DataType::try_from(tensor.elem_type).ok().and_then(datatype);
    let datatype = datatype.ok_or_else(|| refuse(&format!("of element type {}", tensor.elem_type)))?;
    let axis = |length: Option<&Length>| match length {
        Some(Length::DimValue(length)) => match usize::try_from(*length) {
            Ok(length) if length > 0 => Axis::Fixed(length),
            _ => Axis::Any,
        },
        Some(Length::DimParam(name)) if !name.is_empty() => Axis::Named(name.clone()),
        _ => Axis::Any,
    };
    let shape = tensor.shape.as_ref();
    let shape = shape.map(|shape| shape.dim.iter().map(|dim| axis(dim.value.as_ref())).collect());
    Ok(Port { name: info.name.clone(), datatype, shape })
}

fn datatype(onnx: DataType) -> Option<Datatype> {
    Some(match onnx {
        DataType::Bool => Datatype::Bool,
        DataType::Uint8 => Datatype::Uint8,
        DataType::Uint16 => Datatype::Uint16,
        DataType::Uint32 => Datatype::Uint32,
        DataType::Uint64 => Datatype::Uint64,
        DataType::Int8 => Datatype::Int8,
        DataType::Int16 => Datatype::Int16,
        DataType::Int32 => Datatype::Int32,
        DataType::Int64 => Datatype::Int64,
        DataType::Float16 => Datatype::Fp16,
        DataType::Bfloat16 => Datatype::Bf16,
        DataType::Float => Datatype::Fp32,
        DataType::Double => Datatype::Fp64,
        DataType::String => Datatype::Bytes,
        _ => return None,
    })
}
