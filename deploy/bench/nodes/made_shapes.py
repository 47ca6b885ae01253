"""Random cases of what moves, picks, makes and counts elements."""

import numpy
from onnx import helper

from .made import F32, F64, FLOATS, INTEGERS, NUMBERS, Const, build, maker

ANY = NUMBERS + [bool, object]
I32, I64 = numpy.int32, numpy.int64


def ints(*values):
    return numpy.array(values, I64)


@maker("Reshape")
def reshape(made, operator):
    shape = made.shape(0, 4, empty=0.1)
    count, target, allow = int(numpy.prod(shape)), [], made.pick([None, 0, 1])
    left = count
    for _ in range(made.randint(0, 3)):
        divisors = [d for d in range(1, 9) if left and left % d == 0] or [1]
        target.append(made.pick(divisors))
        left = left // target[-1]
    target.append(left)
    if count and made.flag(0.4):
        target[made.randrange(len(target))] = -1
    for at, axis in enumerate(target):
        if at < len(shape) and shape[at] == axis and not allow and made.flag(0.4):
            target[at] = 0
    return build(operator, [made.values(shape, made.pick(ANY)), made.maybe(ints(*target), 0.7)], opset=made.pick([13, 14, 21]), allowzero=allow)


@maker("Flatten")
def flatten(made, operator):
    shape = made.shape(1, 4)
    return build(operator, [made.values(shape, made.pick(ANY))], axis=made.pick([None, made.randint(-len(shape), len(shape))]))


@maker("Squeeze", "Unsqueeze")
def squeeze(made, operator):
    shape = [1 if made.flag(0.4) else axis for axis in made.shape(1, 4)]
    opset = made.pick([11, 13, 21])
    if operator == "Squeeze":
        ones = [at for at, axis in enumerate(shape) if axis == 1]
        axes = made.sample(ones, made.randint(0, len(ones)))
        rank = len(shape)
    else:
        rank = len(shape) + made.randint(1, 2)
        axes = made.sample(range(rank), rank - len(shape))
    axes = [axis - rank if made.flag(0.3) else axis for axis in axes]
    values = made.values(shape, made.pick(ANY))
    if opset < 13:
        return build(operator, [values], opset=opset, axes=axes or None)
    return build(operator, [values, made.maybe(ints(*axes), 0.7)] if axes else [values], opset=opset)


@maker("Transpose")
def transpose(made, operator):
    shape = made.shape(0, 5)
    return build(operator, [made.values(shape, made.pick(ANY))], perm=made.pick([None, made.sample(range(len(shape)), len(shape))]))


@maker("Concat")
def concat(made, operator):
    shape, dtype = made.shape(1, 4), made.pick(ANY)
    axis = made.axis(len(shape))
    parts = []
    for _ in range(made.randint(1, 3)):
        own = list(shape)
        own[axis] = made.randint(0, 3)
        parts.append(made.maybe(made.values(own, dtype), 0.2))
    return build(operator, parts, axis=axis)


@maker("Split")
def split(made, operator):
    shape = made.shape(1, 4, most=7, empty=0.0)
    axis, opset, count = made.axis(len(shape)), made.pick([11, 13, 18]), made.randint(1, 3)
    values = made.values(shape, made.pick(ANY))
    cuts = sorted(made.randint(0, shape[axis]) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, shape[axis]])]
    if made.flag(0.4):
        chosen = {"num_outputs": count} if opset == 18 else {}
        return build(operator, [values], count, opset=opset, axis=axis, **chosen)
    if opset == 11:
        return build(operator, [values], count, opset=opset, axis=axis, split=sizes)
    return build(operator, [values, made.maybe(ints(*sizes), 0.8)], count, opset=opset, axis=axis)


@maker("Slice")
def slice_(made, operator):
    shape = made.shape(1, 4, most=8)
    axes = made.sample(range(len(shape)), made.randint(1, len(shape)))
    starts, ends, steps = [], [], []
    for axis in axes:
        far = made.pick([shape[axis] + 2, 2**31 - 1, 2**63 - 1])
        starts.append(made.pick([made.randint(-shape[axis] - 2, shape[axis] + 2), 0, -1, far]))
        ends.append(made.pick([made.randint(-shape[axis] - 2, shape[axis] + 2), far, -far - 1, -1]))
        steps.append(made.pick([1, 1, 2, 3, -1, -2]))
    named = [axis - len(shape) if made.flag(0.3) else axis for axis in axes]
    values = made.values(shape, made.pick(ANY))
    if made.flag(0.15):
        return build(operator, [values], opset=9, starts=starts, ends=ends, axes=axes)
    kind = made.pick([I64, I64, I32])
    if kind == I32:
        starts, ends = numpy.clip(starts, -(2**31), 2**31 - 1), numpy.clip(ends, -(2**31), 2**31 - 1)
    share = made.pick([1.0, 1.0, 0.5, 0.0])
    inputs = [values, *(made.maybe(numpy.array(part, kind), share) for part in (starts, ends))]
    if made.flag(0.8):
        inputs += [made.maybe(numpy.array(named, kind), share)]
        if made.flag(0.7):
            inputs += [made.maybe(numpy.array(steps, kind), share)]
    elif len(axes) != len(shape):
        inputs[0] = made.values(shape[: len(axes)], F32)
    return build(operator, inputs, opset=made.pick([10, 13]))


@maker("Gather", "GatherElements")
def gather(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    axis = made.axis(len(shape))
    size = shape[axis]
    low = made.pick([0, -size])
    of = made.shape(0, 3) if operator == "Gather" else [made.randint(1, length) for length in shape]
    indices = made.integers(of, made.pick([I32, I64]), low, size - 1)
    return build(operator, [made.maybe(made.values(shape, made.pick(ANY)), 0.3), made.maybe(indices)], axis=made.pick([None, axis]) if axis == 0 else axis)


@maker("GatherND")
def gather_nd(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    batch = made.randrange(len(shape))
    depth = made.randint(1, len(shape) - batch)
    of = shape[:batch] + made.shape(0, 2)
    low = made.pick([0, 0, 1])
    parts = [made.integers(of, I64, -shape[batch + at] if low else 0, shape[batch + at] - 1) for at in range(depth)]
    return build(operator, [made.values(shape, made.pick(ANY)), made.maybe(numpy.stack(parts, -1))], opset=made.pick([12, 13]), batch_dims=batch or None)


@maker("ScatterElements", "Scatter")
def scatter(made, operator):
    shape = made.shape(1, 3, empty=0.0)
    axis = made.axis(len(shape))
    opset = 9 if operator == "Scatter" else made.pick([11, 16, 18])
    reduction = {11: [None], 9: [None], 16: [None, "none", "add", "mul"], 18: [None, "none", "add", "mul", "max", "min"]}[opset]
    reduction = made.pick(reduction)
    of = [made.randint(1, length) for length in shape]
    size = shape[axis]
    indices = made.integers(of, made.pick([I32, I64]), made.pick([0, -size]) if opset >= 11 else 0, size - 1)
    if reduction in {None, "none"}:
        # Without a reduction no index may stand twice.
        order = [made.sample(range(size), of[axis]) for _ in range(int(numpy.prod(of)) // of[axis])]
        moved = numpy.array(order, indices.dtype).reshape([length for at, length in enumerate(of) if at != axis % len(of)] + [of[axis]])
        indices = numpy.moveaxis(moved, -1, axis)
        if made.flag(0.3) and opset >= 11:
            indices = indices - size
    dtype = made.pick(FLOATS + [I32, I64, numpy.uint8])
    return build(operator, [made.values(shape, dtype), made.maybe(indices), made.values(of, dtype)], opset=opset, axis=axis, reduction=reduction)


@maker("ScatterND")
def scatter_nd(made, operator):
    shape = made.shape(1, 3, empty=0.0)
    depth, opset = made.randint(1, len(shape)), made.pick([11, 16, 18])
    reduction = made.pick({11: [None], 16: [None, "none", "add", "mul"], 18: [None, "add", "mul", "max", "min"]}[opset])
    spots = [list(at) for at in numpy.ndindex(*shape[:depth])]
    chosen = made.sample(spots, made.randint(1, min(4, len(spots))))
    if reduction not in {None, "none"} and made.flag():
        chosen.append(chosen[0])
    indices = numpy.array(chosen, I64)
    if made.flag(0.3):
        indices = indices - numpy.array(shape[:depth])
    dtype = made.pick(FLOATS + [I32, I64, numpy.uint8])
    updates = made.values([len(chosen), *shape[depth:]], dtype)
    return build(operator, [made.values(shape, dtype), made.maybe(indices), updates], opset=opset, reduction=reduction)


@maker("Pad")
def pad(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    mode = made.pick([None, "constant", "reflect", "edge", "wrap"])
    opset = made.pick([10, 11, 13, 18, 19]) if mode != "wrap" else 19
    dtype = made.pick(FLOATS + [I32, I64, numpy.uint8, numpy.int8])
    low = made.pick([0, 0, 0, -1])
    most = lambda axis: made.randint(low, min(2, shape[axis] - 1) if mode in {"reflect", "wrap"} else 2)  # noqa: E731
    axes = made.sample(range(len(shape)), made.randint(1, len(shape))) if opset >= 18 and made.flag(0.4) else None
    sides = axes if axes is not None else range(len(shape))
    pads = [most(axis) for axis in sides] + [most(axis) for axis in sides]
    if opset == 10:
        return build(operator, [made.floats(shape)], opset=10, mode=mode, pads=pads, value=made.pick([None, 1.5]))
    inputs = [made.values(shape, dtype), made.maybe(ints(*pads), 0.8)]
    value = made.values([], dtype) if made.flag() else None
    inputs.append(None if value is None else made.maybe(value, 0.8))
    if axes is not None:
        inputs.append(Const(numpy.array([axis - len(shape) if made.flag(0.3) else axis for axis in axes], made.pick([I32, I64]))))
    return build(operator, inputs, opset=opset, mode=mode)


@maker("Tile")
def tile(made, operator):
    shape = made.shape(1, 4)
    return build(operator, [made.values(shape, made.pick(ANY)), made.maybe(made.integers([len(shape)], I64, 0, 3))])


@maker("Expand")
def expand(made, operator):
    shape = made.shape(0, 4)
    target = made.broadcast(shape)
    source = [axis if made.flag(0.5) else 1 for axis in shape]
    return build(operator, [made.values(source, made.pick(ANY)), made.maybe(ints(*(target if made.flag(0.3) else shape)), 0.7)])


@maker("Trilu")
def trilu(made, operator):
    shape = made.shape(2, 4)
    inputs = [made.values(shape, made.pick(NUMBERS + [bool]))]
    if made.flag(0.7):
        inputs.append(made.maybe(numpy.asarray(made.randint(-6, 6), I64)))
    return build(operator, inputs, opset=14, upper=made.pick([None, 0, 1]))


@maker("TopK")
def top(made, operator):
    shape = made.shape(1, 3, most=6, empty=0.0)
    axis = made.axis(len(shape))
    dtype = made.pick(FLOATS + [I32, I64, numpy.uint8, numpy.int8])
    values = made.integers(shape, I64, 0, 3).astype(dtype) if made.flag(0.4) else made.values(shape, dtype, made.pick([0.0, 0.1]))
    k = made.randint(1, shape[axis])
    chosen = {"axis": axis, "largest": made.pick([None, 0, 1]), "sorted": made.pick([None, 1])}
    return build(operator, [values, made.maybe(ints(k), 0.7)], 2, opset=made.pick([11, 24]), **chosen)


@maker("OneHot")
def one_hot(made, operator):
    shape, depth = made.shape(0, 3), made.randint(1, 5)
    kind = made.pick([I64, I64, I32, F32])
    indices = made.integers(shape, I64, -depth - 1, depth + 1).astype(kind)
    size = numpy.asarray([depth] if made.flag(0.3) else depth, made.pick([I64, I32, F32]))
    pair = made.values([2], made.pick([F32, I64, I32, F64, bool]))
    return build(operator, [indices, made.maybe(size, 0.8), made.maybe(pair, 0.8)], kinds=[helper.np_dtype_to_tensor_dtype(pair.dtype)], axis=made.pick([None, made.randint(-len(shape) - 1, len(shape))]))


@maker("NonZero")
def nonzero(made, operator):
    dtype = made.pick(NUMBERS + [bool])
    values = made.integers(made.shape(0, 4), I64, 0, 1).astype(dtype)
    return build(operator, [values])


@maker("Compress")
def compress(made, operator):
    shape = made.shape(1, 3)
    axis = made.pick([None, made.axis(len(shape))])
    size = int(numpy.prod(shape)) if axis is None else shape[axis]
    flags = made.values([made.randint(0, size)], bool)
    return build(operator, [made.values(shape, made.pick(ANY)), made.maybe(flags)], axis=axis)


@maker("Range")
def range_(made, operator):
    dtype = made.pick([F32, F64, numpy.int16, I32, I64])
    start, step = made.randint(-5, 5), made.pick([1, 2, -1, -3])
    end = start + step * made.randint(-1, 5) + made.pick([0, 1])
    parts = [numpy.asarray(value, dtype) for value in (start, end, step)]
    if dtype in {F32, F64} and made.flag():
        parts = [numpy.asarray(value * 0.3, dtype) for value in (start, end, step)]
    share = made.pick([1.0, 0.5, 0.0])
    return build(operator, [made.maybe(part, share) for part in parts])


@maker("Shape")
def shape_(made, operator):
    ends = {"start": made.pick([None, made.randint(-6, 6)]), "end": made.pick([None, made.randint(-6, 6)])}
    return build(operator, [made.values(made.shape(0, 5), made.pick(ANY))], opset=made.pick([15, 21]), **ends)


@maker("Size")
def size_(made, operator):
    return build(operator, [made.values(made.shape(0, 5), made.pick(ANY))])


@maker("ConstantOfShape")
def constant_of_shape(made, operator):
    from onnx import numpy_helper

    dtype = made.pick([F32, F64, numpy.float16] + INTEGERS + [bool])
    value = made.pick([None, numpy_helper.from_array(made.values([1], dtype))])
    return build(operator, [made.maybe(ints(*made.shape(0, 4)))], value=value)


@maker("EyeLike")
def eye_like(made, operator):
    chosen = {"k": made.pick([None, made.randint(-3, 3)]), "dtype": made.pick([None, 1, 6, 7, 10, 11])}
    return build(operator, [made.values(made.shape(2, 2), made.pick(FLOATS + [I32, I64]))], opset=9, **chosen)


@maker("DepthToSpace", "SpaceToDepth")
def blocks(made, operator):
    size = made.pick([1, 2, 3])
    n, c, h, w = (made.randint(1, 3) for _ in range(4))
    deep = operator == "DepthToSpace"
    shape = [n, c * size * size, h, w] if deep else [n, c, h * size, w * size]
    return build(operator, [made.values(shape, made.pick(FLOATS if deep else FLOATS))], opset=13, blocksize=size, mode=made.pick([None, "DCR", "CRD"]) if deep else None)


@maker("Dropout")
def dropout(made, operator):
    opset, values = made.pick([10, 13, 22]), made.floats(made.shape(0, 3), made.pick(FLOATS))
    outputs = made.randint(1, 2)
    if opset == 10:
        return build(operator, [values], outputs, opset=opset, ratio=made.pick([None, 0.1, 0.0]))
    inputs = [values, made.pick([None, made.maybe(numpy.asarray(made.pick([0.0, 0.5]), F32))])]
    inputs.append(made.pick([None, made.maybe(numpy.asarray(False)), Const(numpy.asarray(inputs[1] is not None and False))]))
    return build(operator, inputs, outputs, opset=opset)


@maker("Constant")
def constant(made, operator):
    from onnx import helper, numpy_helper

    chosen = made.pick([
        {"value": numpy_helper.from_array(made.values(made.shape(0, 3), made.pick(NUMBERS + [bool])))},
        {"value_int": made.randint(-5, 5)}, {"value_float": 1.5}, {"value_ints": [1, -2, 3]}, {"value_floats": [0.5, 2.5]},
    ])  # fmt: skip
    node = helper.make_node("Identity", ["x9"], ["z"])
    whole, given = build(operator, [], 1, opset=13, **chosen)
    del node
    return whole, given
