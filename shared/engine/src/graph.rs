//! What a file's graph shows without running it: its operations, what its inputs are for, and whether it multiplies
//! 8-bit numbers by weights that are no constants.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto;

mod contested;

/// Operator domain of trees, scalers and the like.
pub const ML_DOMAIN: &str = "ai.onnx.ml";

/// Purpose of an input, where that decides which values it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Divisor, which must not be 0.
    Divisor,
    /// Lengths of the axes of a shape to be made.
    Shape,
    /// Numbers of axes.
    Axes,
    /// Factors that lengths are multiplied by.
    Scale,
    /// Count or length.
    Count,
}

impl Role {
    /// True if the input's values say how the others are laid out, so that its first axis is not one of rows.
    pub fn is_of_layout(self) -> bool {
        self != Self::Divisor
    }

    fn of(operation: &str, slot: usize) -> Option<Self> {
        Some(match (operation, slot) {
            ("Div" | "Mod", 1) => Self::Divisor,
            ("Reshape" | "Expand" | "AffineGrid" | "CenterCropPad", 1)
            | ("ConstantOfShape", 0)
            | ("Resize", 3)
            | ("MaxUnpool", 2) => Self::Shape,
            ("Squeeze" | "Unsqueeze" | "CumSum", 1) | ("Slice" | "Pad", 3) | ("DFT", 2) => Self::Axes,
            (reduction, 1) if reduction.starts_with("Reduce") => Self::Axes,
            ("Resize", 2) | ("Upsample", 1) => Self::Scale,
            ("Tile" | "TopK" | "OneHot" | "DFT" | "STFT" | "Split" | "SplitToSequence", 1)
            | ("Slice", 1 | 2 | 4)
            | ("STFT", 3)
            | ("Col2Im", 1 | 2)
            | ("Loop" | "HannWindow" | "HammingWindow" | "BlackmanWindow", 0)
            | ("Range", 0..=2)
            | ("MelWeightMatrix", 0..=4) => Self::Count,
            _ => return None,
        })
    }
}

/// Facts that a graph shows without being run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    /// Types of the operations, those of nested graphs and of functions too. One that is not of the default domain
    /// has its own in front: `ai.onnx.ml.Scaler`.
    pub operations: BTreeSet<String>,
    /// Roles by the name of an input; most inputs have none.
    pub roles: BTreeMap<String, Role>,
    /// Operation that multiplies 8-bit numbers by others that are neither constants nor known to have no sign; `None`
    /// if there is none.
    pub loose_product: Option<String>,
    /// Operation that ONNX Runtime computes otherwise than the tests of the standard have it; `None` if there is
    /// none.
    pub contested: Option<&'static str>,
}

impl Graph {
    pub(super) fn of(proto: &pb::ModelProto) -> Self {
        let mut found = Self::default();
        for function in &proto.functions {
            found.operations(&function.node);
        }
        if let Some(graph) = &proto.graph {
            found.operations(&graph.node);
            found.roles(graph);
            found.loose_product = loose_product(graph);
            found.contested = contested::find(graph);
        }
        found
    }

    /// True if the graph computes with 8-bit numbers.
    pub fn is_quantised(&self) -> bool {
        let is_quantised = |operation: &String| {
            operation.contains("QLinear") || operation.contains("uantize") || operation.ends_with("Integer")
        };
        self.operations.iter().any(is_quantised)
    }

    /// True if the graph holds an operation of this domain.
    pub fn has_domain(&self, domain: &str) -> bool {
        let is_of_it = |operation: &String| operation.rsplit_once('.').is_some_and(|(of, _)| of == domain);
        self.operations.iter().any(is_of_it)
    }

    fn operations(&mut self, nodes: &[pb::NodeProto]) {
        for node in nodes {
            self.operations.insert(name_of(node));
            for attribute in &node.attribute {
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    self.operations(&graph.node);
                }
            }
        }
    }

    fn roles(&mut self, graph: &pb::GraphProto) {
        // What is an input under another name.
        let mut inputs: HashMap<&str, &str> =
            graph.input.iter().map(|input| (input.name.as_str(), input.name.as_str())).collect();
        for node in graph.node.iter().filter(|node| is_default(&node.domain)) {
            if let ("Identity" | "Cast", [from], [to]) = (node.op_type.as_str(), &*node.input, &*node.output)
                && let Some(input) = inputs.get(from.as_str())
            {
                inputs.insert(to, input);
            }
            for (slot, name) in node.input.iter().enumerate() {
                if let (Some(input), Some(role)) = (inputs.get(name.as_str()), Role::of(&node.op_type, slot))
                {
                    self.roles.entry((*input).to_owned()).or_insert(role);
                }
            }
        }
    }
}

fn is_default(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn name_of(node: &pb::NodeProto) -> String {
    if is_default(&node.domain) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// Operations on 8-bit numbers, and where their weights stand.
const PRODUCTS: [(&str, &[usize]); 9] = [
    ("QLinearConv", &[3]),
    ("QLinearMatMul", &[3]),
    ("MatMulInteger", &[1]),
    ("ConvInteger", &[1]),
    ("DynamicQuantizeMatMul", &[1]),
    ("MatMulIntegerToFloat", &[1]),
    ("QGemm", &[3]),
    ("QAttention", &[1]),
    ("DynamicQuantizeLSTM", &[1, 2]),
];
/// Operations that an engine does with 8-bit numbers where both sides were just made of such.
const FUSED: [&str; 4] = ["Conv", "ConvTranspose", "MatMul", "Gemm"];
/// Operations whose result is a constant where their inputs are: it is folded before anything runs.
const FOLDED: [&str; 6] = ["Identity", "Cast", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

fn loose_product(graph: &pb::GraphProto) -> Option<String> {
    let mut constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut unsigned: HashSet<&str> = HashSet::new();
    let is_u8 = |kind: i32| kind == i32::from(DataType::Uint8);
    let of_initializers =
        graph.initializer.iter().filter(|it| is_u8(it.data_type)).map(|it| it.name.as_str());
    unsigned.extend(of_initializers);
    unsigned.extend(graph.input.iter().filter(|it| element_type(it).is_some_and(is_u8)).map(|it| &*it.name));
    // What was 8-bit before it was made a float: its source and whether that has no sign.
    let mut floats: HashMap<&str, (&str, bool)> = HashMap::new();
    for node in &graph.node {
        let known = |name: &String| name.is_empty() || constants.contains(name.as_str());
        let is_constant = node.op_type == "Constant"
            || FOLDED.contains(&node.op_type.as_str()) && node.input.iter().all(known);
        if is_constant {
            constants.extend(node.output.iter().map(String::as_str));
        }
        if let ("DequantizeLinear", [from, _, zero @ ..], [to]) =
            (node.op_type.as_str(), &*node.input, &*node.output)
        {
            let has_no_sign = unsigned.contains(from.as_str())
                || zero.first().is_some_and(|zero| unsigned.contains(zero.as_str()));
            floats.insert(to, (from, has_no_sign));
        }
        let is_loose = |name: &str, has_no_sign: bool| !constants.contains(name) && !has_no_sign;
        let slots = PRODUCTS.iter().find(|(operation, _)| *operation == node.op_type);
        let weights = slots.iter().flat_map(|(_, slots)| slots.iter()).filter_map(|at| node.input.get(*at));
        let mut weights = weights.map(String::as_str).filter(|name| !name.is_empty());
        if weights.any(|name| is_loose(name, unsigned.contains(name))) {
            return Some(node.op_type.clone());
        }
        let sides: Vec<_> = node.input.iter().take(2).map(|name| floats.get(name.as_str())).collect();
        if let (true, [Some(_), Some((from, has_no_sign))]) =
            (FUSED.contains(&node.op_type.as_str()), &*sides)
            && is_loose(from, *has_no_sign)
        {
            return Some(node.op_type.clone());
        }
    }
    None
}

fn element_type(info: &pb::ValueInfoProto) -> Option<i32> {
    let type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    Some(tensor.elem_type)
}

#[cfg(test)]
mod tests;
