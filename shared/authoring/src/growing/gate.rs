//! A gate's graph with one score more, or one less. What it has is not touched: its `scores` get another name, and what makes
//! them goes on as it did.

use millgate_engine::pb;
use millgate_engine::pb::tensor_proto::DataType;
use millgate_engine::pb::tensor_shape_proto::dimension;
use millgate_engine::pb::{attribute_proto, type_proto};
use millgate_mixture::inputs::GATE_INPUTS;
use prost::Message;

use super::GrowError;
use crate::onnx;

const SCORES: &str = "scores";

/// What a gate's new score is: `embeddings · weights + bias`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) weights: Vec<f32>,
    pub(super) bias: f32,
}

/// The gate with one score more behind the others.
pub(super) fn grown(file: &[u8], row: &Row) -> Result<Vec<u8>, GrowError> {
    change(file, |graph, old, unique| {
        let [embeddings, _] = GATE_INPUTS;
        if !graph.input.iter().any(|input| input.name == embeddings) {
            return Err(GrowError::Gate(format!("it has no input `{embeddings}`")));
        }
        let [flat, weight, bias, new] = ["flat", "weight", "bias", "score"].map(unique);
        graph.initializer.push(tensor(&weight, &[row.weights.len(), 1], &row.weights));
        graph.initializer.push(tensor(&bias, &[1], &[row.bias]));
        graph.node.push(node("Flatten", &[embeddings], &flat, Some(("axis", 1))));
        graph.node.push(node("Gemm", &[&flat, &weight, &bias], &new, None));
        graph.node.push(node("Concat", &[old, &new], SCORES, Some(("axis", 1))));
        Ok(1)
    })
}

/// The gate without the score at a place.
pub(super) fn shrunk(file: &[u8], at: usize, count: usize) -> Result<Vec<u8>, GrowError> {
    change(file, |graph, old, unique| {
        let left: Vec<i64> = (0..count).filter(|other| *other != at).map(|other| other as i64).collect();
        let places = unique("left");
        let raw_data = left.iter().flat_map(|place| place.to_le_bytes()).collect();
        graph.initializer.push(pb::TensorProto {
            name: places.clone(),
            dims: vec![left.len() as i64],
            data_type: DataType::Int64.into(),
            raw_data,
            ..Default::default()
        });
        graph.node.push(node("Gather", &[old, &places], SCORES, Some(("axis", 1))));
        Ok(-1)
    })
}

/// Gives the old scores another name and lets `extend` make new ones of them; it says by how many they are more.
fn change(
    file: &[u8],
    extend: impl FnOnce(&mut pb::GraphProto, &str, &dyn Fn(&str) -> String) -> Result<i64, GrowError>,
) -> Result<Vec<u8>, GrowError> {
    let mut model = onnx::read(file).map_err(|error| GrowError::Gate(error.to_string()))?;
    let graph = model.graph.as_mut().ok_or_else(|| GrowError::Gate("its file holds no graph".to_owned()))?;
    let made = graph.node.iter().flat_map(|node| &node.output).filter(|output| *output == SCORES).count();
    if made != 1 {
        let message = "no operation makes its output `scores`: it is an input or a constant";
        return Err(GrowError::Gate(message.to_owned()));
    }
    let mut number = 0;
    let is_taken = |graph: &pb::GraphProto, prefix: &str| {
        let names = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output));
        names.chain(graph.initializer.iter().map(|tensor| &tensor.name)).any(|name| name.starts_with(prefix))
    };
    while is_taken(graph, &format!("grown{number}.")) {
        number += 1;
    }
    let unique = |name: &str| format!("grown{number}.{name}");
    let old = unique("old");
    for node in &mut graph.node {
        // Nodes are often called as what they make, and two of one name are refused.
        if node.name == SCORES {
            node.name.clone_from(&old);
        }
        for name in node.input.iter_mut().chain(&mut node.output).filter(|name| *name == SCORES) {
            name.clone_from(&old);
        }
    }
    graph.value_info.retain(|info| info.name != SCORES);
    let more = extend(graph, &old, &unique)?;
    for output in graph.output.iter_mut().filter(|output| output.name == SCORES) {
        let kind = output.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = kind else { continue };
        let Some(shape) = &mut tensor.shape else { continue };
        if shape.dim.len() != 2 {
            return Err(GrowError::Gate(format!("its output `scores` has {} axes, not 2", shape.dim.len())));
        }
        if let Some(dimension::Value::DimValue(count)) =
            shape.dim.get_mut(1).and_then(|axis| axis.value.as_mut())
        {
            *count += more;
        }
    }
    Ok(model.encode_to_vec())
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|axis| *axis as i64).collect(),
        data_type: DataType::Float.into(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn node(operation: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>) -> pb::NodeProto {
    let attribute = attribute.map(|(name, number)| pb::AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Int.into(),
        i: number,
        ..Default::default()
    });
    pb::NodeProto {
        name: output.to_owned(),
        op_type: operation.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attribute.into_iter().collect(),
        ..Default::default()
    }
}
