use tract_onnx::pb::tensor_proto::DataType;

use super::*;

fn node(operation: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operation.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..pb::NodeProto::default()
    }
}

fn input(name: &str, kind: DataType) -> pb::ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: kind.into(), shape: None };
    let value = Some(type_proto::Value::TensorType(tensor));
    let kind = Some(pb::TypeProto { value, ..pb::TypeProto::default() });
    pb::ValueInfoProto { name: name.to_owned(), r#type: kind, ..pb::ValueInfoProto::default() }
}

fn weight(name: &str, kind: DataType) -> pb::TensorProto {
    pb::TensorProto { name: name.to_owned(), data_type: kind.into(), ..pb::TensorProto::default() }
}

fn graph(
    node: Vec<pb::NodeProto>,
    input: Vec<pb::ValueInfoProto>,
    initializer: Vec<pb::TensorProto>,
) -> Graph {
    let graph = pb::GraphProto { node, input, initializer, ..pb::GraphProto::default() };
    Graph::of(&pb::ModelProto { graph: Some(graph), ..pb::ModelProto::default() })
}

#[test]
fn operations_of_nested_graphs_and_other_domains_are_known() {
    let inside = pb::GraphProto { node: vec![node("Conv", &["x"], "y")], ..pb::GraphProto::default() };
    let mut branch = node("If", &["c"], "y");
    branch.attribute = vec![pb::AttributeProto { g: Some(inside), ..pb::AttributeProto::default() }];
    let mut scaler = node("Scaler", &["x"], "y");
    ML_DOMAIN.clone_into(&mut scaler.domain);
    let found = graph(vec![branch, scaler], Vec::new(), Vec::new());
    assert_eq!(found.operations, ["If", "Conv", "ai.onnx.ml.Scaler"].map(str::to_owned).into());
    assert!(found.has_domain(ML_DOMAIN) && !found.has_domain("ai.onnx") && !found.is_quantised());
    for operation in ["QLinearConv", "DequantizeLinear", "MatMulInteger", "DynamicQuantizeLinear"] {
        assert!(graph(vec![node(operation, &[], "y")], Vec::new(), Vec::new()).is_quantised(), "{operation}");
    }
}

#[test]
fn an_input_is_what_it_is_used_for_under_whatever_name() {
    let names = ["x", "axes", "shape", "by", "n", "plain"];
    let nodes = vec![
        node("Cast", &["axes"], "axes64"),
        node("Identity", &["axes64"], "a"),
        node("ReduceSum", &["x", "a"], "r"),
        node("Reshape", &["r", "shape"], "s"),
        node("Div", &["s", "by"], "d"),
        node("Tile", &["d", "n"], "t"),
        node("Add", &["t", "plain"], "y"),
    ];
    let found = graph(nodes, names.iter().map(|name| input(name, DataType::Int64)).collect(), Vec::new());
    let roles: Vec<(&str, Role)> = found.roles.iter().map(|(name, role)| (name.as_str(), *role)).collect();
    let expected = [("axes", Role::Axes), ("by", Role::Divisor), ("n", Role::Count), ("shape", Role::Shape)];
    assert_eq!(roles, expected);
    assert!(!Role::Divisor.is_of_layout() && Role::Axes.is_of_layout());
}

#[test]
fn products_of_8_bit_numbers_that_are_no_constants_are_found() {
    let loose = |nodes: Vec<pb::NodeProto>| {
        let inputs =
            vec![input("x", DataType::Uint8), input("s8", DataType::Int8), input("u8", DataType::Uint8)];
        let weights =
            vec![weight("w", DataType::Int8), weight("s", DataType::Float), weight("z", DataType::Uint8)];
        graph(nodes, inputs, weights).loose_product
    };
    let linear = |name: &str| vec![node("QLinearConv", &["x", "s", "z", name, "s", "z", "s", "z"], "y")];
    assert_eq!(loose(linear("w")), None);
    assert_eq!(loose(linear("s8")).unwrap(), "QLinearConv");
    assert_eq!(loose(linear("u8")), None, "without a sign nothing overflows");
    let turned = vec![node("Transpose", &["w"], "t"), node("MatMulInteger", &["x", "t"], "y")];
    assert_eq!(loose(turned), None, "it is a constant still");
    // Made floats and multiplied, which engines do with 8-bit numbers.
    let fused = |name: &str, zero: &[&str]| {
        let from = [&[name, "s"], zero].concat();
        let sides = [node("DequantizeLinear", &["x", "s", "z"], "a"), node("DequantizeLinear", &from, "b")];
        [&sides[..], &[node("MatMul", &["a", "b"], "y")]].concat()
    };
    assert_eq!(loose(fused("w", &[])), None);
    assert_eq!(loose(fused("s8", &[])).unwrap(), "MatMul");
    assert_eq!(loose(fused("u8", &["z"])), None);
    assert_eq!(loose(vec![node("MatMul", &["x", "s8"], "y")]), None, "floats");
}
