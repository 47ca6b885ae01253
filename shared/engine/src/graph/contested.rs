//! What ONNX Runtime (1.32) computes otherwise than the node cases of the `onnx` package have it, as far as a file shows.
//! Another engine may have it right; if none has, the model is refused by name rather than answered wrongly.

use std::collections::HashMap;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::is_default;

/// Finds the first operation that is contested; `None` if there is none.
pub(super) fn find(graph: &pb::GraphProto) -> Option<&'static str> {
    let mut constants: HashMap<&str, &pb::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for node in &graph.node {
        let held = node.attribute.iter().find(|attribute| attribute.name == "value");
        if let ("Constant", Some(tensor), [to]) =
            (node.op_type.as_str(), held.and_then(|value| value.t.as_ref()), &*node.output)
        {
            constants.insert(to, tensor);
        }
        if is_default(&node.domain)
            && let Some(what) = of(node, &constants)
        {
            return Some(what);
        }
        let inner = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        if let Some(what) = inner.filter_map(find).next() {
            return Some(what);
        }
    }
    None
}

fn of(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Option<&'static str> {
    let input = |slot: usize| node.input.get(slot).map(String::as_str).filter(|name| !name.is_empty());
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let text = |name: &str| attribute(name).map_or(&b""[..], |attribute| &attribute.s);
    match node.op_type.as_str() {
        "MaxUnpool" if input(2).is_some() => Some("a MaxUnpool that is told its output's shape"),
        // Lengths are rounded before or after the corners are aligned: the same where nothing is rounded.
        "Resize"
            if text("coordinate_transformation_mode") == b"align_corners"
                && matches!(text("mode"), b"linear" | b"cubic")
                && input(2).is_some_and(|scales| !constants.get(scales).is_some_and(|it| is_even(it))) =>
        {
            Some("a Resize by uneven scales with its corners aligned")
        }
        "Attention"
            if node.output.get(3).is_some_and(|name| !name.is_empty())
                && attribute("is_causal").is_some_and(|causal| causal.i != 0) =>
        {
            Some("a causal Attention that gives its products of queries and keys")
        }
        "Dropout" if input(2).is_some_and(|mode| !constants.get(mode).is_some_and(|it| is_false(it))) => {
            Some("a Dropout that may be in training mode, where it draws at random")
        }
        _ => None,
    }
}

fn is_false(flag: &pb::TensorProto) -> bool {
    flag.data_type == i32::from(DataType::Bool)
        && flag.int32_data.iter().all(|value| *value == 0)
        && flag.raw_data.iter().all(|byte| *byte == 0)
}

/// True if each scale is a whole number, or one divided by such.
fn is_even(scales: &pb::TensorProto) -> bool {
    if scales.data_type != i32::from(DataType::Float) {
        return false;
    }
    let raw =
        scales.raw_data.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)));
    let is_whole = |value: f32| value >= 1.0 && (value - value.round()).abs() < 1e-3;
    let mut all = scales.float_data.iter().copied().chain(raw).peekable();
    all.peek().is_some() && all.all(|scale| is_whole(scale) || is_whole(1.0 / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize(scales: Option<&[f32]>, mode: &str) -> pb::GraphProto {
        let texts = [("mode", mode), ("coordinate_transformation_mode", "align_corners")];
        let attribute = texts.map(|(name, value)| pb::AttributeProto {
            name: name.to_owned(),
            s: value.as_bytes().to_vec(),
            ..pb::AttributeProto::default()
        });
        let node = pb::NodeProto {
            op_type: "Resize".to_owned(),
            input: ["x", "", "scales"].map(str::to_owned).into(),
            output: vec!["y".to_owned()],
            attribute: attribute.into(),
            ..pb::NodeProto::default()
        };
        let initializer = scales.map(|scales| pb::TensorProto {
            name: "scales".to_owned(),
            data_type: DataType::Float.into(),
            raw_data: scales.iter().flat_map(|scale| scale.to_le_bytes()).collect(),
            ..pb::TensorProto::default()
        });
        let initializer = initializer.into_iter().collect();
        pb::GraphProto { node: vec![node], initializer, ..pb::GraphProto::default() }
    }

    #[test]
    fn a_resize_is_contested_where_lengths_are_rounded() {
        for scales in [&[1.0, 1.0, 2.0, 2.0], &[1.0, 1.0, 0.5, 0.25], &[1.0, 1.0, 1.0 / 3.0, 3.0]] {
            assert_eq!(find(&resize(Some(scales), "linear")), None, "{scales:?}");
        }
        for graph in [resize(Some(&[1.0, 1.0, 0.6, 0.6]), "cubic"), resize(None, "linear")] {
            assert_eq!(find(&graph).unwrap(), "a Resize by uneven scales with its corners aligned");
        }
        assert_eq!(find(&resize(None, "nearest")), None);
    }

    #[test]
    fn inputs_and_outputs_that_are_not_used_are_no_matter() {
        let node = |operation: &str, inputs: &[&str], outputs: &[&str]| pb::NodeProto {
            op_type: operation.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: outputs.iter().map(|name| (*name).to_owned()).collect(),
            ..pb::NodeProto::default()
        };
        let of =
            |node: pb::NodeProto| find(&pb::GraphProto { node: vec![node], ..pb::GraphProto::default() });
        assert_eq!(of(node("MaxUnpool", &["x", "i", ""], &["y"])), None);
        assert!(of(node("MaxUnpool", &["x", "i", "s"], &["y"])).unwrap().contains("MaxUnpool"));
        let causal = |outputs: &[&str]| {
            let mut node = node("Attention", &["q", "k", "v"], outputs);
            node.attribute = vec![pb::AttributeProto {
                name: "is_causal".to_owned(),
                i: 1,
                ..pb::AttributeProto::default()
            }];
            of(node)
        };
        assert_eq!(causal(&["y", "k", "v"]), None);
        assert!(causal(&["y", "", "", "qk"]).unwrap().contains("Attention"));
        assert_eq!(of(node("Dropout", &["x", "ratio"], &["y"])), None);
        assert!(of(node("Dropout", &["x", "ratio", "t"], &["y"])).unwrap().contains("Dropout"));
    }

    #[test]
    fn a_dropout_that_is_certainly_not_in_training_is_as_the_standard_has_it() {
        let of = |flag: u8| {
            let graph = pb::GraphProto {
                node: vec![pb::NodeProto {
                    op_type: "Dropout".to_owned(),
                    input: ["x", "", "t"].map(str::to_owned).into(),
                    output: vec!["y".to_owned()],
                    ..pb::NodeProto::default()
                }],
                initializer: vec![pb::TensorProto {
                    name: "t".to_owned(),
                    data_type: DataType::Bool.into(),
                    raw_data: vec![flag],
                    ..pb::TensorProto::default()
                }],
                ..pb::GraphProto::default()
            };
            find(&graph)
        };
        assert_eq!(of(0), None);
        assert!(of(1).unwrap().contains("training"));
    }
}
