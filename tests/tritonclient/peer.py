"""What the checks share: the server that is asked, onnxruntime's answer to the same, and how the two are compared."""

import pathlib

import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

RANDOM = np.random.default_rng(11)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Peer:
    def __init__(self, grpc: str, http: str, models: pathlib.Path, metrics: str, engine: str):
        self.address, self.http_address, self.models, self.metrics, self.engine = grpc, http, models, metrics, engine
        self.grpc = tritonclient.grpc.InferenceServerClient(grpc)
        self.http = tritonclient.http.InferenceServerClient(http, concurrency=8)

    def reference(self, name: str, version: int = 1) -> onnxruntime.InferenceSession:
        path = self.models / name / str(version) / "model.onnx"
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def infer(self, name, arrays, **more):
        return self.grpc.infer(name, grpc_tensors(arrays), **more)

    def agrees(self, name, arrays, version=1, **more):
        result = self.infer(name, arrays, **more)
        same(result, self.reference(name, version), arrays)
        return result


DTYPES = {"bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
          "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
          "object": "BYTES"}


def grpc_tensors(arrays):
    made = []
    for name, array in arrays.items():
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), DTYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def http_tensors(arrays, binary=True):
    made = []
    for name, array in arrays.items():
        tensor = tritonclient.http.InferInput(name, list(array.shape), DTYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


def same(result, session, arrays):
    names = [output.name for output in session.get_outputs()]
    for name, expected in zip(names, session.run(names, arrays)):
        got = result.as_numpy(name)
        assert got is not None, f"no output {name}"
        expected = np.asarray(expected)
        assert got.shape == expected.shape, f"{name}: {got.shape}, not {expected.shape}"
        if expected.dtype == object:
            text = [value.decode() if isinstance(value, bytes) else value for value in got.flatten()]
            assert text == list(expected.flatten())
        elif expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(got, expected)


def classes(got, values, count, labels=()):
    """`got` are the best of each row of `values`, as Triton writes them."""
    rows = np.asarray(values).reshape(len(values), -1)
    count = min(count, rows.shape[1])
    assert got.shape == (len(rows), count), got.shape
    for texts, row in zip(got, rows):
        for text, index in zip(texts, np.argsort(-row, kind="stable")):
            value, at, *label = (text.decode() if isinstance(text, bytes) else text).split(":", 2)
            assert abs(float(value) - row[index]) < 2e-5 and int(at) == index, (text, index, row)
            assert label == ([labels[index]] if index < len(labels) else []), text


def refused(call, *words, code=None):
    try:
        call()
    except InferenceServerException as error:
        text = str(error)
        for word in words:
            assert word in text, f"{word!r} is not in {text!r}"
        assert code is None or str(code) in str(error.status()), f"{error.status()}, not {code}: {text}"
        return
    raise AssertionError("it was not refused")


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)
