//! What tract reads wrongly, said in other words that mean the same and that it reads rightly.

use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

/// Changes a model's nodes, those of nested graphs too.
pub(super) fn rewrite(proto: &mut pb::ModelProto) {
    let default = |import: &&pb::OperatorSetIdProto| matches!(import.domain.as_str(), "" | "ai.onnx");
    let opset = proto.opset_import.iter().find(default).map_or(0, |import| import.version);
    if let Some(graph) = &mut proto.graph {
        of_graph(graph, opset);
    }
}

fn of_graph(graph: &mut pb::GraphProto, opset: i64) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                of_graph(inner, opset);
            }
        }
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            if matches!(node.op_type.as_str(), "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization")
            {
                epsilon(&mut node);
            }
            nodes.push(node);
            continue;
        }
        match node.op_type.as_str() {
            "Pad" => pad(&mut node),
            "ConstantOfShape" => constant_of_shape(&mut node),
            "Resize" if opset == 10 => resize(&mut node),
            "Softplus" => {
                nodes.extend(softplus(node));
                continue;
            }
            "LogSoftmax" if opset >= 13 => {
                nodes.extend(log_softmax(node, opset, &mut graph.initializer));
                continue;
            }
            _ => {}
        }
        nodes.push(node);
    }
    graph.node = nodes;
}

/// Takes the constant off a `Pad` that does not pad with one: where there is a constant, tract pads with it in every
/// mode.
fn pad(node: &mut pb::NodeProto) {
    let mode = node.attribute.iter().find(|attribute| attribute.name == "mode");
    if mode.is_some_and(|mode| mode.s != b"constant")
        && let Some(constant) = node.input.get_mut(2)
    {
        constant.clear();
    }
}

/// Gives `ConstantOfShape` its value. Zeros are FP32 where nothing else is said; tract makes them FP64.
fn constant_of_shape(node: &mut pb::NodeProto) {
    if node.attribute.iter().all(|attribute| attribute.name != "value") {
        let zero = pb::TensorProto {
            dims: vec![1],
            data_type: DataType::Float.into(),
            float_data: vec![0.0],
            ..Default::default()
        };
        node.attribute.push(pb::AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor.into(),
            t: Some(zero),
            ..Default::default()
        });
    }
}

/// Tells `Resize` of opset 10 how it rounds. It rounds down, where later ones leave the choice.
fn resize(node: &mut pb::NodeProto) {
    node.attribute.push(pb::AttributeProto {
        name: "nearest_mode".to_owned(),
        r#type: AttributeType::String.into(),
        s: b"floor".to_vec(),
        ..Default::default()
    });
}

/// Gives an operator its epsilon. Where nothing is said it is far smaller than tract's.
fn epsilon(node: &mut pb::NodeProto) {
    if node.attribute.iter().all(|attribute| attribute.name != "epsilon") {
        node.attribute.push(pb::AttributeProto {
            name: "epsilon".to_owned(),
            r#type: AttributeType::Float.into(),
            f: 1e-12,
            ..Default::default()
        });
    }
}

/// Replaces `LogSoftmax`. tract takes the logarithm of what has become zero long before its answer is infinite. With
/// `s = x - max(x)`, `s - log(sum(exp(s)))` is the same number.
fn log_softmax(node: pb::NodeProto, opset: i64, weights: &mut Vec<pb::TensorProto>) -> Vec<pb::NodeProto> {
    let (Some(input), Some(output)) = (node.input.first().cloned(), node.output.first().cloned()) else {
        return vec![node];
    };
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(-1, |axis| axis.i);
    let [axes, largest, below, share, sum, all] =
        ["axes", "largest", "below", "share", "sum", "all"].map(|name| format!("{output}.logsoftmax.{name}"));
    weights.push(pb::TensorProto {
        name: axes.clone(),
        dims: vec![1],
        data_type: DataType::Int64.into(),
        int64_data: vec![axis],
        ..Default::default()
    });
    let mut most = part("ReduceMax", &[&input], &largest);
    // A sum takes its axes as an input from opset 13 on, all others from 18 on.
    if opset >= 18 {
        most.input.push(axes.clone());
    } else {
        most.attribute.push(pb::AttributeProto {
            name: "axes".to_owned(),
            r#type: AttributeType::Ints.into(),
            ints: vec![axis],
            ..Default::default()
        });
    }
    vec![
        most,
        part("Sub", &[&input, &largest], &below),
        part("Exp", &[&below], &share),
        part("ReduceSum", &[&share, &axes], &sum),
        part("Log", &[&sum], &all),
        part("Sub", &[&below, &all], &output),
    ]
}

fn part(operator: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operator.to_owned(),
        name: format!("{output}.{operator}"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

/// Replaces `Softplus`. tract takes the logarithm of `1 + exp(x)`, which is infinite long before its answer is.
/// `relu(x) + softplus(-|x|)` is the same number and never overflows.
fn softplus(node: pb::NodeProto) -> Vec<pb::NodeProto> {
    let (Some(input), Some(output)) = (node.input.first().cloned(), node.output.first().cloned()) else {
        return vec![node];
    };
    let [size, below, bent, above] =
        ["size", "below", "bent", "above"].map(|name| format!("{output}.softplus.{name}"));
    vec![
        part("Abs", &[&input], &size),
        part("Neg", &[&size], &below),
        part("Softplus", &[&below], &bent),
        part("Relu", &[&input], &above),
        part("Add", &[&above, &bent], &output),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(node: pb::NodeProto, opset: i64) -> pb::ModelProto {
        let graph = pb::GraphProto { node: vec![node], ..Default::default() };
        let import = pb::OperatorSetIdProto { domain: String::new(), version: opset };
        pb::ModelProto { graph: Some(graph), opset_import: vec![import], ..Default::default() }
    }

    fn node(operator: &str, inputs: &[&str]) -> pb::NodeProto {
        pb::NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec!["y".to_owned()],
            ..Default::default()
        }
    }

    fn rewritten(mut model: pb::ModelProto) -> Vec<pb::NodeProto> {
        rewrite(&mut model);
        model.graph.unwrap().node
    }

    fn mode(value: &[u8]) -> pb::AttributeProto {
        pb::AttributeProto { name: "mode".to_owned(), s: value.to_vec(), ..Default::default() }
    }

    #[test]
    fn only_a_constant_pad_keeps_its_constant() {
        let mut reflect = node("Pad", &["x", "pads", "c", "axes"]);
        reflect.attribute.push(mode(b"reflect"));
        assert_eq!(rewritten(model(reflect, 18))[0].input, ["x", "pads", "", "axes"]);
        let mut constant = node("Pad", &["x", "pads", "c"]);
        assert_eq!(rewritten(model(constant.clone(), 18))[0].input[2], "c");
        constant.attribute.push(mode(b"constant"));
        assert_eq!(rewritten(model(constant, 18))[0].input[2], "c");
    }

    #[test]
    fn defaults_are_said_where_tract_has_others() {
        let made = rewritten(model(node("ConstantOfShape", &["s"]), 13));
        assert_eq!(made[0].attribute[0].t.as_ref().unwrap().data_type, i32::from(DataType::Float));
        let made = rewritten(model(node("Resize", &["x", "s"]), 10));
        assert_eq!(made[0].attribute[0].s, b"floor");
        assert!(rewritten(model(node("Resize", &["x", "", "s"]), 11))[0].attribute.is_empty());
        let skip =
            pb::NodeProto { domain: "com.microsoft".to_owned(), ..node("SkipLayerNormalization", &["x"]) };
        assert_eq!(rewritten(model(skip, 17))[0].attribute[0].f, 1e-12);
    }

    #[test]
    fn a_log_softmax_is_a_difference_along_its_axis() {
        for (opset, inputs, attributes) in [(13, 1, 1), (18, 2, 0)] {
            let mut soft = node("LogSoftmax", &["x"]);
            soft.attribute.push(pb::AttributeProto { name: "axis".to_owned(), i: 1, ..Default::default() });
            let mut made = model(soft, opset);
            rewrite(&mut made);
            let graph = made.graph.unwrap();
            let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
            assert_eq!(operators, ["ReduceMax", "Sub", "Exp", "ReduceSum", "Log", "Sub"]);
            let most = &graph.node[0];
            assert_eq!((most.input.len(), most.attribute.len()), (inputs, attributes), "opset {opset}");
            assert_eq!(
                (graph.node[5].output[0].as_str(), graph.initializer[0].int64_data.as_slice()),
                ("y", &[1][..])
            );
        }
        assert_eq!(rewritten(model(node("LogSoftmax", &["x"]), 11))[0].op_type, "LogSoftmax");
    }

    #[test]
    fn softplus_becomes_what_never_overflows_in_nested_graphs_too() {
        let inner = pb::GraphProto { node: vec![node("Softplus", &["x"])], ..Default::default() };
        let mut outer = node("If", &["flag"]);
        outer.attribute.push(pb::AttributeProto { g: Some(inner), ..Default::default() });
        let made = rewritten(model(outer, 17));
        let nodes = &made[0].attribute[0].g.as_ref().unwrap().node;
        let operators: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Abs", "Neg", "Softplus", "Relu", "Add"]);
        assert_eq!(nodes[4].output, ["y"]);
    }
}
