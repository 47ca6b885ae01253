"""Random cases of what looks at one element at a time, and of what reduces."""

import numpy

from .made import F16, F32, F64, FLOATS, INTEGERS, NUMBERS, SIGNED, UNSIGNED, Const, build, maker  # noqa: F401

ODD = 0.15


@maker("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log")
@maker("Reciprocal", "Round", "Sigmoid", "Sin", "Sinh", "Sqrt", "Tan", "Tanh", "Softplus", "Softsign", "Mish", "HardSwish")
@maker("IsNaN")
def unary(made, operator):
    dtype = made.pick(FLOATS)
    odd = 0.0 if operator in {"Mish"} and made.flag() else ODD
    return build(operator, [made.floats(made.shape(0), dtype, odd=odd)], opset=made.pick([18, 20, 22]))


@maker("Abs", "Neg", "Sign", "Relu", "Identity")
def unary_of_numbers(made, operator):
    kinds = {"Neg": FLOATS + SIGNED, "Relu": FLOATS + SIGNED, "Identity": NUMBERS + [bool, object]}
    dtype = made.pick(kinds.get(operator, NUMBERS))
    return build(operator, [made.values(made.shape(0), dtype, odd=ODD)], opset=made.pick([14, 17, 21]))


@maker("Not")
def unary_of_flags(made, operator):
    return build(operator, [made.values(made.shape(0), bool)])


@maker("BitwiseNot")
def unary_of_bits(made, operator):
    return build(operator, [made.values(made.shape(0), made.pick(INTEGERS), odd=ODD)])


@maker("IsInf")
def is_inf(made, operator):
    flags = {name: made.pick([None, 0, 1]) for name in ("detect_positive", "detect_negative")}
    return build(operator, [made.floats(made.shape(0), made.pick(FLOATS), odd=0.4)], opset=made.pick([10, 20]), **flags)


@maker("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu")
@maker("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def binary(made, operator):
    kinds = FLOATS if operator in {"Sum", "Mean"} else NUMBERS
    if operator == "Equal":
        kinds = NUMBERS + [bool, object]
    if operator == "PRelu":
        kinds = FLOATS + [numpy.int32, numpy.int64, numpy.uint32, numpy.uint64]
    dtype = made.pick(kinds)
    shape = made.shape(0)
    odd = made.pick([0.0, ODD])
    one, other = made.values(shape, dtype, odd), made.values(made.broadcast(shape), dtype, odd)
    if operator == "Div" and numpy.issubdtype(dtype, numpy.integer):
        other[other == 0] = 3
        one = made.integers(shape, dtype, -100, 100)
    if operator == "Pow":
        second = made.pick([dtype, F32, numpy.int32, numpy.int64])
        if numpy.issubdtype(dtype, numpy.integer):
            one = made.integers(shape, dtype, 0, 4)
        other = made.integers(other.shape, numpy.int32, 0, 4).astype(second)
        if numpy.issubdtype(dtype, numpy.floating) and made.flag():
            other = made.floats(other.shape, F32).astype(second)
    if operator != "PRelu" and made.flag(0.3):
        one, other = other, one
    # A whole number to the power of a negative one has no one right answer.
    inputs = [made.operand(one, 0.2), made.operand(other, 0.0 if operator == "Pow" and dtype not in FLOATS else 0.4)]
    if operator == "Div" and isinstance(inputs[1], Const) and not numpy.asarray(inputs[1].value).all():
        inputs[1] = other
    if operator in {"Max", "Min", "Sum", "Mean"}:
        inputs = inputs[: made.randint(1, 2)] + [made.values(shape, dtype, odd)] * made.randint(0, 1)
    return build(operator, inputs, opset=made.pick([13, 16, 19, 21]))


@maker("Mod")
def mod(made, operator):
    dtype = made.pick(NUMBERS)
    shape = made.shape(0)
    fmod = 1 if numpy.issubdtype(dtype, numpy.floating) else made.pick([None, 0, 1])
    one, other = made.values(shape, dtype), made.values(made.broadcast(shape), dtype)
    other[other == 0] = 3
    second = made.operand(other, 0.5)
    if isinstance(second, Const) and not numpy.asarray(second.value).all():
        second = other
    return build(operator, [one, second], fmod=fmod)


@maker("And", "Or", "Xor")
def logic(made, operator):
    shape = made.shape(0)
    return build(operator, [made.values(shape, bool), made.maybe(made.values(made.broadcast(shape), bool))])


@maker("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bits(made, operator):
    shape, dtype = made.shape(0), made.pick(INTEGERS)
    return build(operator, [made.values(shape, dtype, ODD), made.maybe(made.values(made.broadcast(shape), dtype, ODD))])


@maker("BitShift")
def shift(made, operator):
    shape, dtype = made.shape(0), made.pick(UNSIGNED)
    width = numpy.iinfo(dtype).bits
    counts = made.integers(made.broadcast(shape), dtype, 0, width + (2 if made.flag(0.2) else -1))
    return build(operator, [made.integers(shape, dtype, 0, 120, ODD), made.operand(counts, 0.5)], direction=made.pick(["LEFT", "RIGHT"]))


@maker("Where")
def where(made, operator):
    shape, dtype = made.shape(0), made.pick(NUMBERS + [bool, object])
    inputs = [made.values(made.broadcast(shape), bool), made.values(shape, dtype), made.values(made.broadcast(shape), dtype)]
    return build(operator, [made.maybe(value, 0.2) for value in inputs])


@maker("Elu", "Celu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Selu", "Shrink", "Swish", "Gelu")
def activation(made, operator):
    names = {"HardSigmoid": ["alpha", "beta"], "Selu": ["alpha", "gamma"], "Shrink": ["bias", "lambd"]}
    chosen = {name: made.pick([None, 0.3, 1.7, 2.0]) for name in names.get(operator, ["alpha"])}
    opset = 24 if operator == "Swish" else made.pick([16, 20, 22])
    if operator == "Gelu":
        chosen, opset = {"approximate": made.pick([None, "none", "tanh"])}, 20
    kinds = FLOATS + (SIGNED + UNSIGNED if operator == "Shrink" else [])
    return build(operator, [made.values(made.shape(0), made.pick(kinds), odd=ODD)], opset=opset, **chosen)


@maker("Clip")
def clip(made, operator):
    shape = made.shape(0)
    if made.flag(0.15):
        bounds = {"min": made.pick([None, -1.0, 0.5]), "max": made.pick([None, 1.5, 0.0])}
        return build(operator, [made.floats(shape)], opset=made.pick([6, 9]), **bounds)
    dtype = made.pick(NUMBERS)
    low, high = numpy.asarray(made.pick([0, 1, 4]), dtype), numpy.asarray(made.pick([2, 3, 0]), dtype)
    low, high = made.pick([None, low, made.maybe(low)]), made.pick([None, high, made.maybe(high)])
    return build(operator, [made.values(shape, dtype, ODD), low, high], opset=made.pick([12, 13]))


@maker("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")
@maker("ReduceSum", "ReduceSumSquare")
def reduce(made, operator):
    shape = made.shape(1, 4, empty=0.05)
    dtype = made.pick(FLOATS + [numpy.int32, numpy.int64, numpy.uint32, numpy.uint64])
    if operator in {"ReduceMax", "ReduceMin"}:
        dtype = made.pick(NUMBERS + [bool])
    opset = made.pick([11, 13, 18, 20])
    as_input = opset >= 18 or (operator == "ReduceSum" and opset >= 13)
    axes = made.sample(range(len(shape)), made.randint(0, len(shape)))
    axes = [axis - len(shape) if made.flag(0.3) else axis for axis in axes]
    chosen = {"keepdims": made.pick([None, 0, 1])}
    values = made.values(shape, dtype, made.pick([0.0, 0.0, 0.05]))
    if operator == "ReduceLogSum":
        values = numpy.abs(values)
    inputs = [values]
    if as_input:
        chosen["noop_with_empty_axes"] = made.pick([None, 0, 1])
        if made.flag(0.8):
            inputs.append(made.maybe(numpy.array(axes, numpy.int64), 0.7))
    else:
        chosen["axes"] = axes or None
    return build(operator, inputs, opset=opset, **chosen)


@maker("ArgMax", "ArgMin")
def arg(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    dtype = made.pick(FLOATS + [numpy.int32, numpy.int8, numpy.uint8])
    values = made.integers(shape, numpy.int64, 0, 2).astype(dtype) if made.flag() else made.values(shape, dtype)
    chosen = {"axis": made.pick([None, made.axis(len(shape))]), "keepdims": made.pick([None, 0, 1])}
    chosen["select_last_index"] = made.pick([None, 0, 1])
    return build(operator, [values], opset=made.pick([12, 13]), **chosen)


@maker("Softmax", "LogSoftmax", "Hardmax")
def soft(made, operator):
    shape = made.shape(1, 4, empty=0.0)
    values = made.floats(shape, F32 if operator == "Hardmax" else made.pick(FLOATS), odd=made.pick([0.0, 0.0, 0.1]))
    if operator == "Hardmax" and made.flag():
        values = numpy.round(values)
    return build(operator, [values], opset=made.pick([9, 11, 13]), axis=made.pick([None, made.axis(len(shape)), made.randrange(len(shape))]))


@maker("CumSum")
def cumulate(made, operator):
    shape = made.shape(1, 4)
    dtype = made.pick(FLOATS + [numpy.int32, numpy.int64, numpy.uint32, numpy.uint64])
    axis = numpy.asarray(made.axis(len(shape)), made.pick([numpy.int32, numpy.int64]))
    chosen = {name: made.pick([None, 0, 1]) for name in ("exclusive", "reverse")}
    return build(operator, [made.values(shape, dtype), made.maybe(axis, 0.8)], **chosen)


@maker("Cast")
def cast(made, operator):
    from onnx import helper

    source, target = made.pick(NUMBERS + [bool, object]), made.pick(NUMBERS + [bool, object])
    shape = made.shape(0)
    if source == object:
        texts = ["1", "0", "-3", "2.5", "1e3", "INF", "-INF", "NaN", "nan", "+inf", "7"]
        values = numpy.array([made.pick(texts) for _ in range(int(numpy.prod(shape)))], object).reshape(shape)
    elif numpy.issubdtype(source, numpy.floating):
        values = made.floats(shape, source, -4, 4, odd=made.pick([0.0, 0.2]))
        if target != object and numpy.issubdtype(target, numpy.integer):
            # What is out of range, or no number, has no one right answer.
            values = made.floats(shape, source, 0 if numpy.issubdtype(target, numpy.unsignedinteger) else -100, 100)
    else:
        values = made.values(shape, source, odd=made.pick([0.0, 0.2]))
    to = 8 if target == object else helper.np_dtype_to_tensor_dtype(numpy.dtype(target))
    return build(operator, [values], opset=made.pick([13, 19, 21]), to=to)


@maker("CastLike")
def cast_like(made, operator):
    source, target = made.pick(NUMBERS + [bool]), made.pick(NUMBERS + [bool])
    values = made.values(made.shape(0), source)
    if target != bool and numpy.issubdtype(target, numpy.unsignedinteger) and numpy.issubdtype(source, numpy.floating):
        values = numpy.abs(values)
    return build(operator, [values, made.maybe(made.values([1], target))], opset=made.pick([15, 19]))


@maker("QuantizeLinear", "DequantizeLinear")
def quantise(made, operator):
    shape = made.shape(1, 4)
    opset = made.pick([10, 13, 19, 21])
    codes = made.pick([numpy.uint8, numpy.int8] * 3 + [numpy.int16, numpy.uint16, numpy.int32])
    axis = made.axis(len(shape))
    per_axis = opset >= 13 and made.flag()
    size = [shape[axis]] if per_axis else made.pick([[], []])
    scale_type = made.pick([F32, F32, F32, F16]) if opset >= 19 else F32
    scale = made.floats(size, scale_type, 0.01, 0.5)
    zero = made.values(size, codes) if codes != numpy.int32 else numpy.zeros(size, codes)
    chosen = {"axis": axis} if per_axis else {"axis": made.pick([None, 0])} if opset >= 13 else {}
    if opset >= 21 and made.flag(0.15):
        chosen["output_dtype"] = made.pick([2, 3]) if operator == "QuantizeLinear" else None
    if operator == "QuantizeLinear":
        values = made.floats(shape, made.pick([F32, F32, numpy.int32, F16]), -30, 30, odd=made.pick([0.0, 0.1]))
        if scale_type == F16:
            values = values.astype(F16)
    else:
        values = made.values(shape, codes, 0.1)
    inputs = [values, made.maybe(scale, 0.8)]
    if made.flag(0.75):
        inputs.append(made.maybe(zero, 0.8))
    return build(operator, inputs, opset=opset, **chosen)


@maker("DynamicQuantizeLinear")
def quantise_dynamically(made, operator):
    low = made.pick([-3.0, 0.5, -4.0])
    return build(operator, [made.floats(made.shape(1, 4, empty=0.0), F32, low, low + made.pick([0.0, 2.0, 9.0]))], outputs=3)


