//! Small ONNX models, made here: tests that need one need no Python.

use std::path::Path;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

/// A length, or a name for any.
#[derive(Debug, Clone, Copy)]
pub enum Axis {
    Is(i64),
    Any(&'static str),
}

use Axis::{Any, Is};

/// An operation: its type, inputs and outputs.
pub fn node(operation: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    pb::NodeProto {
        op_type: operation.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..pb::NodeProto::default()
    }
}

fn with_axes(mut node: pb::NodeProto, axes: &[i64]) -> pb::NodeProto {
    let (name, ints) = ("axes".to_owned(), axes.to_vec());
    let keep = pb::AttributeProto {
        name: "keepdims".to_owned(),
        r#type: AttributeType::Int.into(),
        i: 0,
        ..Default::default()
    };
    node.attribute.push(pb::AttributeProto {
        name,
        r#type: AttributeType::Ints.into(),
        ints,
        ..Default::default()
    });
    node.attribute.push(keep);
    node
}

fn port(name: &str, kind: DataType, axes: &[Axis]) -> pb::ValueInfoProto {
    let dim = |axis: &Axis| Dimension {
        value: Some(match axis {
            Is(length) => dimension::Value::DimValue(*length),
            Any(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        ..Default::default()
    };
    let shape = Some(pb::TensorShapeProto { dim: axes.iter().map(dim).collect() });
    let tensor = pb::type_proto::Tensor { elem_type: kind.into(), shape };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..Default::default() }
}

/// The element of a weight at a place, row by row.
pub fn value(at: i64) -> f32 {
    ((at * 37 % 101) - 50) as f32 / 500.0
}

/// Small values that are the same every time.
fn weight(name: &str, dims: &[i64]) -> pb::TensorProto {
    let count: i64 = dims.iter().product();
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float.into(),
        raw_data: (0..count).flat_map(|at| value(at).to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn file(
    node: Vec<pb::NodeProto>,
    input: Vec<pb::ValueInfoProto>,
    output: Vec<pb::ValueInfoProto>,
    initializer: Vec<pb::TensorProto>,
) -> Vec<u8> {
    let graph =
        pb::GraphProto { name: "g".to_owned(), node, input, output, initializer, ..Default::default() };
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
    let model =
        pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    model.encode_to_vec()
}

/// `e = table[ids]` for `ids[N, 6]` and 10 rows: an index that is out of range fails in the run.
pub fn tokens() -> Vec<u8> {
    file(
        vec![node("Gather", &["table", "ids"], &["e"])],
        vec![port("ids", DataType::Int64, &[Any("N"), Is(6)])],
        vec![port("e", DataType::Float, &[Any("N"), Is(6), Is(5)])],
        vec![weight("table", &[10, 5])],
    )
}

/// `e = table[ids - 1000]` for `ids[N, 2]` and 5 rows: nothing that anyone would make up is in range.
pub fn picky() -> Vec<u8> {
    let base = pb::TensorProto {
        name: "base".to_owned(),
        dims: vec![1],
        data_type: DataType::Int64.into(),
        raw_data: 1000_i64.to_le_bytes().to_vec(),
        ..Default::default()
    };
    file(
        vec![node("Sub", &["ids", "base"], &["at"]), node("Gather", &["table", "at"], &["e"])],
        vec![port("ids", DataType::Int64, &[Any("N"), Is(2)])],
        vec![port("e", DataType::Float, &[Any("N"), Is(2), Is(3)])],
        vec![base, weight("table", &[5, 3])],
    )
}

/// `c = a + a` and `d = b + b`, of `a[N, 2]` and `b[M, 2]`: what is a row of one is none of the other.
pub fn two_sides() -> Vec<u8> {
    let port = |name, rows| port(name, DataType::Float, &[Any(rows), Is(2)]);
    file(
        vec![node("Add", &["a", "a"], &["c"]), node("Add", &["b", "b"], &["d"])],
        vec![port("a", "N"), port("b", "M")],
        vec![port("c", "N"), port("d", "M")],
        Vec::new(),
    )
}

/// `c = a / (b - 5)` of INT64 `[N, 3]`: a five in `b` fails in the run.
pub fn divide() -> Vec<u8> {
    let port = |name| port(name, DataType::Int64, &[Any("N"), Is(3)]);
    let five = pb::TensorProto {
        name: "five".to_owned(),
        dims: vec![1],
        data_type: DataType::Int64.into(),
        raw_data: 5_i64.to_le_bytes().to_vec(),
        ..Default::default()
    };
    let nodes = vec![node("Sub", &["b", "five"], &["d"]), node("Div", &["a", "d"], &["c"])];
    file(nodes, vec![port("a"), port("b")], vec![port("c")], vec![five])
}

/// The mean of each row of `x[N, M]`: any width goes.
pub fn mean() -> Vec<u8> {
    file(
        vec![with_axes(node("ReduceMean", &["x"], &["y"]), &[1])],
        vec![port("x", DataType::Float, &[Any("N"), Any("M")])],
        vec![port("y", DataType::Float, &[Any("N")])],
        Vec::new(),
    )
}

/// `y` is `x[1]` as often as `length[1]` says.
pub fn expand() -> Vec<u8> {
    file(
        vec![node("Expand", &["x", "length"], &["y"])],
        vec![port("x", DataType::Float, &[Is(1)]), port("length", DataType::Int64, &[Is(1)])],
        vec![port("y", DataType::Float, &[Any("M")])],
        Vec::new(),
    )
}

/// A recurrent network over the steps of `x[steps, N, 4]`; what it remembers of one sample must not meet the next.
pub fn recurrent() -> Vec<u8> {
    const HIDDEN: i64 = 5;
    let mut lstm = node("LSTM", &["x", "w", "r"], &["y"]);
    lstm.attribute.push(pb::AttributeProto {
        name: "hidden_size".to_owned(),
        r#type: AttributeType::Int.into(),
        i: HIDDEN,
        ..Default::default()
    });
    file(
        vec![lstm],
        vec![port("x", DataType::Float, &[Any("steps"), Any("N"), Is(4)])],
        vec![port("y", DataType::Float, &[Any("steps"), Is(1), Any("N"), Is(HIDDEN)])],
        vec![weight("w", &[1, 4 * HIDDEN, 4]), weight("r", &[1, 4 * HIDDEN, HIDDEN])],
    )
}

/// `y = x`, text.
pub fn texts() -> Vec<u8> {
    let port = |name| port(name, DataType::String, &[Any("N"), Is(2)]);
    file(vec![node("Identity", &["x"], &["y"])], vec![port("x")], vec![port("y")], Vec::new())
}

/// `layers` dense layers over `x[rows, 256]`.
pub fn dense(layers: usize, rows: Axis) -> Vec<u8> {
    let (mut nodes, mut weights, mut last) = (Vec::new(), Vec::new(), "x".to_owned());
    for layer in 0..layers {
        let (product, next) = (format!("p{layer}"), format!("h{layer}"));
        nodes.push(node("MatMul", &[&last, &format!("w{layer}")], &[&product]));
        nodes.push(node("Tanh", &[&product], &[&next]));
        weights.push(weight(&format!("w{layer}"), &[256, 256]));
        last = next;
    }
    nodes.push(node("Identity", &[&last], &["y"]));
    let port = |name| port(name, DataType::Float, &[rows, Is(256)]);
    file(nodes, vec![port("x")], vec![port("y")], weights)
}

/// An expert that takes the embedding: `logits = embedding w`, `feat = embedding`.
pub fn on_embedding(dims: i64, labels: i64) -> Vec<u8> {
    let port = |name, width| port(name, DataType::Float, &[Any("N"), Is(width)]);
    file(
        vec![node("MatMul", &["embedding", "w"], &["logits"]), node("Identity", &["embedding"], &["feat"])],
        vec![port("embedding", dims)],
        vec![port("logits", labels), port("feat", dims)],
        vec![weight("w", &[dims, labels])],
    )
}

fn given(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    pb::TensorProto { raw_data, ..weight(name, dims) }
}

/// The mean of each channel of `image[N, channels, side, side]`, as the output of that name; with weights of
/// `[channels, 2]` also its product with them, as `logits`.
pub fn channel_means(channels: usize, side: usize, mean: &str, weights: Option<&[f32]>) -> Vec<u8> {
    let (channels, side) = (channels as i64, side as i64);
    let port = |name, axes: &[Axis]| port(name, DataType::Float, axes);
    let mut nodes = vec![with_axes(node("ReduceMean", &["image"], &[mean]), &[2, 3])];
    let mut outputs = vec![port(mean, &[Any("N"), Is(channels)])];
    let mut initializers = Vec::new();
    if let Some(weights) = weights {
        nodes.push(node("MatMul", &[mean, "w"], &["logits"]));
        outputs.push(port("logits", &[Any("N"), Is(2)]));
        initializers.push(given("w", &[channels, 2], weights));
    }
    file(nodes, vec![port("image", &[Any("N"), Is(channels), Is(side), Is(side)])], outputs, initializers)
}

/// A gate for one modality with an embedding of so many numbers, which gives each expert the same score for every sample.
pub fn fixed_gate(dims: usize, scores: &[f32]) -> Vec<u8> {
    let (dims, experts) = (dims as i64, scores.len() as i64);
    let port = |name, axes: &[Axis]| port(name, DataType::Float, axes);
    let nothing = vec![0.0; (dims * experts) as usize];
    file(
        vec![
            with_axes(node("ReduceMean", &["embeddings"], &["seen"]), &[1]),
            node("MatMul", &["seen", "none"], &["nothing"]),
            node("MatMul", &["presence", "wish"], &["wished"]),
            node("Add", &["wished", "nothing"], &["scores"]),
        ],
        vec![port("embeddings", &[Any("N"), Is(1), Is(dims)]), port("presence", &[Any("N"), Is(1)])],
        vec![port("scores", &[Any("N"), Is(experts)])],
        vec![given("none", &[dims, experts], &nothing), given("wish", &[1, experts], scores)],
    )
}

/// Puts a model into a repository.
pub fn put(repository: &Path, name: &str, file: &[u8]) {
    let dir = repository.join(name).join("1");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("model.onnx"), file).expect("a file");
}

/// A file of bad manners: what a model can do to whoever loads or runs it.
pub mod bad {
    use super::*;

    fn whole(name: &str, dims: &[i64], values: &[i64]) -> pb::TensorProto {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        pb::TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: DataType::Int64.into(),
            raw_data,
            ..Default::default()
        }
    }

    /// `y = x + 1 + 1 + …`, as often as `times[1]` says: for ever, where that is much.
    pub fn endless() -> Vec<u8> {
        let scalar = |name: &str, kind| port(name, kind, &[]);
        let body = pb::GraphProto {
            name: "body".to_owned(),
            node: vec![
                node("Identity", &["more"], &["goes_on"]),
                node("Add", &["before", "one"], &["after"]),
            ],
            input: vec![
                scalar("round", DataType::Int64),
                scalar("more", DataType::Bool),
                port("before", DataType::Float, &[Is(1)]),
            ],
            output: vec![scalar("goes_on", DataType::Bool), port("after", DataType::Float, &[Is(1)])],
            initializer: vec![given("one", &[1], &[1.0])],
            ..Default::default()
        };
        let mut turn = node("Loop", &["times", "", "x"], &["y"]);
        turn.attribute.push(pb::AttributeProto {
            name: "body".to_owned(),
            r#type: AttributeType::Graph.into(),
            g: Some(body),
            ..Default::default()
        });
        file(
            vec![turn],
            vec![port("times", DataType::Int64, &[Is(1)]), port("x", DataType::Float, &[Is(1)])],
            vec![port("y", DataType::Float, &[Is(1)])],
            Vec::new(),
        )
    }

    /// The spectrum of `signal[1, 128, 1]` in frames of `length`, or of the length that is given here: a frame of nothing
    /// divides by it.
    pub fn spectrum(length: Option<i64>) -> Vec<u8> {
        let mut inputs = vec![port("signal", DataType::Float, &[Is(1), Is(128), Is(1)])];
        let mut initializers = vec![whole("step", &[], &[8])];
        match length {
            Some(length) => initializers.push(whole("length", &[], &[length])),
            None => inputs.push(port("length", DataType::Int64, &[])),
        }
        file(
            vec![node("STFT", &["signal", "step", "", "length"], &["y"])],
            inputs,
            vec![port("y", DataType::Float, &[Is(1), Any("frames"), Any("bins"), Is(2)])],
            initializers,
        )
    }

    /// 64 channels of `x[1, 1, H, W]`: what comes out is 64 times what goes in.
    pub fn greedy() -> Vec<u8> {
        file(
            vec![node("Conv", &["x", "w"], &["y"])],
            vec![port("x", DataType::Float, &[Is(1), Is(1), Any("H"), Any("W")])],
            vec![port("y", DataType::Float, &[Is(1), Is(64), Any("H"), Any("W")])],
            vec![weight("w", &[64, 1, 1, 1])],
        )
    }

    /// A constant that is doubled so many times, and its mean added to `x`: a small file, and not a small computation.
    pub fn doubling(times: usize) -> Vec<u8> {
        let mut nodes = Vec::new();
        let name = |at: usize| format!("c{at}");
        for at in 0..times {
            let mut twice = node("Concat", &[&name(at), &name(at)], &[&name(at + 1)]);
            twice.attribute.push(pb::AttributeProto {
                name: "axis".to_owned(),
                r#type: AttributeType::Int.into(),
                i: 0,
                ..Default::default()
            });
            nodes.push(twice);
        }
        nodes.push(with_axes(node("ReduceMean", &[&name(times)], &["mean"]), &[0]));
        nodes.push(node("Add", &["x", "mean"], &["y"]));
        let port = |name| port(name, DataType::Float, &[Any("N"), Is(1)]);
        file(nodes, vec![port("x")], vec![port("y")], vec![weight("c0", &[1])])
    }

    /// `x`, negated so many times.
    pub fn chain(nodes: usize) -> Vec<u8> {
        let name = |at: usize| if at == nodes { "y".to_owned() } else { format!("v{at}") };
        let mut chain = vec![node("Neg", &["x"], &[&name(1)])];
        chain.extend((1..nodes).map(|at| node("Neg", &[&name(at)], &[&name(at + 1)])));
        let port = |name| port(name, DataType::Float, &[Any("N"), Is(2)]);
        file(chain, vec![port("x")], vec![port("y")], Vec::new())
    }
}
