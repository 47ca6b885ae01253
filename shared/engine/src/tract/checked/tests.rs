use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

use super::later::{Fact, Need};
use super::*;

/// A node whose inputs are all FP32, or whole numbers where it says so.
fn node(operator: &str, inputs: &[&str], attributes: &[pb::AttributeProto]) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operator.to_owned(),
        name: "n".to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec!["y".to_owned()],
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> pb::AttributeProto {
    pb::AttributeProto { name: name.to_owned(), r#type: kind.into(), ..Default::default() }
}

fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, f: f32) -> pb::AttributeProto {
    pb::AttributeProto { f, ..attribute(name, AttributeType::Float) }
}

fn text(name: &str, s: &str) -> pb::AttributeProto {
    pb::AttributeProto { s: s.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

fn texts(name: &str, texts: &[&str]) -> pb::AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    pb::AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

fn port(name: &str, kind: DataType) -> pb::ValueInfoProto {
    let dim = vec![Dimension { value: Some(dimension::Value::DimValue(4)), ..Default::default() }];
    let tensor = pb::type_proto::Tensor { elem_type: kind.into(), shape: Some(pb::TensorShapeProto { dim }) };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..Default::default() }
}

fn constant(name: &str, kind: DataType, values: &[i64]) -> pb::TensorProto {
    let mut tensor = pb::TensorProto {
        name: name.to_owned(),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: kind.into(),
        ..Default::default()
    };
    match kind {
        DataType::Int64 => tensor.int64_data = values.to_vec(),
        _ => tensor.raw_data = values.iter().map(|value| u8::try_from(*value).unwrap()).collect(),
    }
    tensor
}

fn graph(nodes: Vec<pb::NodeProto>) -> pb::GraphProto {
    let (float, int, byte) = (DataType::Float, DataType::Int64, DataType::Uint8);
    pb::GraphProto {
        node: nodes,
        input: vec![port("x", float), port("w", float), port("i", int), port("b", byte)],
        initializer: vec![
            constant("two", DataType::Int64, &[2]),
            constant("none", DataType::Int64, &[0]),
            constant("back", DataType::Int64, &[-1]),
            constant("most", DataType::Int64, &[i64::MAX]),
            constant("least", DataType::Int64, &[i64::MIN]),
            constant("three bits", byte, &[3]),
            constant("eight bits", byte, &[8]),
        ],
        ..Default::default()
    }
}

fn model(graph: pb::GraphProto, opset: i64) -> pb::ModelProto {
    let import = pb::OperatorSetIdProto { domain: String::new(), version: opset };
    pb::ModelProto { graph: Some(graph), opset_import: vec![import], ..Default::default() }
}

fn of(node: pb::NodeProto, opset: i64) -> Findings {
    findings(&model(graph(vec![node]), opset))
}

#[test]
fn what_tract_computes_wrongly_is_named_with_its_node() {
    let bad = [
        (node("LSTM", &["x", "w", "w"], &[text("direction", "reverse")]), "direction `reverse`"),
        (node("GRU", &["x", "w", "w"], &[text("direction", "reverse")]), "direction `reverse`"),
        (node("RNN", &["x", "w", "w"], &[texts("activations", &["Relu"])]), "activations"),
        (node("LSTM", &["x", "w", "w"], &[float("clip", 0.3)]), "does not heed `clip`"),
        (node("LSTM", &["x", "w", "w"], &[int("input_forget", 1)]), "input_forget"),
        (node("GRU", &["x", "w", "w"], &[int("layout", 1), text("direction", "bidirectional")]), "layout"),
        (node("ConvTranspose", &["x", "w"], &[ints("output_shape", &[5, 5])]), "output_shape"),
        (
            node(
                "ConvTranspose",
                &["x", "w"],
                &[text("auto_pad", "SAME_UPPER"), ints("output_padding", &[0, 1])],
            ),
            "output_padding",
        ),
        (
            node("QLinearConv", &["b"], &[text("auto_pad", "SAME_LOWER"), ints("dilations", &[2, 1])]),
            "dilations",
        ),
        (node("SpaceToDepth", &["x"], &[text("mode", "CRD")]), "does not heed `mode`"),
        (node("Celu", &["x"], &[float("alpha", 2.0)]), "alpha"),
        (node("Swish", &["x"], &[float("alpha", 0.5)]), "alpha"),
        (node("Attention", &["x", "x", "x", "w"], &[]), "a mask"),
        (node("Attention", &["x", "x", "x", "", "w", "w"], &[]), "the past"),
        (
            node("Attention", &["x", "x", "x"], &[int("left_window_size", 2)]),
            "does not heed `left_window_size`",
        ),
        (node("MultiHeadAttention", &["x", "x", "x"], &[int("unidirectional", 1)]), "unidirectional"),
        (node("BitShift", &["b", "eight bits"], &[text("direction", "LEFT")]), "counts"),
        (node("GatherND", &["x", "back"], &[]), "count from the end"),
        (node("NonMaxSuppression", &["x", "x"], &[]), "max_output_boxes_per_class"),
        (node("NonMaxSuppression", &["x", "x", "none"], &[]), "counts"),
        (node("BatchNormalization", &["x", "w", "w", "w", "w"], &[int("training_mode", 1)]), "training"),
        (node("AveragePool", &["x"], &[int("ceil_mode", 1), text("auto_pad", "VALID")]), "ceil_mode"),
        (node("Einsum", &["x"], &[text("equation", "ij->")]), "single number"),
        (node("DFT", &["x", "two"], &[]), "dft_length"),
        (node("GridSample", &["x", "w"], &[text("mode", "cubic"), text("padding_mode", "border")]), "border"),
        (node("Slice", &["x", "most", "most", "none"], &[]), "beyond the other end"),
        (node("Slice", &["x", "none", "least"], &[]), "beyond the other end"),
        (node("Shrink", &["i"], &[]), "floating point"),
        (node("ReduceLogSum", &["i"], &[]), "floating point"),
        (node("ReduceLogSumExp", &["x"], &[]), "overflows"),
        (node("Resize", &["b", "", "w"], &[text("mode", "linear")]), "floating point"),
        (node("SkipSimplifiedLayerNormalization", &["x", "x", "w", "w"], &[]), "a bias"),
        (node("TreeEnsembleClassifier", &["x"], &[text("post_transform", "SOFTMAX")]), "post_transform"),
        (node("GlobalLpPool", &["x"], &[]), "norm"),
        (node("RandomNormal", &[], &[]), "never checked"),
    ];
    for (node, words) in bad {
        let operator = node.op_type.clone();
        let wrong = of(node, 20).wrong.unwrap_or_else(|| panic!("{operator}: {words}"));
        assert!(
            wrong.contains(&format!("`{operator}` (`n`)")) && wrong.contains(words),
            "{operator}: {wrong}"
        );
    }
}

#[test]
fn what_it_computes_rightly_is_left_alone() {
    let good = [
        node("LSTM", &["x", "w", "w"], &[text("direction", "bidirectional"), int("hidden_size", 4)]),
        node("LSTM", &["x", "w", "w"], &[texts("activations", &["Sigmoid", "tanh", "Tanh"])]),
        node("GRU", &["x", "w", "w"], &[int("linear_before_reset", 1)]),
        node("ConvTranspose", &["x", "w"], &[text("auto_pad", "SAME_UPPER")]),
        node("ConvTranspose", &["x", "w"], &[ints("output_padding", &[1, 1]), ints("strides", &[2, 2])]),
        node("SpaceToDepth", &["x"], &[text("mode", "DCR"), int("blocksize", 2)]),
        node("Celu", &["x"], &[]),
        node("Attention", &["x", "x", "x"], &[int("is_causal", 1)]),
        node("BitShift", &["b", "three bits"], &[text("direction", "RIGHT")]),
        node("NonMaxSuppression", &["x", "x", "two"], &[]),
        node("Slice", &["x", "two", "most", "none"], &[]),
        node("Slice", &["x", "back", "least", "none", "back"], &[]),
        node("Resize", &["b", "", "w"], &[text("mode", "nearest")]),
        node("Resize", &["x", "", "w"], &[text("mode", "linear")]),
        node("Relu", &["x"], &[]),
        node("NotAnOperator", &["x"], &[]),
    ];
    for node in good {
        let operator = node.op_type.clone();
        let found = of(node, 20);
        assert_eq!(found.wrong, None, "{operator}");
        assert!(found.later.is_empty(), "{operator}: {:?}", found.later);
    }
}

#[test]
fn types_are_followed_through_the_graph() {
    let cast = pb::NodeProto { output: vec!["whole".to_owned()], ..node("Cast", &["x"], &[int("to", 7)]) };
    let through = pb::NodeProto { output: vec!["same".to_owned()], ..node("Neg", &["whole"], &[]) };
    let found = findings(&model(graph(vec![cast, through, node("Shrink", &["same"], &[])]), 20));
    assert!(found.wrong.unwrap().contains("`Shrink`"));
    // Of what comes out of a branch nothing is known yet.
    let open = pb::NodeProto { output: vec!["open".to_owned()], ..node("If", &["b"], &[]) };
    let found = findings(&model(graph(vec![open, node("Shrink", &["open"], &[])]), 20));
    assert_eq!((found.wrong, found.later.len()), (None, 1));
}

#[test]
fn nested_graphs_other_domains_and_functions_are_looked_at() {
    let reverse = node("LSTM", &["x", "w", "w"], &[text("direction", "reverse")]);
    let branch = pb::AttributeProto {
        g: Some(pb::GraphProto { node: vec![reverse], ..Default::default() }),
        ..attribute("then_branch", AttributeType::Graph)
    };
    let wrong = of(node("If", &["b"], &[branch]), 20).wrong.unwrap();
    assert!(wrong.contains("`LSTM`"), "{wrong}");
    let foreign = pb::NodeProto { domain: "acme".to_owned(), ..node("Relu", &["x"], &[]) };
    assert!(of(foreign, 20).wrong.unwrap().contains("`acme`"));
    let mut own = model(graph(vec![node("Relu", &["x"], &[])]), 20);
    own.functions.push(pb::FunctionProto { name: Some("Relu".to_owned()), ..Default::default() });
    assert!(findings(&own).wrong.unwrap().contains("a function of the model's own"));
    assert!(of(node("Relu", &["x"], &[]), NEWEST_OPSET + 1).wrong.unwrap().contains("opset"));
}

#[test]
fn what_depends_on_shapes_is_told_when_they_are_known() {
    let top = of(node("TopK", &["x", "i"], &[int("axis", -1)]), 20);
    let [later] = top.later.as_slice() else { panic!("{top:?}") };
    let with = |count: Option<i64>| {
        later.fails(|name| match name {
            "x" => Fact { shape: Some(vec![2, 3]), ..Fact::default() },
            _ => Fact { elements: count.map(|count| vec![count]), ..Fact::default() },
        })
    };
    assert_eq!((with(Some(3)), with(Some(0))), (None, None));
    assert!(with(Some(4)).unwrap().contains("asks for 4 of 3"));
    assert!(with(None).unwrap().contains("count is not known") && with(Some(-1)).is_some());

    let soft = of(node("Softmax", &["x"], &[]), 11);
    assert_eq!(soft.later[0].need, Need::Rank { value: "x".to_owned(), least: 2 });
    let of_rank = |shape: &[usize]| {
        let fact = Fact { shape: Some(shape.to_vec()), ..Fact::default() };
        soft.later[0].fails(|_| fact.clone())
    };
    assert!(of_rank(&[2, 3]).is_none() && of_rank(&[5]).is_some());

    let least = of(node("ReduceMin", &["x"], &[]), 20);
    let of_shape = |shape: &[usize]| {
        let fact = Fact { shape: Some(shape.to_vec()), ..Fact::default() };
        least.later[0].fails(|_| fact.clone())
    };
    assert!(of_shape(&[2, 3]).is_none() && of_shape(&[0, 3]).is_some());
    let shift = of(node("BitShift", &["b", "b"], &[]), 20);
    let by = |counts: &[i64]| {
        let fact = Fact { elements: Some(counts.to_vec()), ..Fact::default() };
        shift.later[0].fails(|_| fact.clone())
    };
    assert!(by(&[0, 7]).is_none() && by(&[8]).is_some() && by(&[-1]).is_some());
    let convolved = of(node("ConvInteger", &["b", "b", "", "z"], &[]), 20);
    assert_eq!(convolved.later[0].need, Need::One { value: "z".to_owned() });
    let slice = of(node("Slice", &["x", "i", "two"], &[]), 20);
    assert_eq!(slice.later[0].need, Need::Constant { values: vec!["i".to_owned()] });
}

#[test]
fn where_nan_would_be_lost_is_told_unless_the_graph_looks_for_it() {
    assert_eq!(of(node("Relu", &["x"], &[]), 20).deaf_to_nan.as_deref(), Some("`Relu` (`n`)"));
    assert_eq!(of(node("Add", &["x", "w"], &[]), 20).deaf_to_nan, None);
    let both = model(graph(vec![node("IsNaN", &["x"], &[]), node("Relu", &["x"], &[])]), 20);
    assert_eq!(findings(&both).deaf_to_nan, None);
}

#[test]
fn the_largest_of_infinities_is_refused_where_a_model_holds_them() {
    let largest = || node("ReduceMax", &["x"], &[]);
    let found = of(largest(), 20);
    assert_eq!((found.wrong, found.deaf_to_infinity.as_deref()), (None, Some("`ReduceMax` (`n`)")));
    for (kind, raw) in [
        (DataType::Float, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (DataType::Double, f64::INFINITY.to_le_bytes().to_vec()),
        (DataType::Float16, half::f16::NEG_INFINITY.to_le_bytes().to_vec()),
    ] {
        let mask = pb::TensorProto { data_type: kind.into(), raw_data: raw, ..Default::default() };
        let masked = pb::GraphProto { initializer: vec![mask], ..graph(vec![largest()]) };
        assert!(findings(&model(masked, 20)).wrong.unwrap().contains("`ReduceMax`"), "{kind:?}");
    }
}

#[test]
fn a_graph_of_more_nodes_than_tract_takes_in_time_is_refused_by_their_number() {
    use prost::Message;

    use crate::{Engine, OnnxFile, Shapes, Tract};

    let neg = |at: usize| pb::NodeProto {
        name: format!("n{at}"),
        output: vec![format!("v{}", at + 1)],
        ..node("Neg", &[&format!("v{at}")], &[])
    };
    let chain = |length: usize| pb::GraphProto {
        node: (0..length).map(neg).collect(),
        input: vec![port("v0", DataType::Float)],
        output: vec![port(&format!("v{length}"), DataType::Float)],
        ..Default::default()
    };
    let load = |graph: pb::GraphProto| {
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
        let model = pb::ModelProto {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![opset],
            ..Default::default()
        };
        let file = OnnxFile::read(model.encode_to_vec().into(), None).unwrap();
        Tract.load(&file, Shapes::Any).map(drop).map_err(|error| error.to_string())
    };
    load(chain(100)).unwrap();
    let error = load(chain(60_000)).unwrap_err();
    assert!(error.contains("it has 60000 nodes") && error.contains("ONNX Runtime"), "{error}");
    let inner =
        pb::AttributeProto { g: Some(chain(60_000)), ..attribute("then_branch", AttributeType::Graph) };
    let mut outer = chain(1);
    outer.node[0].attribute.push(inner);
    assert!(load(outer).unwrap_err().contains("it has 60001 nodes"));
}
