//! A quantised graph that tract reads wrongly, so that it can be refused.
//!
//! tract turns whatever stands between DequantizeLinear and QuantizeLinear, if it has one input, into a table of the 256
//! codes. That is right for what looks at one element at a time, and wrong without an error for what looks along an
//! axis (`DequantizeLinearF32::declutter` of tract-core 0.23).

use std::collections::HashMap;

use tract_onnx::pb;

/// Operations that look along an axis, and take a list of codes as well as anything else.
const ALONG_AN_AXIS: [&str; 8] = [
    "Softmax",
    "LogSoftmax",
    "Hardmax",
    "CumSum",
    "LpNormalization",
    "LayerNormalization",
    "InstanceNormalization",
    "MeanVarianceNormalization",
];

/// First operation that would become a table and must not; `None` if there is none.
pub(super) fn misread(graph: &pb::GraphProto) -> Option<&str> {
    let made_by: HashMap<&str, &pb::NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let data = |node: &pb::NodeProto| node.input.first().and_then(|name| made_by.get(name.as_str()).copied());
    let ends = graph.node.iter().filter(|node| node.op_type == "QuantizeLinear");
    ends.filter_map(|end| {
        let (mut found, mut at) = (None, data(end));
        // No chain is longer than the graph, whatever a broken file says.
        for _ in 0..graph.node.len() {
            let node = at?;
            if node.op_type == "DequantizeLinear" {
                return found;
            }
            // Two tensors that are computed end the chain.
            if node.input.iter().filter(|name| made_by.contains_key(name.as_str())).count() > 1 {
                return None;
            }
            if ALONG_AN_AXIS.contains(&node.op_type.as_str()) {
                found = Some(node.op_type.as_str());
            }
            at = data(node);
        }
        None
    })
    .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(operations: &[(&str, &[&str], &str)]) -> pb::GraphProto {
        let node = |(operation, inputs, output): &(&str, &[&str], &str)| pb::NodeProto {
            op_type: (*operation).to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![(*output).to_owned()],
            ..Default::default()
        };
        pb::GraphProto { node: operations.iter().map(node).collect(), ..Default::default() }
    }

    #[test]
    fn what_looks_along_an_axis_between_codes_is_found() {
        let chain = |operation| {
            graph(&[
                ("DequantizeLinear", &["q", "s", "z"], "d"),
                (operation, &["d"], "m"),
                ("Relu", &["m"], "r"),
                ("QuantizeLinear", &["r", "s", "z"], "out"),
            ])
        };
        assert_eq!(misread(&chain("Softmax")), Some("Softmax"));
        assert_eq!(misread(&chain("LayerNormalization")), Some("LayerNormalization"));
        assert_eq!(misread(&chain("Sigmoid")), None);
    }

    #[test]
    fn other_graphs_are_left_alone() {
        let mixed = graph(&[
            ("DequantizeLinear", &["q", "s", "z"], "d"),
            ("Softmax", &["d"], "m"),
            ("MatMul", &["d", "m"], "p"),
            ("QuantizeLinear", &["p", "s", "z"], "out"),
        ]);
        assert_eq!(misread(&mixed), None);
        let float = graph(&[("Softmax", &["x"], "m"), ("QuantizeLinear", &["m", "s", "z"], "out")]);
        assert_eq!(misread(&float), None);
        assert_eq!(misread(&graph(&[("QuantizeLinear", &["a"], "b"), ("Relu", &["b"], "a")])), None);
    }
}
