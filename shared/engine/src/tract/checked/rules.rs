//! What tract computes wrongly, operator by operator.

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::Findings;
use super::later::{Later, Need};
use super::node::Node;

/// Bound of a slice beyond which it says "as far as it goes".
const FAR: i64 = i32::MAX as i64 - 1;

/// True if tract does not read the attribute, but has its value in mind anyway.
pub(super) fn is_harmless(node: &Node<'_>, attribute: &pb::AttributeProto) -> bool {
    let operator = node.proto.op_type.as_str();
    match attribute.name.as_str() {
        // Of opset 5 and before.
        "consumed_inputs" => true,
        "mode" => operator == "SpaceToDepth" && attribute.s == b"DCR",
        "clip" => attribute.f == 0.0,
        // The reader of the file's own hints.
        name => name.starts_with("__"),
    }
}

/// Looks at one node whose attributes are all heeded.
pub(super) fn look(node: &Node<'_>, found: &mut Findings) {
    match node.proto.op_type.as_str() {
        "GlobalLpPool" => found.refuse(node, "(it is not the norm that comes out)"),
        "ArrayFeatureExtractor" => found.refuse(node, "(its shape is not that of the standard)"),
        "GroupQueryAttention" => found.refuse(node, "where sequences differ in length, or slide"),
        "LSTM" | "GRU" | "RNN" => recurrent(node, found),
        "Attention" => attention(node, found),
        "MultiHeadAttention" if node.int("unidirectional", 0) != 0 => {
            found.refuse(node, "with `unidirectional`")
        }
        "ConvTranspose" => conv_transpose(node, found),
        "AveragePool"
            if node.int("ceil_mode", 0) != 0 && !matches!(node.text("auto_pad", "NOTSET"), "NOTSET" | "") =>
        {
            found.refuse(node, "with `ceil_mode` beside `auto_pad`");
        }
        "BatchNormalization" if (node.int("training_mode", 0) != 0 || node.proto.output.len() > 1) => {
            found.refuse(node, "in training mode");
        }
        "Celu" | "Swish" if node.float("alpha", 1.0) != 1.0 => {
            found.refuse(node, "with an `alpha` that is not 1")
        }
        "BitShift" => bit_shift(node, found),
        "TopK" => {
            let (Some(of), Some(count)) = (node.input(0), node.input(1)) else { return };
            let need =
                Need::AtMost { count: count.to_owned(), of: of.to_owned(), axis: node.int("axis", -1) };
            found.later.push(later(node, need));
        }
        "GatherND" if node.integers(1).is_some_and(|indices| indices.iter().any(|index| *index < 0)) => {
            found.refuse(node, "with indices that count from the end");
        }
        "NonMaxSuppression" => match node.input(2) {
            Some(_) => within(node, 2, 1, i64::MAX, found),
            None => found.refuse(node, "without `max_output_boxes_per_class`"),
        },
        "Einsum" if node.text("equation", "").trim_end().ends_with("->") => {
            found.refuse(node, "to a single number");
        }
        "DFT" if node.input(1).is_some() => found.refuse(node, "with a `dft_length`"),
        "GridSample" => {
            let is_cubic = matches!(node.text("mode", "linear"), "cubic" | "bicubic");
            if is_cubic && node.text("padding_mode", "zeros") != "zeros" {
                found.refuse(node, "with cubic interpolation over the border");
            }
        }
        "Slice" => slice(node, found),
        "Resize" => resize(node, found),
        "LogSoftmax" if node.opset < 13 => found.refuse(node, "below -87, before opset 13"),
        "Softmax" | "Hardmax" if node.opset < 13 && node.int("axis", 1) == 1 => {
            rank(node, 0, 2, found);
        }
        "ConvInteger" | "QLinearConv" => {
            let is_same = matches!(node.text("auto_pad", "NOTSET"), "SAME_UPPER" | "SAME_LOWER");
            if is_same && node.ints("dilations").is_some_and(|apart| apart.iter().any(|step| *step != 1)) {
                found.refuse(node, "with `dilations` beside `auto_pad`");
            }
            if node.proto.op_type == "ConvInteger"
                && let Some(value) = node.input(3)
            {
                found.later.push(later(node, Need::One { value: value.to_owned() }));
            }
        }
        "MatMulInteger" => {
            rank(node, 0, 2, found);
            rank(node, 1, 2, found);
            // A zero point for each row; one for each column is right.
            if let Some(value) = node.input(2) {
                found.later.push(later(node, Need::One { value: value.to_owned() }));
            }
        }
        "ReduceLogSumExp" => found.refuse(node, "where an exponential overflows"),
        "Shrink" | "ReduceLogSum" => floats(node, found),
        "ReduceMax" | "ReduceMin" => {
            if let Some(value) = node.input(0) {
                found.later.push(later(node, Need::Some { value: value.to_owned() }));
            }
        }
        "SkipSimplifiedLayerNormalization" if node.input(3).is_some() => found.refuse(node, "with a bias"),
        "Normalizer" if node.text("norm", "MAX") == "MAX" => found.refuse(node, "with the norm MAX"),
        "LinearRegressor" => {
            if node.text("post_transform", "NONE") != "NONE" {
                found.refuse(node, "with a `post_transform`");
            }
            floats(node, found);
        }
        "TreeEnsembleClassifier" => trees(node, found),
        _ => {}
    }
}

fn later(node: &Node<'_>, need: Need) -> Later {
    Later { node: node.label(), need }
}

fn rank(node: &Node<'_>, input: usize, least: usize, found: &mut Findings) {
    if let Some(value) = node.input(input) {
        found.later.push(later(node, Need::Rank { value: value.to_owned(), least }));
    }
}

fn is_float(kind: DataType) -> bool {
    matches!(kind, DataType::Float | DataType::Float16 | DataType::Double | DataType::Bfloat16)
}

fn floats(node: &Node<'_>, found: &mut Findings) {
    match (node.datatype(0), node.input(0)) {
        (Some(kind), _) if is_float(kind) => {}
        (None, Some(value)) => found.later.push(later(node, Need::Floats { value: value.to_owned() })),
        _ => found.refuse(node, "on anything but floating point"),
    }
}

/// Checks a recurrent node. tract reads neither the direction nor the activations: it goes forward, and back too
/// where there are two sets of weights.
fn recurrent(node: &Node<'_>, found: &mut Findings) {
    let direction = node.text("direction", "forward");
    if direction == "reverse" {
        return found.refuse(node, "with direction `reverse`");
    }
    if node.int("layout", 0) != 0 && direction != "forward" {
        return found.refuse(node, "with `layout` 1 in two directions");
    }
    if node.int("input_forget", 0) != 0 {
        return found.refuse(node, "with `input_forget`");
    }
    let usual: &[&str] = match node.proto.op_type.as_str() {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let given = node.attribute("activations").map_or(&[][..], |given| given.strings.as_slice());
    let is_usual =
        |(at, name): (usize, &Vec<u8>)| name.eq_ignore_ascii_case(usual[at % usual.len()].as_bytes());
    if !given.iter().enumerate().all(is_usual) {
        found.refuse(node, "with other activations than the usual ones");
    }
}

/// Checks attention. In tract rows that are masked altogether come out as NaN, flags are read as numbers, and what
/// went before is not counted when looking back.
fn attention(node: &Node<'_>, found: &mut Findings) {
    if node.input(3).is_some() {
        found.refuse(node, "with a mask");
    } else if node.input(4).is_some() || node.input(5).is_some() {
        found.refuse(node, "with keys and values of the past");
    }
}

fn conv_transpose(node: &Node<'_>, found: &mut Findings) {
    if node.ints("output_shape").is_some_and(|shape| !shape.is_empty()) {
        return found.refuse(node, "with `output_shape`");
    }
    let is_same = matches!(node.text("auto_pad", "NOTSET"), "SAME_UPPER" | "SAME_LOWER");
    if is_same && node.ints("output_padding").is_some_and(|padding| padding.iter().any(|more| *more != 0)) {
        found.refuse(node, "with `output_padding` beside `auto_pad`");
    }
}

/// Checks a shift of bits. In tract a count that is not below the width of the type shifts by what is left of it.
fn bit_shift(node: &Node<'_>, found: &mut Findings) {
    let width = match node.datatype(0) {
        Some(DataType::Uint8 | DataType::Int8) => 8,
        Some(DataType::Uint16 | DataType::Int16) => 16,
        Some(DataType::Uint32 | DataType::Int32) => 32,
        Some(DataType::Uint64 | DataType::Int64) => 64,
        _ => 0,
    };
    within(node, 1, 0, width, found);
}

/// Refuses what is outside; what is not known is left for later.
fn within(node: &Node<'_>, input: usize, least: i64, end: i64, found: &mut Findings) {
    let Some(value) = node.input(input) else { return };
    let need = later(node, Need::Within { value: value.to_owned(), least, end });
    match node.integers(input) {
        Some(numbers) if numbers.iter().all(|number| (least..end).contains(number)) => {}
        Some(_) => found.unchecked(need.unproven()),
        None => found.later.push(need),
    }
}

/// Checks a slice. A bound beyond the opposite end leaves nothing; tract leaves something.
fn slice(node: &Node<'_>, found: &mut Findings) {
    let mut known = [Vec::new(), Vec::new(), Vec::new()];
    if node.opset < 10 {
        known[0] = node.ints("starts").unwrap_or_default().to_vec();
        known[1] = node.ints("ends").unwrap_or_default().to_vec();
    } else {
        for (into, at) in known.iter_mut().zip([1, 2, 4]) {
            *into = node.integers(at).unwrap_or_default();
        }
        let unknown = |at: &usize| node.input(*at).is_some() && node.integers(*at).is_none();
        let values: Vec<String> =
            (1..5).filter(unknown).filter_map(|at| node.input(at)).map(str::to_owned).collect();
        if !values.is_empty() {
            found.later.push(later(node, Need::Constant { values }));
        }
    }
    let [starts, ends, steps] = known;
    let is_back = |at: usize| steps.get(at).is_some_and(|step| *step < 0);
    let late = |at: usize, bound: i64| if is_back(at) { bound < -FAR } else { bound > FAR };
    let early = |at: usize, bound: i64| if is_back(at) { bound > FAR } else { bound < -FAR };
    if starts.iter().enumerate().any(|(at, start)| late(at, *start))
        || ends.iter().enumerate().any(|(at, end)| early(at, *end))
    {
        found.refuse(node, "with a bound beyond the other end");
    }
}

fn resize(node: &Node<'_>, found: &mut Findings) {
    if node.text("mode", "nearest") != "nearest" {
        floats(node, found);
    }
    if node.text("coordinate_transformation_mode", "half_pixel") == "pytorch_half_pixel"
        && let Some(value) = node.output(0)
    {
        found.later.push(later(node, Need::Long { value: value.to_owned() }));
    }
}

/// Checks trees. tract is right for forests of FP32 whose leaves vote as they are.
fn trees(node: &Node<'_>, found: &mut Findings) {
    let texts = |name: &str| node.attribute(name).map_or(&[][..], |given| given.strings.as_slice());
    if node.text("post_transform", "NONE") != "NONE" {
        found.refuse(node, "with a `post_transform`");
    } else if node.attribute("base_values").is_some() {
        found.refuse(node, "with `base_values`");
    } else if texts("nodes_modes").iter().any(|mode| !matches!(mode.as_slice(), b"LEAF" | b"BRANCH_LEQ")) {
        found.refuse(node, "with branches other than BRANCH_LEQ");
    } else if node.ints("nodes_missing_value_tracks_true").is_some_and(|tracks| tracks.contains(&1)) {
        found.refuse(node, "where missing values count as true");
    } else if node.ints("class_ids").is_some_and(|ids| ids.iter().all(|id| *id == ids[0])) {
        found.refuse(node, "where leaves vote for one class only");
    } else if !matches!(node.datatype(0), None | Some(DataType::Float)) {
        found.refuse(node, "on anything but FP32");
    }
}
