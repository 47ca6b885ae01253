//! Which element types a node gives.

use tract_onnx::pb::tensor_proto::DataType;

use super::node::Node;

/// Type of each output of a node; `None` where nothing tells.
pub(super) fn outputs(node: &Node<'_>) -> Vec<Option<DataType>> {
    let count = node.proto.output.len();
    let all = |kind: Option<DataType>| vec![kind; count];
    let attribute = |name: &str| {
        let given = node.attribute(name)?;
        DataType::try_from(i32::try_from(given.i).ok()?).ok().filter(|kind| *kind != DataType::Undefined)
    };
    let first = node.datatype(0);
    let (int64, boolean, float) = (Some(DataType::Int64), Some(DataType::Bool), Some(DataType::Float));
    match node.proto.op_type.as_str() {
        "Cast" => all(attribute("to")),
        "CastLike" => all(node.datatype(1)),
        "Constant" => all(constant(node)),
        "ConstantOfShape" => {
            let value = node.attribute("value").and_then(|attribute| attribute.t.as_ref());
            all(value.map_or(float, |tensor| DataType::try_from(tensor.data_type).ok()))
        }
        "EyeLike" | "RandomUniformLike" | "RandomNormalLike" => all(attribute("dtype").or(first)),
        "RandomUniform" | "RandomNormal" => all(attribute("dtype").or(float)),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            all(attribute("output_datatype").or(float))
        }
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression" => all(int64),
        "Multinomial" => all(attribute("dtype").or(Some(DataType::Int32))),
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "Not" | "And" | "Or" | "Xor"
        | "IsNaN" | "IsInf" => all(boolean),
        "TopK" => vec![first, int64],
        "MaxPool" => vec![first, int64],
        "Dropout" => vec![first, boolean],
        "LayerNormalization" => vec![first, float, float],
        "Where" => all(node.datatype(1).or_else(|| node.datatype(2))),
        "OneHot" => all(node.datatype(2)),
        "QuantizeLinear" => {
            all(node.datatype(2).or_else(|| attribute("output_dtype")).or(Some(DataType::Uint8)))
        }
        "DequantizeLinear" => all(attribute("output_dtype").or_else(|| node.datatype(1))),
        "DynamicQuantizeLinear" => vec![Some(DataType::Uint8), float, Some(DataType::Uint8)],
        "ConvInteger" | "MatMulInteger" => all(Some(DataType::Int32)),
        "QLinearConv" | "QLinearMatMul" => all(node.datatype(7)),
        "GatherBlockQuantized" => all(node.datatype(2)),
        "Normalizer" | "LinearRegressor" => all(float),
        "LinearClassifier" | "TreeEnsembleClassifier" => {
            let texts = ["classlabels_strings"]
                .iter()
                .any(|name| node.attribute(name).is_some_and(|attribute| !attribute.strings.is_empty()));
            vec![Some(if texts { DataType::String } else { DataType::Int64 }), float]
        }
        "CategoryMapper" => all(match first {
            Some(DataType::String) => int64,
            Some(_) => Some(DataType::String),
            None => None,
        }),
        // Those of their bodies' outputs, which a file may not declare.
        "If" | "Loop" | "Scan" => all(None),
        _ => all(first),
    }
}

fn constant(node: &Node<'_>) -> Option<DataType> {
    let attribute = node.proto.attribute.first()?;
    match attribute.name.as_str() {
        "value" => DataType::try_from(attribute.t.as_ref()?.data_type).ok(),
        "value_int" | "value_ints" => Some(DataType::Int64),
        "value_float" | "value_floats" => Some(DataType::Float),
        "value_string" | "value_strings" => Some(DataType::String),
        _ => None,
    }
}
