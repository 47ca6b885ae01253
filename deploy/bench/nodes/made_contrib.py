"""Random cases of other domains: `com.microsoft` and `ai.onnx.ml`."""

import numpy
from onnx import TensorProto

from .made import F16, F32, F64, FLOATS, Const, build, helper, maker

MS, ML = "com.microsoft", "ai.onnx.ml"
I64 = numpy.int64


def kind(dtype):
    return helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))


@maker("BiasGelu", "FastGelu", "QuickGelu")
def gelus(made, operator):
    shape, dtype = made.shape(1, 3, empty=0.0), made.pick([F32, F32, F16])
    inputs = [made.floats(shape, dtype)]
    if operator == "BiasGelu" or (operator == "FastGelu" and made.flag()):
        inputs.append(made.maybe(made.floats(shape[-1:], dtype)))
    return build(operator, inputs, domain=MS, kinds=[kind(dtype)], alpha=made.pick([None, 1.0]) if operator == "QuickGelu" else None)


@maker("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm(made, operator):
    shape, dtype = [made.randint(1, 2), made.randint(1, 4), made.randint(1, 6)], made.pick([F32, F32, F16])
    inputs = [made.floats(shape, dtype), made.floats(shape, dtype), made.maybe(made.floats(shape[-1:], dtype))]
    if operator == "SkipLayerNormalization":
        inputs.append(made.pick([None, made.maybe(made.floats(shape[-1:], dtype))]))
    inputs.append(made.pick([None, made.maybe(made.floats(shape[-1:], dtype))]))
    names = ["y", "", "", "sum"] if made.flag(0.4) else ["y"]
    return build(operator, inputs, names, domain=MS, kinds=[kind(dtype)] * 2, epsilon=made.pick([None, 1e-2]))


@maker("SimplifiedLayerNormalization")
def simplified_norm(made, operator):
    shape, dtype = made.shape(2, 4, empty=0.0), made.pick([F32, F32, F16, F64])
    axis = made.pick([-1, len(shape) - 1, 1])
    size = shape[axis if axis >= 0 else len(shape) - 1 :]
    return build(operator, [made.floats(shape, dtype), made.maybe(made.floats(size, dtype))], opset=17, kinds=[kind(dtype)], axis=axis, epsilon=made.pick([None, 1e-2]), stash_type=made.pick([None, 1]))


@maker("MultiHeadAttention")
def multi_head(made, operator):
    batch, heads, size, q_len, kv_len = made.randint(1, 2), made.pick([1, 2, 4]), made.pick([2, 4, 8]), made.randint(1, 5), made.randint(1, 5)
    width = heads * size
    inputs = [made.floats([batch, length, width]) for length in (q_len, kv_len, kv_len)]
    chosen = {"num_heads": heads, "scale": made.pick([None, 0.3]), "unidirectional": made.pick([None, None, 0, 1]), "mask_filter_value": made.pick([None, None, -100.0])}
    return build(operator, inputs, made.pick([1, 1, 3]), domain=MS, kinds=[1, 1, 1], **chosen)


@maker("GroupQueryAttention")
def grouped_query(made, operator):
    batch, heads, size, steps = made.randint(1, 2), made.pick([2, 4]), made.pick([8, 16]), made.randint(1, 5)
    kv_heads = made.pick([heads, heads // 2])
    first = made.flag()
    before = 0 if first else made.randint(1, 4)
    steps = steps if first else 1
    rotary = made.flag(0.4)
    inputs = [made.floats([batch, steps, heads * size])] + [made.floats([batch, steps, kv_heads * size]) for _ in range(2)]
    inputs += [None, None] if first and made.flag() else [made.floats([batch, kv_heads, before, size]) for _ in range(2)]
    lengths = [before + steps - 1] * batch
    if made.flag(0.2):
        lengths[0] = max(0, lengths[0] - 1)
    inputs += [made.maybe(numpy.array(lengths, numpy.int32), 0.3), made.maybe(numpy.array(before + steps, numpy.int32))]
    if rotary:
        inputs += [Const(made.floats([16, size // 2], F32, -1, 1)) for _ in range(2)]
    chosen = {"num_heads": heads, "kv_num_heads": kv_heads, "scale": made.pick([None, 0.3]), "do_rotary": 1 if rotary else None, "local_window_size": made.pick([None, None, 2]), "rotary_interleaved": made.pick([None, 0])}
    return build(operator, inputs, 3, domain=MS, kinds=[1, 1, 1], **chosen)


@maker("MatMulNBits")
def product_of_bits(made, operator):
    n, block = made.randint(1, 6), made.pick([16, 32])
    k = block * made.randint(1, 3)
    blocks = k // block
    shape = made.pick([[made.randint(1, 4), k], [2, made.randint(1, 3), k]])
    inputs = [made.floats(shape), Const(made.integers([n, blocks, block // 2], numpy.uint8, 0, 255)), Const(made.floats([n * blocks], F32, 0.01, 0.1))]
    inputs.append(made.pick([None, Const(made.integers([n * ((blocks + 1) // 2)], numpy.uint8, 0, 255))]))
    if made.flag(0.3):
        inputs += [None, Const(made.floats([n]))]
    return build(operator, inputs, domain=MS, kinds=[1], K=k, N=n, bits=4, block_size=block, accuracy_level=made.pick([None, 0, 1]))


@maker("GatherBlockQuantized")
def gather_of_blocks(made, operator):
    rows, width, block = made.randint(2, 5), made.pick([32, 64]), made.pick([16, 32])
    codes = numpy.array(made.integers([rows, width // 2], numpy.uint8, 0, 255))
    inputs = [Const(codes), made.integers([made.randint(1, 3)], I64, 0, rows - 1), Const(made.floats([rows, width // block], F32, 0.01, 0.1))]
    if made.flag():
        inputs.append(Const(made.integers([rows, max(1, width // block // 2)], numpy.uint8, 0, 255)))
    return build(operator, inputs, domain=MS, kinds=[1], gather_axis=0, quantize_axis=1, block_size=block, bits=4)


@maker("ArrayFeatureExtractor")
def extract(made, operator):
    shape = made.shape(1, 3, empty=0.0)
    indices = made.integers([1, made.randint(1, 3)], I64, 0, shape[-1] - 1)
    dtype = made.pick([F32, F64, I64, numpy.int32])
    return build(operator, [made.values(shape, dtype), made.maybe(indices)], domain=ML, kinds=[kind(dtype)])


@maker("CategoryMapper")
def categories(made, operator):
    chosen = {"cats_strings": ["a", "bc", "d"], "cats_int64s": [3, 7, 9], "default_string": made.pick([None, "none"]), "default_int64": made.pick([None, 5])}
    shape = made.shape(1, 2)
    if made.flag():
        return build(operator, [made.values(shape, object)], domain=ML, kinds=[TensorProto.INT64], **chosen)
    return build(operator, [made.integers(shape, I64, 3, 9)], domain=ML, kinds=[TensorProto.STRING], **chosen)


@maker("LinearClassifier", "LinearRegressor")
def linear(made, operator):
    rows, width = made.randint(1, 4), made.randint(1, 4)
    dtype = made.pick([F32, F32, F32, F64, I64, numpy.int32])
    x = made.values(made.pick([[rows, width], [rows, width], [width]]), dtype)
    after = made.pick([None, "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
    if operator == "LinearRegressor":
        targets = made.randint(1, 3)
        return build(operator, [x], domain=ML, kinds=[1], coefficients=made.floats([targets * width]).tolist(), intercepts=made.pick([None, made.floats([targets]).tolist()]), targets=targets, post_transform=after)
    classes = made.randint(2, 3)
    scores = made.pick([1, 2]) if classes == 2 else classes
    labels = {"classlabels_ints": [4, 5, 9][:classes]} if made.flag() else {"classlabels_strings": ["a", "b", "c"][:classes]}
    kinds = [TensorProto.INT64 if "classlabels_ints" in labels else TensorProto.STRING, 1]
    return build(operator, [x], 2, domain=ML, kinds=kinds, coefficients=made.floats([scores * width]).tolist(), intercepts=made.floats([scores]).tolist(), multi_class=made.pick([None, 0, 1]), post_transform=after, **labels)


@maker("Normalizer")
def normalise(made, operator):
    x = made.values(made.pick([[3], [2, 4]]), made.pick([F32, F32, F64, I64, numpy.int32]))
    return build(operator, [x], domain=ML, kinds=[1], norm=made.pick([None, "MAX", "L1", "L2"]))


@maker("TreeEnsembleClassifier")
def trees(made, operator):
    trees_, classes = made.randint(1, 3), made.randint(2, 3)
    chosen = {name: [] for name in ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true", "class_treeids", "class_nodeids", "class_ids", "class_weights")}
    mode = made.pick(["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ"])
    missing = made.flag(0.3)
    for tree in range(trees_):
        for node in range(3):
            chosen["nodes_treeids"].append(tree)
            chosen["nodes_nodeids"].append(node)
            chosen["nodes_featureids"].append(made.randrange(2))
            chosen["nodes_values"].append(float(made.randint(-1, 1)))
            chosen["nodes_modes"].append(mode if node == 0 else "LEAF")
            chosen["nodes_truenodeids"].append(1 if node == 0 else 0)
            chosen["nodes_falsenodeids"].append(2 if node == 0 else 0)
            chosen["nodes_missing_value_tracks_true"].append(int(missing))
        for node in (1, 2):
            for label in range(1 if classes == 2 and made.flag() else classes):
                chosen["class_treeids"].append(tree)
                chosen["class_nodeids"].append(node)
                chosen["class_ids"].append(label)
                chosen["class_weights"].append(round(made.random(), 2))
    base = made.pick([None, [0.25] * classes])
    labels = {"classlabels_int64s": [4, 5, 9][:classes]} if made.flag() else {"classlabels_strings": ["a", "b", "c"][:classes]}
    x = numpy.round(made.floats([made.randint(1, 4), 2], made.pick([F32, F32, F64])))
    if made.flag(0.3):
        x[0, 0] = numpy.nan
    kinds = [TensorProto.INT64 if "classlabels_int64s" in labels else TensorProto.STRING, 1]
    return build(operator, [x], 2, domain=ML, kinds=kinds, base_values=base, post_transform=made.pick([None, "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]), **labels, **chosen)


