use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::{self, type_proto};

use super::*;

/// An input of floats; an axis of 0 is free.
fn input(name: &str, axes: &[i64]) -> pb::ValueInfoProto {
    let axis = |length: &i64| Dimension {
        value: Some(match length {
            0 => Length::DimParam("n".to_owned()),
            length => Length::DimValue(*length),
        }),
        ..Default::default()
    };
    let shape = pb::TensorShapeProto { dim: axes.iter().map(axis).collect() };
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape: Some(shape) };
    let kind = pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..Default::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn with(mut node: pb::NodeProto, name: &str, attribute: pb::AttributeProto) -> pb::NodeProto {
    node.attribute.push(pb::AttributeProto { name: name.to_owned(), ..attribute });
    node
}

fn int(i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i, ..Default::default() }
}

fn ints(ints: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto { ints: ints.to_vec(), ..Default::default() }
}

/// A constant of whole numbers.
fn numbers(name: &str, elements: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: vec![elements.len() as i64],
        data_type: DataType::Int64.into(),
        raw_data: elements.iter().flat_map(|element| element.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn graph(
    input: Vec<pb::ValueInfoProto>,
    initializer: Vec<pb::TensorProto>,
    node: Vec<pb::NodeProto>,
) -> pb::GraphProto {
    pb::GraphProto { input, initializer, node, ..Default::default() }
}

fn checked(graph: pb::GraphProto) -> Result<(), String> {
    check(&pb::ModelProto { graph: Some(graph), ..Default::default() }).map_err(|error| error.to_string())
}

fn refused(graph: pb::GraphProto) -> String {
    checked(graph).unwrap_err()
}

#[test]
fn concats_that_double_are_refused_at_the_one_that_is_too_much() {
    for first in
        [graph(vec![input("v0", &[1, 0])], vec![], vec![]), graph(vec![], vec![numbers("v0", &[7])], vec![])]
    {
        let axis = first.input.len() as i64;
        let doubling = |at: usize| {
            let (from, to) = (format!("v{at}"), format!("v{}", at + 1));
            with(node("Concat", &[&from, &from], &to), "axis", int(axis))
        };
        let chain =
            |length: usize| pb::GraphProto { node: (0..length).map(doubling).collect(), ..first.clone() };
        let error = refused(chain(34));
        assert!(error.contains("node `v") && error.contains("(Concat) needs at least"), "{error}");
        checked(chain(20)).unwrap();
    }
}

/// A rank that doubles, and lists of axes that are long, are not followed: nothing is known of such a value.
#[test]
fn ranks_and_lists_without_end_cost_nothing() {
    let gather = |at: usize| {
        let (from, to) = (format!("v{at}"), format!("v{}", at + 1));
        with(node("Gather", &[&from, &from], &to), "axis", int(0))
    };
    let chain = graph(vec![input("v0", &[1, 1])], vec![], (0..60).map(gather).collect());
    checked(chain).unwrap();
    let axes = vec![0; 1_000_000];
    for operator in ["Squeeze", "Unsqueeze"] {
        let many = with(node(operator, &["x"], "y"), "axes", ints(&axes));
        checked(graph(vec![input("x", &[1, 1])], vec![], vec![many])).unwrap();
    }
}

/// What shows a weight in another shape takes no memory of its own.
#[test]
fn a_view_of_a_constant_does_not_count_again() {
    let weight = numbers("w", &vec![0; 1 << 20]);
    let views = |count: usize| {
        let view = |at: usize| {
            node(
                "Identity",
                &[&if at == 0 { "w".to_owned() } else { format!("v{at}") }],
                &format!("v{}", at + 1),
            )
        };
        graph(vec![], vec![weight.clone()], (0..count).map(view).collect())
    };
    // 8 MiB each, 40 GiB together were they copies.
    checked(views(5_000)).unwrap();
}

#[test]
fn operations_that_make_much_of_little_are_refused_by_name() {
    let big = [1 << 20, 1 << 20];
    let x = || vec![input("x", &[1, 4])];
    let cases = [
        (
            "ConstantOfShape",
            graph(vec![], vec![numbers("s", &big)], vec![node("ConstantOfShape", &["s"], "y")]),
        ),
        ("Expand", graph(x(), vec![numbers("s", &[1 << 40, 4])], vec![node("Expand", &["x", "s"], "y")])),
        ("Tile", graph(x(), vec![numbers("s", &big)], vec![node("Tile", &["x", "s"], "y")])),
        ("Pad", graph(x(), vec![numbers("s", &[0, 0, 0, 1 << 40])], vec![node("Pad", &["x", "s"], "y")])),
        ("Resize", graph(x(), vec![numbers("s", &big)], vec![node("Resize", &["x", "", "", "s"], "y")])),
        ("OneHot", graph(x(), vec![numbers("s", &[1 << 40])], vec![node("OneHot", &["x", "s"], "y")])),
        (
            "Range",
            graph(
                vec![],
                vec![numbers("0", &[0]), numbers("l", &[1 << 40]), numbers("1", &[1])],
                vec![node("Range", &["0", "l", "1"], "y")],
            ),
        ),
        (
            "RandomNormal",
            graph(vec![], vec![], vec![with(node("RandomNormal", &[], "y"), "shape", ints(&big))]),
        ),
        (
            "Add",
            graph(
                vec![input("a", &[1 << 20, 1]), input("b", &[1, 1 << 20])],
                vec![],
                vec![node("Add", &["a", "b"], "y")],
            ),
        ),
        (
            "MatMul",
            graph(
                vec![input("a", &[1 << 20, 1]), input("b", &[1, 1 << 20])],
                vec![],
                vec![node("MatMul", &["a", "b"], "y")],
            ),
        ),
        (
            "Gather",
            graph(
                vec![input("a", &[1, 1 << 20]), input("b", &[1 << 20])],
                vec![],
                vec![node("Gather", &["a", "b"], "y")],
            ),
        ),
    ];
    for (operation, graph) in cases {
        let error = refused(graph);
        assert!(error.contains(&format!("node `y` ({operation}) needs at least")), "{error}");
        assert!(error.contains("4096 MiB"), "{error}");
    }
}

#[test]
fn a_shape_that_is_computed_is_followed() {
    let nodes = vec![
        node("Shape", &["x"], "s"),
        node("Mul", &["s", "k"], "m"),
        node("Cast", &["m"], "c"),
        with(node("Concat", &["c", "k"], "all"), "axis", int(0)),
        node("ConstantOfShape", &["all"], "y"),
    ];
    let fixed = graph(vec![input("x", &[1 << 10])], vec![numbers("k", &[1 << 20])], nodes.clone());
    assert!(refused(fixed).contains("node `y` (ConstantOfShape)"));
    let free = graph(vec![input("x", &[0])], vec![numbers("k", &[1 << 20])], nodes);
    checked(free).unwrap();
}

#[test]
fn what_is_inside_a_branch_is_looked_at_with_the_values_around_it() {
    let inner = graph(vec![], vec![], vec![node("Tile", &["x", "s"], "y")]);
    let branch = pb::AttributeProto { g: Some(inner), ..Default::default() };
    let outer = with(node("If", &["flag"], "z"), "then_branch", branch);
    let all = graph(vec![input("x", &[4])], vec![numbers("s", &[1 << 40])], vec![outer]);
    assert!(refused(all).contains("node `y` (Tile)"));
}

#[test]
fn constants_have_a_bound_together() {
    // 3 GiB each, and none of them too much alone, where there is memory.
    let made = |at: usize| node("ConstantOfShape", &["s"], &format!("c{at}"));
    let all = graph(vec![], vec![numbers("s", &[3 << 28])], (0..6).map(made).collect());
    let error = refused(all);
    assert!(error.contains("(ConstantOfShape)") && error.contains("MiB"), "{error}");
    let sparse = pb::SparseTensorProto {
        values: Some(pb::TensorProto { name: "w".to_owned(), data_type: 1, ..Default::default() }),
        dims: vec![1 << 20, 1 << 20],
        ..Default::default()
    };
    let all = pb::GraphProto { sparse_initializer: vec![sparse], ..Default::default() };
    assert!(refused(all).contains("sparse weight `w` needs at least 4194304 MiB"));
}

#[test]
fn a_weight_holds_what_its_shape_says() {
    let weight = |dims: &[i64], kind: DataType, bytes: usize| {
        let tensor = pb::TensorProto {
            name: "w".to_owned(),
            dims: dims.to_vec(),
            data_type: kind.into(),
            raw_data: vec![0; bytes],
            ..Default::default()
        };
        checked(graph(vec![], vec![tensor], vec![]))
    };
    weight(&[2, 3], DataType::Float, 24).unwrap();
    weight(&[0, 1 << 40], DataType::Float, 0).unwrap();
    weight(&[], DataType::Int8, 1).unwrap();
    let error = weight(&[1 << 20, 1 << 20], DataType::Float, 24).unwrap_err();
    assert!(
        error.contains("weight `w` holds 6 elements, its shape [1048576, 1048576] has 1099511627776"),
        "{error}"
    );
    assert!(weight(&[1 << 62, 1 << 62, 4], DataType::Float, 0).is_err());
    assert!(weight(&[-1], DataType::Float, 4).unwrap_err().contains("which is none"));
    let half = pb::TensorProto {
        name: "h".to_owned(),
        dims: vec![3],
        data_type: DataType::Float16.into(),
        int32_data: vec![0; 3],
        ..Default::default()
    };
    checked(graph(vec![], vec![half], vec![])).unwrap();
}

#[test]
fn shapes_that_do_not_fit_each_other_are_the_engine_s_to_refuse() {
    let nodes = vec![
        node("Concat", &["x"], "a"),
        with(node("Concat", &["x", "x"], "b"), "axis", int(-9)),
        with(node("Transpose", &["x"], "c"), "perm", ints(&[7, -1])),
        node("Tile", &["x", "s"], "d"),
        node("Pad", &["x", "s"], "e"),
        with(node("Gather", &["x", "s"], "f"), "axis", int(i64::MIN)),
        node("Reshape", &["x", "s"], "g"),
        with(node("Flatten", &["x"], "h"), "axis", int(i64::MIN)),
        with(node("Squeeze", &["x"], "i"), "axes", ints(&[i64::MAX])),
        with(node("Unsqueeze", &["x"], "j"), "axes", ints(&[i64::MAX, 0, 0, 0])),
        node("MatMul", &["s", "s"], "k"),
        node("Range", &["s", "s", "s"], "l"),
        node("Resize", &["x"], "m"),
        node("OneHot", &["x"], "n"),
        node("Add", &["x", "nothing"], "o"),
        node("ConstantOfShape", &["s"], "p"),
        node("Constant", &[], "q"),
        node("Unheard", &["x"], "r"),
    ];
    checked(graph(vec![input("x", &[2, 3])], vec![numbers("s", &[-5, 0, 7])], nodes)).unwrap();
}

#[test]
fn a_long_chain_is_looked_at_to_its_end() {
    let step = |at: usize| node("Neg", &[&format!("v{at}")], &format!("v{}", at + 1));
    let mut chain = graph(vec![input("v0", &[1, 4])], vec![], (0..60_000).map(step).collect());
    checked(chain.clone()).unwrap();
    chain.initializer.push(numbers("s", &[1, 1 << 40]));
    chain.node.push(node("Tile", &["v60000", "s"], "y"));
    assert!(refused(chain).contains("node `y` (Tile)"));
}
