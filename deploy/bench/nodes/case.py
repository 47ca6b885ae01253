"""A case: one model, what goes in and what must come out."""

import dataclasses

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

# The protocol's name of each element type; what is missing here cannot be asked for over it.
DATATYPES = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
NUMPY = {DATATYPES[kind]: helper.tensor_dtype_to_np_dtype(kind) for kind in DATATYPES}


@dataclasses.dataclass
class Case:
    """`inputs` and `expected` are in the model's order; `None` where there is no value to send."""

    name: str
    family: str
    model: bytes
    inputs: list
    expected: list
    rtol: float = 1e-3
    atol: float = 1e-7
    # Filled in by whoever runs it.
    outcome: str = ""
    detail: str = ""


class Unservable(Exception):
    """The protocol has no word for one of the case's values."""


def array(value) -> numpy.ndarray:
    """A value as the onnx runner compares it."""
    if value is None or isinstance(value, (list, tuple, dict)):
        raise Unservable("not a tensor")
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return numpy.asarray(value)


def datatype(of: numpy.ndarray) -> str:
    if of.dtype == object or of.dtype.kind in "SU":
        return "BYTES"
    try:
        kind = helper.np_dtype_to_tensor_dtype(of.dtype)
    except (KeyError, ValueError) as error:
        raise Unservable(f"element type {of.dtype}") from error
    if kind not in DATATYPES:
        raise Unservable(f"element type {of.dtype}")
    return DATATYPES[kind]


def to_raw(of: numpy.ndarray) -> bytes:
    if datatype(of) != "BYTES":
        return numpy.ascontiguousarray(of).tobytes()
    parts = []
    for text in of.reshape(-1):
        encoded = text if isinstance(text, bytes) else str(text).encode()
        parts.append(len(encoded).to_bytes(4, "little") + encoded)
    return b"".join(parts)


def from_raw(raw: bytes, name: str, shape) -> numpy.ndarray:
    if name != "BYTES":
        return numpy.frombuffer(raw, NUMPY[name]).reshape(shape)
    texts, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        texts.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return numpy.array(texts, object).reshape(shape)


def input_names(model: onnx.ModelProto) -> list:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [port.name for port in model.graph.input if port.name not in weights]


def judge(case, found) -> None:
    """Sets the case's outcome: right; right but for rounding, where the package's own bounds leave less than engines differ
    by; or WRONG."""
    case.detail = difference(case.expected, found, case.rtol, case.atol)
    case.outcome = "WRONG" if case.detail else "right"
    if not case.detail:
        return
    largest = 0.0
    for value in case.expected:
        if value.dtype.kind == "f" and value.size:
            finite = numpy.abs(value[numpy.isfinite(value)].astype(numpy.float64))
            largest = max(largest, float(finite.max(initial=0.0)))
    is_half = any(value.dtype == numpy.float16 for value in [*case.inputs, *case.expected])
    rtol, atol = (5e-3, 2e-3) if is_half else (1e-3, 1e-5)
    # A sum is as exact as its largest parts.
    atol = max(atol, case.atol, (1e-3 if is_half else 1e-6) * largest)
    # A quotient that lies at a tie is rounded up or down by its last bit: tract multiplies by the scale's reciprocal.
    step = 1 if any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(case.model).graph.node) else 0
    if not difference(case.expected, found, max(rtol, case.rtol), atol, step):
        case.outcome = "rounding"


def difference(expected, found, rtol: float, atol: float, step: int = 0) -> str:
    """Why `found` is not `expected`, by the rules of the onnx runner; empty where it is. `step`: how far 8-bit numbers may be
    off."""
    if len(expected) != len(found):
        return f"{len(found)} outputs, not {len(expected)}"
    for at, (want, got) in enumerate(zip(expected, found)):
        if want.shape != got.shape:
            return f"output {at} has shape {got.shape}, not {want.shape}"
        if datatype(want) != datatype(got):
            return f"output {at} is {datatype(got)}, not {datatype(want)}"
        if datatype(want) == "BYTES":
            text = lambda value: value.decode() if isinstance(value, bytes) else str(value)  # noqa: E731
            if [text(value) for value in want.reshape(-1)] != [text(value) for value in got.reshape(-1)]:
                return f"output {at} holds other texts"
            continue
        if step and want.dtype.kind in "iu" and want.dtype.itemsize == 1:
            if (abs(want.astype(int) - got.astype(int)) <= step).all():
                continue
        relative = max(rtol, 2**-6) if want.dtype.name == "bfloat16" else rtol
        if want.dtype.name == "bfloat16":
            want, got = want.astype(numpy.float32), got.astype(numpy.float32)
        with numpy.errstate(all="ignore"):
            if numpy.allclose(got, want, rtol=relative, atol=atol, equal_nan=True):
                continue
            wide = lambda values: values.astype(numpy.float64)  # noqa: E731
            off = ~numpy.isclose(wide(got), wide(want), rtol=relative, atol=atol, equal_nan=True)
        if not off.any():
            continue
        where = tuple(int(axis) for axis in numpy.argwhere(off)[0]) if off.ndim else ()
        return f"output {at}: {int(off.sum())} of {off.size} differ, first at {where}: {got[where]} for {want[where]}"
    return ""
