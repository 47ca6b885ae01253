//! A graph, one operation after the other.

use std::collections::BTreeMap;

use millgate_engine::pb;
use millgate_engine::pb::attribute_proto::AttributeType;
use millgate_engine::pb::tensor_proto::DataType;
use prost::Message;

use super::tensors;
use super::{OPSET, OnnxError, included};

/// A value in a graph, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(pub(super) String);

/// A graph that is being written. Operations are added in the order in which they run.
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    graph: pb::GraphProto,
    opset: i64,
    /// Number of values that were named here.
    named: usize,
}

/// An attribute of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Text(&'a str),
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self::in_opset(name, OPSET)
    }

    /// An empty graph, written in the opset of another that it will take in.
    pub fn in_opset(name: &str, opset: i64) -> Self {
        Self { graph: pb::GraphProto { name: name.to_owned(), ..Default::default() }, opset, named: 0 }
    }

    /// An input of FP32 numbers; `shape` is without the first axis.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Value {
        self.graph.input.push(tensors::described(name, shape));
        Value(name.to_owned())
    }

    /// An input of pictures of any size.
    pub fn free_input(&mut self, name: &str, channels: usize) -> Value {
        self.graph.input.push(tensors::free(name, channels));
        Value(name.to_owned())
    }

    /// Makes a value an output: maps of any size.
    pub fn free_output(&mut self, value: &Value, name: &str, channels: usize) {
        self.graph.node.push(node("Identity", &[value], name.to_owned(), &[]));
        self.graph.output.push(tensors::free(name, channels));
    }

    /// Makes a value an output; `shape` is without the first axis.
    pub fn output(&mut self, value: &Value, name: &str, shape: &[usize]) {
        self.graph.node.push(node("Identity", &[value], name.to_owned(), &[]));
        self.graph.output.push(tensors::described(name, shape));
    }

    /// Weights in FP32.
    pub fn float(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let name = self.fresh("w");
        self.graph.initializer.push(tensors::float(&name.0, dims, values));
        name
    }

    /// Weights that are stored in FP16, half as large.
    pub fn half(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let stored = self.fresh("h");
        self.graph.initializer.push(tensors::half(&stored.0, dims, values));
        self.operate("Cast", &[&stored], &[("to", Attribute::Int(i64::from(i32::from(DataType::Float))))])
    }

    /// Whole numbers, as axes and sizes are.
    fn int64(&mut self, values: &[i64]) -> Value {
        let name = self.fresh("i");
        self.graph.initializer.push(tensors::int64(&name.0, values));
        name
    }

    /// `x · weight + bias`; `weight` is `[inputs, outputs]`.
    pub fn gemm(&mut self, x: &Value, weight: &Value, bias: &Value) -> Value {
        self.operate("Gemm", &[x, weight, bias], &[])
    }

    /// A convolution of one pixel's width: a matrix at every place. `weight` is `[outputs, inputs, 1, 1]`.
    pub fn conv_1x1(&mut self, x: &Value, weight: &Value, bias: Option<&Value>) -> Value {
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        self.operate("Conv", &inputs, &[("kernel_shape", Attribute::Ints(&[1, 1]))])
    }

    /// A square convolution with a border of zeros, every `stride` places.
    pub fn conv(&mut self, x: &Value, weight: &Value, bias: &Value, kernel: usize, stride: usize) -> Value {
        let (kernel, stride) = (kernel as i64, stride as i64);
        let pad = kernel / 2;
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[kernel, kernel])),
            ("strides", Attribute::Ints(&[stride, stride])),
            ("pads", Attribute::Ints(&[pad, pad, pad, pad])),
        ];
        self.operate("Conv", &[x, weight, bias], &attributes)
    }

    pub fn relu(&mut self, x: &Value) -> Value {
        self.operate("Relu", &[x], &[])
    }

    /// The mean of each place and its eight neighbours, those that are there.
    pub fn average_3x3(&mut self, x: &Value) -> Value {
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[3, 3])),
            ("pads", Attribute::Ints(&[1, 1, 1, 1])),
            ("count_include_pad", Attribute::Int(0)),
        ];
        self.operate("AveragePool", &[x], &attributes)
    }

    /// Repeats each place so many times along both sides.
    pub fn enlarge(&mut self, x: &Value, times: usize) -> Value {
        let scale = times as f32;
        let scales = self.float(&[4], &[1.0, 1.0, scale, scale]);
        let none = Value(String::new());
        let attributes = [
            ("mode", Attribute::Text("nearest")),
            ("nearest_mode", Attribute::Text("floor")),
            ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
        ];
        self.operate("Resize", &[x, &none, &scales], &attributes)
    }

    /// Mean of every channel over all places, `[N, channels]`.
    pub fn mean(&mut self, x: &Value) -> Value {
        let pooled = self.operate("GlobalAveragePool", &[x], &[]);
        self.flat(&pooled)
    }

    /// Highest of every channel over all places, `[N, channels]`.
    pub fn max(&mut self, x: &Value) -> Value {
        let pooled = self.operate("GlobalMaxPool", &[x], &[]);
        self.flat(&pooled)
    }

    /// Everything but the first axis as one.
    pub fn flat(&mut self, x: &Value) -> Value {
        self.operate("Flatten", &[x], &[("axis", Attribute::Int(1))])
    }

    /// Values one after the other along the second axis.
    pub fn concat(&mut self, values: &[&Value]) -> Value {
        self.operate("Concat", values, &[("axis", Attribute::Int(1))])
    }

    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.operate("Add", &[a, b], &[])
    }

    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.operate("Sub", &[a, b], &[])
    }

    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.operate("Mul", &[a, b], &[])
    }

    pub fn abs(&mut self, x: &Value) -> Value {
        self.operate("Abs", &[x], &[])
    }

    pub fn neg(&mut self, x: &Value) -> Value {
        self.operate("Neg", &[x], &[])
    }

    pub fn sqrt(&mut self, x: &Value) -> Value {
        self.operate("Sqrt", &[x], &[])
    }

    /// Sum over the channels, `[N, 1, h, w]`.
    pub fn sum_channels(&mut self, x: &Value) -> Value {
        let axes = self.int64(&[1]);
        self.operate("ReduceSum", &[x, &axes], &[("keepdims", Attribute::Int(1))])
    }

    /// Lowest of the channels, `[N, 1, h, w]`.
    pub fn min_channels(&mut self, x: &Value) -> Value {
        let keep = ("keepdims", Attribute::Int(1));
        // Axes became an input in opset 18.
        if self.opset < 18 {
            return self.operate("ReduceMin", &[x], &[("axes", Attribute::Ints(&[1])), keep]);
        }
        let axes = self.int64(&[1]);
        self.operate("ReduceMin", &[x, &axes], &[keep])
    }

    /// Takes another model in, under names of its own. `bound` says which value each of its inputs is, and `shared` is what
    /// an earlier call gave for the same model: its weights are then not stored again. Gives the values by the names that
    /// they had in that model.
    pub fn include(
        &mut self,
        model: &pb::ModelProto,
        bound: &[(&str, &Value)],
        shared: Option<&Included>,
    ) -> Result<Included, OnnxError> {
        let prefix = self.fresh("m").0;
        included::include(&mut self.graph, self.opset, &prefix, model, bound, shared)
    }

    /// Says nothing of the shapes of outputs: whoever loads the file finds them out.
    pub fn forget_shapes(&mut self) {
        for output in &mut self.graph.output {
            output.r#type = tensors::unshaped();
        }
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        let opset = pb::OperatorSetIdProto { version: self.opset, ..Default::default() };
        let model = pb::ModelProto {
            // The version of the file format that came with opset 15, which every later reader takes.
            ir_version: 8,
            opset_import: vec![opset],
            producer_name: "millgate".to_owned(),
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }

    fn fresh(&mut self, kind: &str) -> Value {
        self.named += 1;
        Value(format!("{kind}{}", self.named))
    }

    fn operate(&mut self, operation: &str, inputs: &[&Value], attributes: &[(&str, Attribute<'_>)]) -> Value {
        let output = self.fresh("v");
        self.graph.node.push(node(operation, inputs, output.0.clone(), attributes));
        output
    }
}

/// Another model inside a graph.
#[derive(Debug, Clone)]
pub struct Included {
    /// Its values by the names that they had.
    pub(super) values: BTreeMap<String, Value>,
}

impl Included {
    /// A value by the name that it had in the model that was taken in.
    pub fn value(&self, name: &str) -> Result<&Value, OnnxError> {
        let missing = || OnnxError::Other(format!("has no value `{name}`"));
        self.values.get(name).ok_or_else(missing)
    }
}

fn node(
    operation: &str,
    inputs: &[&Value],
    output: String,
    attributes: &[(&str, Attribute<'_>)],
) -> pb::NodeProto {
    pb::NodeProto {
        input: inputs.iter().map(|value| value.0.clone()).collect(),
        name: output.clone(),
        output: vec![output],
        op_type: operation.to_owned(),
        attribute: attributes.iter().map(|(name, value)| attribute(name, *value)).collect(),
        ..Default::default()
    }
}

fn attribute(name: &str, value: Attribute<'_>) -> pb::AttributeProto {
    let named = pb::AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attribute::Int(i) => pb::AttributeProto { r#type: AttributeType::Int.into(), i, ..named },
        Attribute::Ints(ints) => {
            pb::AttributeProto { r#type: AttributeType::Ints.into(), ints: ints.to_vec(), ..named }
        }
        Attribute::Text(text) => {
            pb::AttributeProto { r#type: AttributeType::String.into(), s: text.as_bytes().to_vec(), ..named }
        }
    }
}
