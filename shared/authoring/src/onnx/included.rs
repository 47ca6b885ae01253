//! A graph inside another: its names get a prefix, its inputs are bound to values of the other.

use std::collections::BTreeMap;

use millgate_engine::pb;

use super::graph::{Included, Value};
use super::{OnnxError, opset};

pub(super) fn include(
    graph: &mut pb::GraphProto,
    into: i64,
    prefix: &str,
    model: &pb::ModelProto,
    bound: &[(&str, &Value)],
    shared: Option<&Included>,
) -> Result<Included, OnnxError> {
    let found = opset(model);
    if found != into {
        let message = format!("is written in opset {found}, the graph that takes it in in {into}");
        return Err(OnnxError::Other(message));
    }
    let Some(inner) = &model.graph else {
        return Err(OnnxError::Other("holds no graph".to_owned()));
    };
    if inner.node.iter().any(has_graph) {
        let message = "has a loop or a branch, which cannot be taken into another graph";
        return Err(OnnxError::Other(message.to_owned()));
    }
    let mut values: BTreeMap<String, Value> =
        bound.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    for tensor in &inner.initializer {
        let known = shared.and_then(|shared| shared.values.get(&tensor.name));
        let value = known.cloned().unwrap_or_else(|| Value(format!("{prefix}/{}", tensor.name)));
        if known.is_none() {
            graph.initializer.push(pb::TensorProto { name: value.0.clone(), ..tensor.clone() });
        }
        values.insert(tensor.name.clone(), value);
    }
    if let Some(input) = inner.input.iter().find(|input| !values.contains_key(&input.name)) {
        return Err(OnnxError::Other(format!("has an input `{}` that is bound to nothing", input.name)));
    }
    for node in &inner.node {
        // What is made of shared weights alone is shared as well.
        let is_shared = shared.is_some() && node.op_type == "Cast" && is_of_weights(inner, node);
        let mut node = node.clone();
        for input in node.input.iter_mut().filter(|name| !name.is_empty()) {
            let value = values.get(input.as_str());
            let missing =
                || OnnxError::Other(format!("node `{}` takes `{input}`, which nothing gives", node.name));
            *input = value.ok_or_else(missing)?.0.clone();
        }
        for output in node.output.iter_mut().filter(|name| !name.is_empty()) {
            let known = shared.filter(|_| is_shared).and_then(|shared| shared.values.get(output.as_str()));
            let value = known.cloned().unwrap_or_else(|| Value(format!("{prefix}/{output}")));
            values.insert(std::mem::replace(output, value.0.clone()), value);
        }
        if !is_shared {
            node.name = format!("{prefix}/{}", node.name);
            graph.node.push(node);
        }
    }
    Ok(Included { values })
}

fn has_graph(node: &pb::NodeProto) -> bool {
    node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

fn is_of_weights(graph: &pb::GraphProto, node: &pb::NodeProto) -> bool {
    node.input.iter().all(|input| graph.initializer.iter().any(|tensor| tensor.name == *input))
}
