"""Cases made at random from a seed, judged by onnxruntime and, where the two differ, by the onnx reference too."""

import random
import warnings

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from .case import Case, Unservable, array, difference

F32, F16, F64 = numpy.float32, numpy.float16, numpy.float64
FLOATS = [F32, F32, F32, F32, F16, F64]
SIGNED = [numpy.int8, numpy.int16, numpy.int32, numpy.int64]
UNSIGNED = [numpy.uint8, numpy.uint16, numpy.uint32, numpy.uint64]
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
LATEST = 21

MAKERS: dict = {}


def maker(*operators: str):
    """Registers a function that makes a case of one of these operators."""

    def register(function):
        for operator in operators:
            MAKERS[operator] = function
        return function

    return register


class Const:
    """A value that the model holds."""

    def __init__(self, value):
        self.value = value


class Made(random.Random):
    """Random values, shapes and attributes."""

    def pick(self, values):
        return values[self.randrange(len(values))]

    def flag(self, share: float = 0.5) -> bool:
        return self.random() < share

    def shape(self, low: int = 1, high: int = 4, most: int = 5, empty: float = 0.02) -> list:
        return [0 if self.random() < empty else self.randint(1, most) for _ in range(self.randint(low, high))]

    def fresh(self):
        return numpy.random.default_rng(self.getrandbits(32))

    def floats(self, shape, dtype=F32, low: float = -3.0, high: float = 3.0, odd: float = 0.0):
        """With a share of what is not a plain number."""
        values = self.fresh().uniform(low, high, shape)
        if odd and values.size:
            flat = values.reshape(-1)
            strange = [numpy.nan, numpy.inf, -numpy.inf, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-5, 100.0, -100.0, 0.0]
            for at in range(flat.size):
                if self.random() < odd:
                    flat[at] = self.pick(strange)
        return values.astype(dtype)

    def integers(self, shape, dtype=numpy.int64, low: int = -5, high: int = 5, odd: float = 0.0):
        info = numpy.iinfo(dtype)
        values = self.fresh().integers(max(low, info.min), high, shape, dtype=dtype, endpoint=True)
        values = numpy.asarray(values, dtype)
        if odd and values.size:
            flat = values.reshape(-1)
            for at in range(flat.size):
                if self.random() < odd:
                    flat[at] = self.pick([info.min, info.max, 0, 1])
        return values

    def values(self, shape, dtype, odd: float = 0.0):
        if dtype == bool:
            return self.fresh().integers(0, 2, shape).astype(bool)
        if dtype == object:
            return numpy.array([self.pick(["a", "bc", "", "ü"]) for _ in range(int(numpy.prod(shape)))], object).reshape(shape)
        if numpy.issubdtype(dtype, numpy.floating):
            return self.floats(shape, dtype, odd=odd)
        return self.integers(shape, dtype, odd=odd)

    def maybe(self, value, share: float = 0.5):
        """A weight or an input."""
        return Const(value) if self.flag(share) else value

    def operand(self, value, share: float = 0.3):
        """One of two numbers for each element. Where all weights are alike, an engine may take a short cut."""
        if not self.flag(share):
            return value
        if value.dtype.kind in "fiu" and value.size and self.flag(0.5):
            alike = self.pick([0, 1, 2, 3, 4, 8] + ([-1, -2] if value.dtype.kind != "u" else []) + ([0.5] if value.dtype.kind == "f" else []))
            value = numpy.full_like(value, alike)
        return Const(value)

    def axis(self, rank: int) -> int:
        return self.randrange(-rank, rank) if rank else 0

    def broadcast(self, shape: list) -> list:
        """A shape that broadcasts against this one."""
        other = [1 if self.flag(0.25) else axis for axis in shape]
        return other[self.randint(0, len(shape)) :] if self.flag(0.3) else other


def build(operator, inputs, outputs=1, opset=LATEST, domain="", kinds=None, extra=(), ir=None, **attributes):
    """A model of one node. `inputs`: arrays, `Const`, or `None` for one left out. `outputs`: how many, or names."""
    names = [f"y{at}" for at in range(outputs)] if isinstance(outputs, int) else list(outputs)
    given, ports, weights, wired = [], [], [], []
    for at, value in enumerate(inputs):
        if value is None:
            wired.append("")
            continue
        name = f"x{at}"
        wired.append(name)
        if isinstance(value, Const):
            weights.append(numpy_helper.from_array(numpy.asarray(value.value), name))
            continue
        value = numpy.asarray(value)
        kind = TensorProto.STRING if value.dtype == object else helper.np_dtype_to_tensor_dtype(value.dtype)
        ports.append(helper.make_tensor_value_info(name, kind, value.shape))
        given.append(value)
    while wired and not wired[-1]:
        wired.pop()
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(operator, wired, names, domain=domain, **attributes)
    return model([node, *extra], ports, [name for name in names if name], weights, opset, domain, kinds), given


def model(nodes, ports, outputs, weights, opset=LATEST, domain="", kinds=None):
    if kinds is None:
        made = [onnx.ValueInfoProto(name=name) for name in outputs]
    else:
        made = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(outputs, kinds)]
    graph = helper.make_graph(nodes, "g", ports, made, weights)
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 3 if domain == "ai.onnx.ml" else 1))
    whole = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if kinds is None:
        whole = onnx.shape_inference.infer_shapes(whole)
        for port in whole.graph.output:
            if not port.type.tensor_type.elem_type:
                raise ValueError(f"the type of {port.name} is not known")
            # What is known of the shape is the engine's to find out.
            port.type.tensor_type.ClearField("shape")
    return whole


def by_onnxruntime(whole, given):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {port.name: value for port, value in zip(whole.graph.input, given)})
    return [array(value) for value in outputs]


def by_reference(whole, given):
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), numpy.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outputs = ReferenceEvaluator(whole).run(None, {port.name: value for port, value in zip(whole.graph.input, given)})
    return [array(value) for value in outputs]


def tolerance(operator, given) -> tuple:
    # Scales of blocks are kept in FP16 there.
    if operator == "MatMulNBits":
        return 1e-2, 1e-2
    is_half = any(getattr(value, "dtype", None) == F16 for value in given)
    return (2e-2, 2e-2) if is_half else (1e-3, 1e-4)


def cases(seed: int, each: int, only=None) -> list:
    """`each` cases of each operator that has a maker; the same seed makes the same ones."""
    from . import made_chains, made_contrib, made_math, made_nn, made_recurrent, made_shapes  # noqa: F401

    found = []
    for operator, function in MAKERS.items():
        if only and operator not in only:
            continue
        # What one operator draws must not move the others.
        made = Made(f"{seed}/{operator}")
        for at in range(each):
            try:
                whole, given = function(made, operator)
            except Exception:  # noqa: BLE001
                continue
            expected = None
            for judge in (by_onnxruntime, by_reference):
                try:
                    expected = judge(whole, given)
                    break
                except Exception:  # noqa: BLE001
                    continue
            if expected is None:
                continue
            rtol, atol = tolerance(operator, given)
            case = Case(f"{operator}_{at}", operator, whole.SerializeToString(), given, expected, rtol, atol)
            case.judge = judge.__name__
            found.append(case)
    return found


def second_opinion(case) -> str:
    """What the other judge has against the expected values; empty where it agrees, or knows nothing."""
    whole = onnx.load_from_string(case.model)
    other = by_reference if case.judge == "by_onnxruntime" else by_onnxruntime
    try:
        return difference(other(whole, case.inputs), case.expected, case.rtol, case.atol)
    except Unservable:
        return ""
    except Exception as error:  # noqa: BLE001
        return f"? {type(error).__name__}"
