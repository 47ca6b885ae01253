//! `ZipMap`, the last operation of most exports of scikit-learn and LightGBM: it makes of a table of probabilities a
//! list of maps from class to probability, which no tensor is. It is taken out, so that the output is the table itself,
//! one column a class; everything else in the file stays byte for byte.

use bytes::{Buf, Bytes};
use millgate_array::Datatype;
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;

use crate::error::EngineError;
use crate::graph::ML_DOMAIN;
use crate::port::{Axis, Port};

/// Fields of `ModelProto` and `GraphProto`.
const GRAPH: u32 = 7;
const NODE: u32 = 1;
const OUTPUT: u32 = 12;

/// Output that the file makes a list of maps of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zipped {
    pub output: String,
    /// Class of each column.
    pub classes: Vec<String>,
}

impl Zipped {
    /// Port as which the output is served.
    pub(super) fn port(&self) -> Port {
        let shape = Some(vec![Axis::Any, Axis::Fixed(self.classes.len())]);
        Port { name: self.output.clone(), datatype: Datatype::Fp32, shape }
    }
}

fn is_zip_map(node: &pb::NodeProto) -> bool {
    node.op_type == "ZipMap" && node.domain == ML_DOMAIN && node.input.len() == 1 && node.output.len() == 1
}

/// Finds such outputs, as far as nothing else in the graph uses them.
pub(super) fn find(graph: &pb::GraphProto) -> Vec<Zipped> {
    let is_used = |name: &String| graph.node.iter().any(|node| node.input.contains(name));
    let zipped = |node: &pb::NodeProto| {
        let output = node.output.first()?;
        let is_output = graph.output.iter().any(|it| it.name == *output);
        let classes: Vec<String> = node.attribute.iter().flat_map(classes).collect();
        (is_output && !is_used(output) && !classes.is_empty())
            .then(|| Zipped { output: output.clone(), classes })
    };
    graph.node.iter().filter(|node| is_zip_map(node)).filter_map(zipped).collect()
}

fn classes(attribute: &pb::AttributeProto) -> Vec<String> {
    match attribute.name.as_str() {
        "classlabels_int64s" => attribute.ints.iter().map(ToString::to_string).collect(),
        "classlabels_strings" => {
            attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Rewrites the file with those outputs as tables.
pub(super) fn unzip(file: &[u8], zipped: &[Zipped]) -> Result<Bytes, EngineError> {
    let unzipped = with_fields(file, &mut |field, bytes| {
        if field != GRAPH {
            return Ok(None);
        }
        let graph = with_fields(bytes, &mut |field, bytes| match field {
            NODE => node(bytes, zipped),
            OUTPUT => output(bytes, zipped),
            _ => Ok(None),
        });
        graph.map(Some)
    });
    Ok(unzipped?.into())
}

fn unreadable(error: prost::DecodeError) -> EngineError {
    EngineError::NotOnnx(error.to_string())
}

fn node(bytes: &[u8], zipped: &[Zipped]) -> Result<Option<Vec<u8>>, EngineError> {
    let mut node = pb::NodeProto::decode(bytes).map_err(unreadable)?;
    let is_zipped = |name: &String| zipped.iter().any(|zipped| zipped.output == *name);
    if !is_zip_map(&node) || !node.output.iter().any(is_zipped) {
        return Ok(None);
    }
    "Identity".clone_into(&mut node.op_type);
    node.domain.clear();
    node.attribute.clear();
    Ok(Some(node.encode_to_vec()))
}

fn output(bytes: &[u8], zipped: &[Zipped]) -> Result<Option<Vec<u8>>, EngineError> {
    let mut info = pb::ValueInfoProto::decode(bytes).map_err(unreadable)?;
    let Some(zipped) = zipped.iter().find(|zipped| zipped.output == info.name) else { return Ok(None) };
    let columns = i64::try_from(zipped.classes.len()).unwrap_or(i64::MAX);
    let columns = Dimension { value: Some(dimension::Value::DimValue(columns)), ..Dimension::default() };
    let shape = Some(pb::TensorShapeProto { dim: vec![Dimension::default(), columns] });
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    info.r#type = Some(pb::TypeProto { value, ..pb::TypeProto::default() });
    Ok(Some(info.encode_to_vec()))
}

/// Replacement for a field that holds a message; `None` keeps what was there.
type Replace<'a> = dyn FnMut(u32, &[u8]) -> Result<Option<Vec<u8>>, EngineError> + 'a;

/// Copies a message field by field.
fn with_fields(message: &[u8], replace: &mut Replace<'_>) -> Result<Vec<u8>, EngineError> {
    let mut out = Vec::with_capacity(message.len());
    let mut rest = message;
    while rest.has_remaining() {
        let begin = rest;
        let (field, kind) = encoding::decode_key(&mut rest).map_err(unreadable)?;
        let mut replaced = None;
        if kind == WireType::LengthDelimited {
            let length = encoding::decode_varint(&mut rest).map_err(unreadable)?;
            let parts = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let (content, after) =
                parts.ok_or_else(|| EngineError::NotOnnx(format!("field {field} is cut off")))?;
            rest = after;
            replaced = replace(field, content)?;
        } else {
            encoding::skip_field(kind, field, &mut rest, DecodeContext::default()).map_err(unreadable)?;
        }
        match replaced {
            None => out.extend_from_slice(&begin[..begin.len() - rest.len()]),
            Some(other) => {
                encoding::encode_key(field, WireType::LengthDelimited, &mut out);
                encoding::encode_varint(other.len() as u64, &mut out);
                out.extend_from_slice(&other);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
