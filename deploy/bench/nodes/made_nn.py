"""Random cases of layers: convolutions, pools, norms, products, resizing."""

import numpy
from onnx import helper

from .made import F16, F32, F64, FLOATS, Const, build, maker

PADS = [None, "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
I64 = numpy.int64


def windows(made, rank, dilated=True):
    """Kernel and the attributes that say how it moves."""
    kernel = [made.randint(1, 3) for _ in range(rank)]
    auto = made.pick([None, None, None, *PADS])
    chosen = {"auto_pad": auto, "strides": made.pick([None, [made.randint(1, 3) for _ in range(rank)]])}
    if dilated:
        chosen["dilations"] = made.pick([None, None, [made.randint(1, 2) for _ in range(rank)]])
    if auto in {None, "NOTSET"}:
        chosen["pads"] = made.pick([None, [made.randint(0, size - 1) for size in kernel * 2]])
    return kernel, chosen


def convolution(made):
    rank, group = made.pick([1, 2, 2, 2, 3]), made.pick([1, 1, 2, 3])
    per_in, per_out = made.randint(1, 3), made.randint(1, 3)
    kernel, chosen = windows(made, rank)
    space = [made.randint(5, 8) for _ in range(rank)]
    chosen |= {"group": made.pick([group, None]) if group == 1 else group, "kernel_shape": made.pick([None, kernel])}
    return [made.randint(1, 2), group * per_in, *space], [group * per_out, per_in, *kernel], chosen


@maker("Conv")
def conv(made, operator):
    x, w, chosen = convolution(made)
    dtype = made.pick(FLOATS)
    inputs = [made.floats(x, dtype), made.maybe(made.floats(w, dtype), 0.8)]
    if made.flag():
        inputs.append(made.maybe(made.floats([w[0]], dtype), 0.8))
    return build(operator, inputs, opset=made.pick([11, 22]), **chosen)


@maker("ConvInteger")
def conv_integer(made, operator):
    x, w, chosen = convolution(made)
    zero, weight_zero = made.pick([None, numpy.uint8(3)]), made.pick([None, None, "scalar", "axis"])
    kind = made.pick([numpy.uint8, numpy.uint8, numpy.int8])
    inputs = [made.integers(x, made.pick([numpy.uint8, numpy.int8]), -100, 100), Const(made.integers(w, kind, -50, 50))]
    inputs.append(None if zero is None else Const(numpy.asarray(3, inputs[0].dtype)))
    if weight_zero:
        inputs.append(Const(made.integers([] if weight_zero == "scalar" else [w[0]], kind, 0, 5)))
    return build(operator, inputs, opset=10, **chosen)


@maker("QLinearConv")
def conv_of_codes(made, operator):
    x, w, chosen = convolution(made)
    kind = made.pick([numpy.uint8, numpy.uint8, numpy.int8])
    weights = made.pick([kind, numpy.int8])
    per_axis = made.flag()
    inputs = [
        made.integers(x, kind, -100, 100), Const(F32(0.05)), Const(made.integers([], kind, 0, 9)),
        Const(made.integers(w, weights, -50, 50)),
        Const(made.floats([w[0]] if per_axis else [], F32, 0.01, 0.1)),
        Const(made.integers([w[0]] if per_axis and made.flag() else [], weights, 0, 0 if weights == numpy.int8 else 4)),
        Const(F32(made.pick([0.1, 0.3]))), Const(made.integers([], kind, 0, 9)),
    ]  # fmt: skip
    if made.flag():
        inputs.append(Const(made.integers([w[0]], numpy.int32, -300, 300)))
    return build(operator, inputs, opset=10, **chosen)


@maker("ConvTranspose")
def conv_transpose(made, operator):
    rank, group, dtype = made.pick([1, 2, 2, 3]), made.pick([1, 1, 2]), made.pick(FLOATS)
    per_in, per_out = made.randint(1, 3), made.randint(1, 3)
    kernel, chosen = windows(made, rank)
    strides = chosen["strides"] or [1] * rank
    if made.flag(0.3):
        chosen["output_padding"] = [made.randrange(stride) for stride in strides]
    space = [made.randint(2, 5) for _ in range(rank)]
    if made.flag(0.15):
        chosen["output_shape"] = [size * stride + made.randint(0, 1) for size, stride in zip(space, strides)]
        chosen.pop("pads", None)
    inputs = [made.floats([1, group * per_in, *space], dtype), made.maybe(made.floats([group * per_in, per_out, *kernel], dtype), 0.8)]
    if made.flag():
        inputs.append(made.maybe(made.floats([group * per_out], dtype), 0.8))
    return build(operator, inputs, opset=made.pick([11, 22]), group=group, kernel_shape=made.pick([None, kernel]), **chosen)


@maker("MaxPool", "AveragePool", "LpPool")
def pool(made, operator):
    rank = made.pick([1, 2, 2, 2, 3])
    opset = {"MaxPool": [10, 12, 22], "AveragePool": [10, 11, 19, 22], "LpPool": [11, 18, 22]}[operator]
    opset = made.pick(opset)
    kernel, chosen = windows(made, rank, operator == "MaxPool" or opset >= 18)
    chosen["ceil_mode"] = made.pick([None, 0, 1])
    outputs = 1
    dtype = made.pick(FLOATS)
    if operator == "AveragePool":
        chosen["count_include_pad"] = made.pick([None, 0, 1])
    elif operator == "LpPool":
        chosen["p"] = made.pick([None, 1, 3])
    else:
        chosen["storage_order"] = made.pick([None, 0, 1])
        outputs = made.pick([1, 1, 2])
        dtype = made.pick(FLOATS + ([numpy.int8, numpy.uint8] if opset >= 12 else []))
    shape = [made.randint(1, 2), made.randint(1, 2), *(made.randint(4, 7) for _ in range(rank))]
    return build(operator, [made.values(shape, dtype)], outputs, opset=opset, kernel_shape=kernel, **chosen)


@maker("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(made, operator):
    shape = [made.randint(1, 2), made.randint(1, 3), *made.shape(1, 3, empty=0.0)]
    return build(operator, [made.floats(shape, made.pick([F32, F32, F16]))], opset=2 if operator == "GlobalLpPool" and made.flag() else 21, p=made.pick([None, 1, 3]) if operator == "GlobalLpPool" else None)


@maker("BatchNormalization")
def batch_norm(made, operator):
    shape, dtype = made.shape(2, 4, empty=0.0), made.pick(FLOATS)
    opset = made.pick([9, 14, 15])
    parts = [made.floats([shape[1]], dtype), made.floats([shape[1]], dtype), made.floats([shape[1]], dtype), made.floats([shape[1]], dtype, 0.1, 2)]
    chosen = {"epsilon": made.pick([None, 1e-2]), "momentum": made.pick([None, 0.5])}
    outputs = 1
    if opset >= 14 and made.flag(0.2):
        chosen["training_mode"], outputs = 1, made.pick([1, 3])
    return build(operator, [made.floats(shape, dtype), *(made.maybe(part, 0.8) for part in parts)], outputs, opset=opset, **chosen)


@maker("InstanceNormalization")
def instance_norm(made, operator):
    shape, dtype = made.shape(3, 4, empty=0.0), made.pick(FLOATS)
    return build(operator, [made.floats(shape, dtype), made.maybe(made.floats([shape[1]], dtype)), made.maybe(made.floats([shape[1]], dtype))], opset=made.pick([6, 22]), epsilon=made.pick([None, 1e-2]))


@maker("LayerNormalization", "RMSNormalization")
def layer_norm(made, operator):
    shape, dtype = made.shape(1, 4, empty=0.0), made.pick(FLOATS)
    axis = made.axis(len(shape))
    size = shape[axis % len(shape) :]
    if made.flag(0.2):
        size = made.broadcast(size)
    inputs = [made.floats(shape, dtype), made.maybe(made.floats(size, dtype))]
    chosen = {"axis": made.pick([axis, axis - len(shape) if axis >= 0 else axis]), "epsilon": made.pick([None, 1e-2]), "stash_type": made.pick([None, 1])}
    if operator == "RMSNormalization":
        return build(operator, inputs, opset=23, **chosen)
    if made.flag():
        inputs.append(made.maybe(made.floats(size, dtype)))
    return build(operator, inputs, made.pick([1, 1, 3]), opset=17, **chosen)


@maker("GroupNormalization")
def group_norm(made, operator):
    groups, per = made.randint(1, 3), made.randint(1, 3)
    opset, dtype = made.pick([18, 21, 22]), made.pick(FLOATS)
    shape = [made.randint(1, 2), groups * per, *made.shape(1, 2, empty=0.0)]
    size = [groups if opset == 18 else groups * per]
    return build(operator, [made.floats(shape, dtype), made.maybe(made.floats(size, dtype)), made.maybe(made.floats(size, dtype))], opset=opset, kinds=[helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))], num_groups=groups, epsilon=made.pick([None, 1e-2]), stash_type=made.pick([None, 1]) if opset >= 21 else None)


@maker("LpNormalization")
def lp_norm(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    # The reference takes no absolute values for p = 1, and onnxruntime has no FP16.
    return build(operator, [made.floats(shape, made.pick([F32, F64]))], opset=made.pick([1, 22]), axis=made.pick([None, made.axis(len(shape))]), p=made.pick([None, 1, 2]))


@maker("MeanVarianceNormalization")
def mean_variance(made, operator):
    shape = made.shape(4, 4, empty=0.0)
    return build(operator, [made.floats(shape, made.pick(FLOATS))], opset=made.pick([9, 13]), axes=made.pick([None, made.sample(range(4), made.randint(1, 3))]))


@maker("LRN")
def lrn(made, operator):
    # onnxruntime has no other; the reference walks over the wrong axis.
    shape = [made.randint(1, 2), made.randint(1, 6), *made.shape(2, 2, empty=0.0)]
    chosen = {"alpha": made.pick([None, 0.3]), "beta": made.pick([None, 0.5]), "bias": made.pick([None, 2.0])}
    return build(operator, [made.floats(shape)], opset=13, size=made.pick([1, 3, 5]), **chosen)


@maker("MatMul", "MatMulInteger")
def product(made, operator):
    m, k, n = (made.randint(1, 6) for _ in range(3))
    ahead = made.shape(0, 2, empty=0.0)
    a, b = [*made.broadcast(ahead), m, k], [*made.broadcast(ahead), k, n]
    if made.flag(0.15):
        a = [k]
    if made.flag(0.15):
        b = [k]
    if operator == "MatMulInteger":
        left, right = made.pick([numpy.uint8, numpy.int8]), made.pick([numpy.uint8, numpy.int8])
        inputs = [made.integers(a, left, -100, 100), made.maybe(made.integers(b, right, -100, 100))]
        inputs.append(made.pick([None, Const(made.integers([], left, 0, 9)), Const(made.integers([m], left, 0, 9))]))
        inputs.append(made.pick([None, Const(made.integers([], right, 0, 9)), Const(made.integers([n], right, 0, 9))]))
        return build(operator, inputs, opset=10)
    dtype = made.pick(FLOATS + [numpy.int32, I64, numpy.uint32, numpy.uint64])
    return build(operator, [made.maybe(made.values(a, dtype), 0.2), made.maybe(made.values(b, dtype))], opset=made.pick([9, 13]))


@maker("QLinearMatMul")
def product_of_codes(made, operator):
    m, k, n = (made.randint(1, 6) for _ in range(3))
    ahead = made.shape(0, 1, empty=0.0)
    left, right, out = (made.pick([numpy.uint8, numpy.int8]) for _ in range(3))
    per_row = made.flag(0.2)
    per_column = made.flag(0.3)
    inputs = [
        made.integers([*ahead, m, k], left, -100, 100), Const(made.floats([m] if per_row else [], F32, 0.01, 0.1)), Const(made.integers([m] if per_row else [], left, 0, 9)),
        made.maybe(made.integers([*ahead, k, n], right, -100, 100)), Const(made.floats([n] if per_column else [], F32, 0.01, 0.1)), Const(made.integers([n] if per_column else [], right, 0, 9)),
        Const(F32(0.3)), Const(made.integers([], out, 0, 9)),
    ]  # fmt: skip
    return build(operator, inputs, opset=made.pick([10, 21]))


@maker("Gemm")
def gemm(made, operator):
    m, k, n = (made.randint(1, 6) for _ in range(3))
    flip_a, flip_b = made.pick([None, 0, 1]), made.pick([None, 0, 1])
    dtype = made.pick(FLOATS + [numpy.int32, I64])
    inputs = [made.values([k, m] if flip_a else [m, k], dtype), made.maybe(made.values([n, k] if flip_b else [k, n], dtype))]
    if made.flag(0.7):
        inputs.append(made.maybe(made.values(made.pick([[n], [m, n], [1, n], [m, 1], [], [1]]), dtype)))
    return build(operator, inputs, opset=made.pick([11, 13]), transA=flip_a, transB=flip_b, alpha=made.pick([None, 0.5, 2.0]), beta=made.pick([None, 0.5, 0.0]))


@maker("Einsum")
def einsum(made, operator):
    equation = made.pick(["ij,jk->ik", "ij,jk", "bij,bjk->bik", "...ij,...jk->...ik", "ii->i", "ij->ji", "ij->", "i,i->", "bhqd,bhkd->bhqk", "ij,ij->ij", "ij,k->ijk", "...i->...", "i,j", "ji", "ii", "b i j , b j k -> b i k", "ijk->kj"])
    sizes = {letter: made.randint(1, 4) for letter in "abcdefghijklmnopqrstuvwxyz"}
    dtype = made.pick(FLOATS + [numpy.int32, I64])
    ahead, inputs = made.shape(0, 2, empty=0.0), []
    for part in equation.split("->")[0].split(","):
        inputs.append(made.values([*(ahead if "..." in part else []), *(sizes[letter] for letter in part if letter.isalpha())], dtype))
    return build(operator, inputs, opset=12, equation=equation)


@maker("Resize")
def resize(made, operator):
    rank = made.pick([1, 2, 2])
    space = [made.randint(2, 6) for _ in range(rank)]
    shape = [1, made.randint(1, 2), *space]
    opset = made.pick([10, 11, 13, 18, 19])
    mode = made.pick(["nearest", "linear", "cubic"] if rank == 2 else ["nearest", "linear"])
    if opset == 10:
        return build(operator, [made.floats(shape), Const(numpy.array([1, 1, *(made.pick([0.5, 0.6, 1.0, 2.0, 1.5]) for _ in space)], F32))], opset=10, mode=made.pick(["nearest", "linear"]))
    transform = made.pick(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"] + (["half_pixel_symmetric"] if opset >= 19 else ["tf_half_pixel_for_nn"] if opset == 11 else []))
    chosen = {"mode": made.pick([None, mode]) if mode == "nearest" else mode, "coordinate_transformation_mode": transform}
    if mode == "nearest":
        chosen["nearest_mode"] = made.pick([None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        chosen |= {"cubic_coeff_a": made.pick([None, -0.5]), "exclude_outside": made.pick([None, 0, 1])}
    roi = numpy.array([0, 0, *(0.2 for _ in space), 1, 1, *(0.9 for _ in space)], F32) if transform == "tf_crop_and_resize" else numpy.zeros([0], F32)
    if transform == "tf_crop_and_resize":
        chosen["extrapolation_value"] = made.pick([None, 7.0])
    dtype = made.pick([F32, F32, F32, F16, F64, numpy.uint8, numpy.int8])
    scales, sizes = numpy.array([1, 1, *(made.pick([0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0]) for _ in space)], F32), None
    if made.flag(0.4):
        sizes, scales = numpy.array([1, shape[1], *(made.randint(1, 9) for _ in space)], I64), numpy.zeros([0], F32)
    if opset >= 18 and made.flag(0.3):
        chosen["axes"] = list(range(2, 2 + rank))
        scales, sizes = scales[2:], None if sizes is None else sizes[2:]
        roi = numpy.concatenate([roi[2 : 2 + rank], roi[-rank:]]) if roi.size else roi
    if opset >= 18:
        chosen["antialias"] = made.pick([None, None, 0, 1])
        if sizes is not None:
            chosen["keep_aspect_ratio_policy"] = made.pick([None, "stretch", "not_larger", "not_smaller"])
    share = made.pick([1.0, 1.0, 0.0])
    empty = None if opset >= 13 and sizes is not None else scales
    inputs = [made.values(shape, dtype), Const(roi) if opset == 11 or roi.size else None, empty if empty is None else Const(empty) if not empty.size else made.maybe(empty, share)]
    if sizes is not None:
        inputs.append(made.maybe(sizes, share))
    return build(operator, inputs, opset=opset, **chosen)


@maker("GridSample")
def grid_sample(made, operator):
    opset, rank = made.pick([16, 20, 22]), 2
    names = ["bilinear", "nearest", "bicubic"] if opset == 16 else ["linear", "nearest", "cubic"]
    if opset > 16 and made.flag(0.2):
        rank = 3
    n, c = made.randint(1, 2), made.randint(1, 2)
    x = made.floats([n, c, *(made.randint(2, 5) for _ in range(rank))], made.pick([F32, F32, F64]))
    grid = made.floats([n, *(made.randint(1, 4) for _ in range(rank)), rank], x.dtype.type, -1.3, 1.3)
    return build(operator, [x, grid], opset=opset, mode=made.pick([None, *names]), padding_mode=made.pick([None, "zeros", "border", "reflection"]), align_corners=made.pick([None, 0, 1]))


@maker("NonMaxSuppression")
def suppress(made, operator):
    batch, classes, boxes = made.randint(1, 2), made.randint(1, 2), made.randint(1, 6)
    corners = numpy.round(made.floats([batch, boxes, 4], F32, 0, 4), 1)
    inputs = [corners, made.floats([batch, classes, boxes], F32, 0, 1)]
    inputs.append(made.pick([None, made.maybe(numpy.array([made.randint(0, 4)], I64))]))
    inputs.append(made.pick([None, made.maybe(numpy.array([made.pick([0.0, 0.3, 0.7])], F32))]))
    inputs.append(made.pick([None, made.maybe(numpy.array([made.pick([0.0, 0.4])], F32))]))
    return build(operator, inputs, opset=made.pick([10, 11]), center_point_box=made.pick([None, 0, 1]))


@maker("DFT")
def dft(made, operator):
    opset = made.pick([17, 20])
    shape = [1, made.randint(2, 6), made.randint(2, 6), made.pick([1, 2])]
    axis = made.pick([1, 2])
    dtype = made.pick([F32, F32, F64])
    chosen = {"inverse": made.pick([None, 0, 1]), "onesided": made.pick([None, 0, 1]) if shape[-1] == 1 else None}
    if chosen["inverse"]:
        chosen["onesided"] = None
    length = made.pick([None, Const(numpy.asarray(made.randint(2, 7), I64))])
    if opset == 17:
        return build(operator, [made.floats(shape, dtype), length], opset=17, axis=axis, **chosen)
    return build(operator, [made.floats(shape, dtype), length, Const(numpy.asarray(axis, I64))], opset=20, **chosen)


@maker("STFT")
def stft(made, operator):
    length = made.pick([4, 5, 8])
    signal = made.floats([made.randint(1, 2), made.randint(10, 20), 1], made.pick([F32, F32, F64]))
    window = made.pick([None, Const(made.floats([length], signal.dtype.type, 0, 1))])
    size = Const(numpy.asarray(length, I64)) if window is None or made.flag() else None
    return build(operator, [signal, Const(numpy.asarray(made.randint(1, 4), I64)), window, size], opset=17, onesided=made.pick([None, 0, 1]))


@maker("HannWindow", "HammingWindow", "BlackmanWindow")
def window(made, operator):
    return build(operator, [made.maybe(numpy.asarray(made.randint(1, 12), made.pick([numpy.int32, I64])), 0.8)], opset=17, periodic=made.pick([None, 0, 1]), output_datatype=made.pick([None, 1, 11]))


@maker("MelWeightMatrix")
def mel(made, operator):
    values = [numpy.asarray(made.pick([4, 8]), I64), numpy.asarray(made.pick([16, 32]), I64), numpy.asarray(8000, I64), numpy.asarray(0.0, F32), numpy.asarray(4000.0, F32)]
    return build(operator, [made.maybe(value, 0.9) for value in values], opset=17, output_datatype=made.pick([None, 1, 11]))
