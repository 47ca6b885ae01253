"""Random graphs of several nodes: what an engine makes of neighbours is another matter than what it makes of each."""

import numpy
from onnx import helper, numpy_helper

from .made import F32, maker, model

I64 = numpy.int64


class Chain:
    """A graph that grows; `name` and `shape` are of the value that it ends in."""

    def __init__(self, made, shape):
        self.made, self.name, self.shape = made, "x", list(shape)
        self.nodes, self.weights, self.past = [], [], [("x", list(shape))]

    def weight(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(numpy.asarray(value), name))
        return name

    def add(self, operator, others=(), shape=None, ahead=(), **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*ahead, self.name, *others], [name], **attributes))
        self.name, self.shape = name, list(self.shape if shape is None else shape)
        self.past.append((name, self.shape))


def plain(chain, made):
    chain.add(made.pick(["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Erf", "HardSwish", "Softplus", "Identity", "Ceil", "LeakyRelu", "Elu"]))


def with_constant(chain, made):
    size = made.pick([[], [1], chain.shape, [1] * len(chain.shape), made.broadcast(chain.shape)])
    value = numpy.full(size, made.pick([0, 1, 2, -1, 0.5, 4]), F32) if made.flag() else made.floats(size, F32, 0.5, 2)
    operator = made.pick(["Add", "Sub", "Mul", "Div", "Max", "Min"])
    if operator == "Div":
        value = numpy.where(value == 0, 2, value).astype(F32)
    if operator in {"Add", "Sub", "Mul"} and made.flag(0.3):
        name = chain.weight(value)
        chain.nodes.append(helper.make_node(operator, [name, chain.name], [f"v{len(chain.nodes)}"]))
        chain.name = f"v{len(chain.nodes) - 1}"
        chain.past.append((chain.name, chain.shape))
    else:
        chain.add(operator, [chain.weight(value)])


def with_past(chain, made):
    alike = [name for name, shape in chain.past if shape == chain.shape]
    chain.add(made.pick(["Add", "Mul", "Sub", "Max", "Min"]), [made.pick(alike)])


def transpose(chain, made):
    order = made.sample(range(len(chain.shape)), len(chain.shape))
    chain.add("Transpose", perm=order, shape=[chain.shape[axis] for axis in order])


def reshape(chain, made):
    shape = list(chain.shape)
    if len(shape) > 1 and made.flag():
        at = made.randrange(len(shape) - 1)
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    else:
        at = made.randrange(len(shape))
        divisor = made.pick([d for d in range(1, shape[at] + 1) if shape[at] % d == 0])
        shape[at : at + 1] = [divisor, shape[at] // divisor]
    if len(shape) <= 5:
        chain.add("Reshape", [chain.weight(numpy.array(shape, I64))], shape=shape)


def axes(chain, made):
    if len(chain.shape) < 5 and made.flag():
        at = made.randint(0, len(chain.shape))
        chain.add("Unsqueeze", [chain.weight(numpy.array([at], I64))], shape=chain.shape[:at] + [1] + chain.shape[at:])
    elif 1 in chain.shape and len(chain.shape) > 1:
        at = chain.shape.index(1)
        chain.add("Squeeze", [chain.weight(numpy.array([at], I64))], shape=chain.shape[:at] + chain.shape[at + 1 :])


def part(chain, made):
    at = made.randrange(len(chain.shape))
    start = made.randrange(chain.shape[at])
    end = made.randint(start + 1, chain.shape[at])
    shape = list(chain.shape)
    shape[at] = end - start
    chain.add("Slice", [chain.weight(numpy.array([value], I64)) for value in (start, end, at)], shape=shape)


def pick(chain, made):
    at = made.randrange(len(chain.shape))
    size = chain.shape[at]
    shape = list(chain.shape)
    if made.flag(0.3) and len(shape) > 1:
        del shape[at]
        chain.add("Gather", [chain.weight(numpy.asarray(made.randint(-size, size - 1), I64))], shape=shape, axis=at)
    else:
        shape[at] = made.randint(1, 3)
        chain.add("Gather", [chain.weight(made.integers([shape[at]], I64, -size, size - 1))], shape=shape, axis=at)


def join(chain, made):
    at = made.randrange(len(chain.shape))
    alike = [(name, shape) for name, shape in chain.past if len(shape) == len(chain.shape) and shape[:at] + shape[at + 1 :] == chain.shape[:at] + chain.shape[at + 1 :]]
    name, other = made.pick(alike)
    shape = list(chain.shape)
    shape[at] += other[at]
    if shape[at] <= 12:
        chain.add("Concat", [name], shape=shape, axis=at)


def pad(chain, made):
    rank = len(chain.shape)
    pads = [made.randint(0, 1) for _ in range(2 * rank)]
    mode = made.pick(["constant", "edge"])
    chain.add("Pad", [chain.weight(numpy.array(pads, I64))], shape=[size + pads[at] + pads[at + rank] for at, size in enumerate(chain.shape)], mode=mode)


def reduce(chain, made):
    rank = len(chain.shape)
    chosen = made.sample(range(rank), made.randint(1, rank))
    keep = made.flag(0.7) or len(chosen) == rank
    shape = [1 if at in chosen else size for at, size in enumerate(chain.shape) if keep or at not in chosen]
    chain.add(made.pick(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceProd"]), [chain.weight(numpy.array(chosen, I64))], shape=shape, keepdims=int(keep))


def soft(chain, made):
    chain.add(made.pick(["Softmax", "LogSoftmax"]), axis=made.axis(len(chain.shape)))


def norm(chain, made):
    size = chain.shape[-1:]
    chain.add("LayerNormalization", [chain.weight(made.floats(size)), chain.weight(made.floats(size))])


def product(chain, made):
    if len(chain.shape) < 2:
        return
    width = made.randint(1, 5)
    if made.flag(0.7):
        chain.add("MatMul", [chain.weight(made.floats([chain.shape[-1], width]))], shape=chain.shape[:-1] + [width])
    else:
        left = chain.weight(made.floats([width, chain.shape[-2]]))
        chain.add("MatMul", ahead=[left], shape=chain.shape[:-2] + [width, chain.shape[-1]])


def convolve(chain, made):
    if len(chain.shape) not in {3, 4} or min(chain.shape[2:]) < 3:
        return
    rank, channels = len(chain.shape) - 2, chain.shape[1]
    out, size = made.randint(1, 4), made.pick([1, 3])
    group = channels if made.flag(0.3) else 1
    out = channels * made.randint(1, 2) if group > 1 else out
    stride = made.pick([1, 1, 2])
    around = made.pick([0, size // 2])
    others = [chain.weight(made.floats([out, channels // group, *[size] * rank], F32, -1, 1))]
    if made.flag():
        others.append(chain.weight(made.floats([out])))
    space = [(length + 2 * around - size) // stride + 1 for length in chain.shape[2:]]
    chain.add("Conv", others, shape=[chain.shape[0], out, *space], group=group, strides=[stride] * rank, pads=[around] * 2 * rank)


def pool(chain, made):
    if len(chain.shape) != 4 or min(chain.shape[2:]) < 3:
        return
    chain.add(made.pick(["MaxPool", "AveragePool"]), kernel_shape=[2, 2], strides=[1, 1], shape=[*chain.shape[:2], *(length - 1 for length in chain.shape[2:])])


def batch_norm(chain, made):
    if len(chain.shape) < 2:
        return
    size = [chain.shape[1]]
    chain.add("BatchNormalization", [chain.weight(made.floats(size, F32, low, 2)) for low in (-2, -2, -2, 0.2)])


def through_integers(chain, made):
    chain.add("Cast", to=6)
    operator, value = made.pick(["Add", "Mul", "Div", "Mod"]), made.pick([1, 2, 3, 4, -2])
    chain.add(operator, [chain.weight(numpy.array(value, numpy.int32))])
    chain.add("Cast", to=1)


def through_flags(chain, made):
    flags = f"v{len(chain.nodes)}"
    chain.nodes.append(helper.make_node(made.pick(["Greater", "Less", "Equal"]), [chain.name, chain.weight(F32(0))], [flags]))
    chain.add("Where", [chain.weight(F32(made.pick([0, 1.5, -2])))], ahead=[flags])


def cumulate(chain, made):
    chain.add("CumSum", [chain.weight(numpy.asarray(made.axis(len(chain.shape)), I64))], reverse=made.randint(0, 1), exclusive=made.randint(0, 1))


def enlarge(chain, made):
    if len(chain.shape) == 4 and max(chain.shape[2:]) <= 6:
        chain.add("Resize", ["", chain.weight(numpy.array([1, 1, 2, 2], F32))], shape=[*chain.shape[:2], *(2 * length for length in chain.shape[2:])], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def by_shape(chain, made):
    """Reshapes by what a graph computes from a shape, as exporters write it."""
    shape, last = f"v{len(chain.nodes)}", f"v{len(chain.nodes) + 1}"
    chain.nodes.append(helper.make_node("Shape", [chain.name], [shape]))
    chain.nodes.append(helper.make_node("Gather", [shape, chain.weight(numpy.array([0], I64))], [last]))
    whole = f"v{len(chain.nodes)}"
    chain.nodes.append(helper.make_node("Concat", [last, chain.weight(numpy.array([-1], I64))], [whole], axis=0))
    chain.add("Reshape", [whole], shape=[chain.shape[0], int(numpy.prod(chain.shape[1:]))])


STEPS = [plain, plain, with_constant, with_constant, with_past, transpose, reshape, axes, part, pick, join, pad, reduce, soft, norm]
STEPS += [product, convolve, convolve, pool, batch_norm, through_integers, through_flags, cumulate, enlarge, by_shape]


@maker("Chain")
def chain(made, operator):
    shape = made.pick([[1, 3, 6, 6], [2, 4, 5, 5], [2, 3, 8], [3, 4], [2, 6, 4], [1, 2, 4, 4]])
    grown = Chain(made, shape)
    for _ in range(made.randint(2, 8)):
        made.pick(STEPS)(grown, made)
    if not grown.nodes:
        plain(grown, made)
    outputs = [grown.name]
    if made.flag(0.3):
        between = made.pick(grown.past[1:])[0]
        outputs += [between] if between not in outputs else []
    x = made.floats(shape)
    return model(grown.nodes, [helper.make_tensor_value_info("x", 1, shape)], outputs, grown.weights, opset=made.pick([18, 20])), [x]
