//! The operators that were checked, and which of their attributes tract takes into account.

/// Operators that tract has and that were never checked: nothing was there to hold them against, or their answers are
/// meant to differ each time.
pub(super) const NEVER_CHECKED: [&str; 9] = [
    "ConstantLike",
    "Multinomial",
    "ParametricSoftplus",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Rsqrt",
    "ScaledTanh",
];

const WINDOWS: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
const RECURRENT: &[&str] = &[
    "activation_alpha",
    "activation_beta",
    "activations",
    "direction",
    "hidden_size",
    "input_forget",
    "layout",
    "linear_before_reset",
];

/// The attributes of an operator that was checked; `None` for one that was not.
pub(super) fn attributes(operator: &str) -> Option<&'static [&'static str]> {
    Some(match operator {
        "Abs"
        | "Acos"
        | "Acosh"
        | "Add"
        | "And"
        | "ArrayFeatureExtractor"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BiasGelu"
        | "BitwiseAnd"
        | "BitwiseNot"
        | "BitwiseOr"
        | "BitwiseXor"
        | "Ceil"
        | "Cos"
        | "Cosh"
        | "Div"
        | "DynamicQuantizeLinear"
        | "Equal"
        | "Erf"
        | "Exp"
        | "Expand"
        | "FastGelu"
        | "Floor"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "Greater"
        | "GreaterOrEqual"
        | "HardSwish"
        | "Identity"
        | "IsNaN"
        | "Less"
        | "LessOrEqual"
        | "Log"
        | "MatMul"
        | "MatMulInteger"
        | "Max"
        | "Mean"
        | "Min"
        | "Mish"
        | "Mul"
        | "Neg"
        | "NonZero"
        | "Not"
        | "Or"
        | "PRelu"
        | "Pow"
        | "QLinearMatMul"
        | "Range"
        | "Reciprocal"
        | "Relu"
        | "Round"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Size"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Sub"
        | "Sum"
        | "Tan"
        | "Tanh"
        | "Tile"
        | "Where"
        | "Xor" => &[],
        "ArgMax" | "ArgMin" => &["axis", "keepdims", "select_last_index"],
        "Attention" => &[
            "is_causal",
            "kv_num_heads",
            "q_num_heads",
            "qk_matmul_output_mode",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        "AveragePool" => {
            &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"]
        }
        "BatchNormalization" => &["epsilon", "momentum", "spatial", "training_mode"],
        "BitShift" => &["direction"],
        "BlackmanWindow" | "HammingWindow" | "HannWindow" => &["output_datatype", "periodic"],
        // Those besides `to` are about FP8, which is not served.
        "Cast" => &["round_mode", "saturate", "to"],
        "CastLike" => &["round_mode", "saturate"],
        "CategoryMapper" => &["cats_int64s", "cats_strings", "default_int64", "default_string"],
        "Celu" | "Elu" | "LeakyRelu" | "QuickGelu" | "Swish" | "ThresholdedRelu" => &["alpha"],
        "Clip" => &["max", "min"],
        "Compress" | "Concat" | "Flatten" | "Gather" | "GatherElements" | "Hardmax" | "LogSoftmax"
        | "OneHot" | "Softmax" => &["axis"],
        "Constant" => &[
            "value",
            "value_float",
            "value_floats",
            "value_int",
            "value_ints",
            "value_string",
            "value_strings",
        ],
        "ConstantOfShape" => &["value"],
        "Conv" | "ConvInteger" | "QLinearConv" => WINDOWS,
        "ConvTranspose" => &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        "CumSum" => &["exclusive", "reverse"],
        "DFT" => &["axis", "inverse", "onesided"],
        "DepthToSpace" => &["blocksize", "mode"],
        "DequantizeLinear" | "QuantizeLinear" => &["axis", "block_size", "saturate"],
        "Dropout" => &["is_test", "ratio", "seed"],
        "Einsum" => &["equation"],
        "EyeLike" => &["dtype", "k"],
        "GRU" | "LSTM" | "RNN" => RECURRENT,
        "GatherBlockQuantized" => &["bits", "block_size", "gather_axis", "quantize_axis"],
        "GatherND" => &["batch_dims"],
        "Gelu" => &["approximate"],
        "Gemm" => &["alpha", "beta", "transA", "transB"],
        "GlobalLpPool" => &["p"],
        "GridSample" => &["align_corners", "mode", "padding_mode"],
        "GroupNormalization" => &["epsilon", "num_groups", "stash_type"],
        "GroupQueryAttention" => &[],
        "HardSigmoid" => &["alpha", "beta"],
        "If" => &["else_branch", "then_branch"],
        "InstanceNormalization" => &["epsilon"],
        "IsInf" => &["detect_negative", "detect_positive"],
        "LRN" => &["alpha", "beta", "bias", "size"],
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
            &["axis", "epsilon", "stash_type"]
        }
        "LinearClassifier" => &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ],
        "LinearRegressor" => &["coefficients", "intercepts", "post_transform", "targets"],
        "LpNormalization" => &["axis", "p"],
        "MatMulNBits" => &["K", "N", "accuracy_level", "bits", "block_size"],
        "MaxPool" => {
            &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"]
        }
        "MeanVarianceNormalization" => &["axes"],
        "MelWeightMatrix" => &["output_datatype"],
        "Mod" => &["fmod"],
        // The filter value has a meaning only beside a mask, which tract refuses itself.
        "MultiHeadAttention" => &["mask_filter_value", "num_heads", "scale", "unidirectional"],
        "NonMaxSuppression" => &["center_point_box"],
        "Normalizer" => &["norm"],
        "Pad" => &["mode", "pads", "value"],
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => REDUCE,
        "Reshape" => &["allowzero"],
        "Resize" => &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ],
        "RotaryEmbedding" => {
            &["interleaved", "is_packed_batching", "num_heads", "rotary_embedding_dim", "scale"]
        }
        "STFT" => &["onesided"],
        "Scan" => &[
            "body",
            "num_scan_inputs",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ],
        "Scatter" | "ScatterElements" => &["axis", "reduction"],
        "ScatterND" => &["reduction"],
        "Selu" => &["alpha", "gamma"],
        "Shape" => &["end", "start"],
        "Shrink" => &["bias", "lambd"],
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => &["epsilon"],
        "Slice" => &["axes", "ends", "starts"],
        "SpaceToDepth" => &["blocksize"],
        "Split" => &["axis", "num_outputs", "split"],
        "Squeeze" | "Unsqueeze" => &["axes"],
        "TopK" => &["axis", "largest", "sorted"],
        "Transpose" => &["perm"],
        "TreeEnsembleClassifier" => &[
            "base_values",
            "class_ids",
            "class_nodeids",
            "class_treeids",
            "class_weights",
            "classlabels_int64s",
            "classlabels_strings",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "post_transform",
        ],
        "Trilu" => &["upper"],
        _ => return None,
    })
}
