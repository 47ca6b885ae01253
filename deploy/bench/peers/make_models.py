"""Writes the ONNX files that every server is given, and what each peer wants beside them.

    python make_models.py --bundle models/factory --out DIR --instances N --batch-time SECONDS

DIR gets `onnx/` (plain Triton-shaped repository: Millgate, bare engines), `triton/` (the same files behind the Python
backend) and `mlserver/`. Three models are the factory bundle's, three are made here from fixed seeds.
"""

import argparse
import json
import os
import pathlib
import shutil

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
# Ours -> the bundle's.
FROM_BUNDLE = {"image-small": "pcb-s", "image-large": "pcb-l", "gate": "gate"}
LARGEST_BATCH = 32
TYPES = {T.FLOAT: "FP32", T.INT64: "INT64"}


class Graph:
    """Nodes and weights under construction; each method returns the name of what it adds."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, *shape, scale=None):
        scale = scale or 1.0 / np.sqrt(shape[0])
        return self.constant((scale * self.random.normal(size=shape)).astype(np.float32))

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *inputs, out=None, **attributes):
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(h.make_node(op, list(inputs), [out], **attributes))
        return out

    def dense(self, x, inner, outer, out=None):
        return self.add("Add", self.add("MatMul", x, self.weight(inner, outer)), self.weight(outer, scale=0.1), out=out)

    def norm(self, x, width):
        ones, zeros = (self.constant(np.full(width, value, np.float32)) for value in (1, 0))
        return self.add("LayerNormalization", x, ones, zeros, axis=-1)

    def model(self, name, inputs, outputs):
        infos = [[h.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
        graph = h.make_graph(self.nodes, name, *infos, initializer=self.weights)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="make_models")
        onnx.checker.check_model(model)
        return model


def dense():
    """Two Gemm, 17 MB: bound by reading its weights, so that rows together cost little more than one."""
    g = Graph(1)
    hidden = g.add("Relu", g.add("Gemm", "x", g.weight(512, 4096), g.weight(4096, scale=0.1)))
    g.add("Gemm", hidden, g.weight(4096, 512), g.weight(512, scale=0.1), out="y")
    return g.model("dense", [("x", T.FLOAT, ["N", 512])], [("y", T.FLOAT, ["N", 512])])


def series():
    """1-D convolutions over 512 steps of 12 sensors."""
    g = Graph(2)
    x = "x"
    for channels_in, channels, width, stride in ((12, 64, 7, 2), (64, 96, 5, 2), (96, 128, 3, 2), (128, 128, 3, 1)):
        kernel = g.weight(channels, channels_in, width, scale=1.0 / np.sqrt(channels_in * width))
        x = g.add("Conv", x, kernel, g.weight(channels, scale=0.1), strides=[stride], pads=[width // 2] * 2)
        x = g.add("Relu", x)
    pooled = g.add("Flatten", g.add("GlobalAveragePool", x))
    g.add("Gemm", pooled, g.weight(128, 8), g.weight(8, scale=0.1), out="y")
    return g.model("series", [("x", T.FLOAT, ["N", 12, 512])], [("y", T.FLOAT, ["N", 8])])


def text():
    """A transformer: 32 tokens of a vocabulary of 8192, two layers, width 256."""
    tokens, width, heads, layers = 32, 256, 4, 2
    g = Graph(3)
    x = g.add("Gather", g.weight(8192, width, scale=1.0), "ids")
    x = g.add("Add", x, g.weight(tokens, width, scale=0.1))
    apart = g.constant(np.int64([0, tokens, heads, width // heads]))
    together = g.constant(np.int64([0, tokens, width]))
    shrink = g.constant(np.float32(1 / np.sqrt(width // heads)))
    for _ in range(layers):
        n = g.norm(x, width)
        q, k, v = (g.add("Reshape", g.dense(n, width, width), apart) for _ in range(3))
        q, v = (g.add("Transpose", side, perm=[0, 2, 1, 3]) for side in (q, v))
        k = g.add("Transpose", k, perm=[0, 2, 3, 1])
        weights = g.add("Softmax", g.add("Mul", g.add("MatMul", q, k), shrink), axis=-1)
        mixed = g.add("Transpose", g.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = g.add("Add", x, g.dense(g.add("Reshape", mixed, together), width, width))
        inner = g.add("Relu", g.dense(g.norm(x, width), width, 4 * width))
        x = g.add("Add", x, g.dense(inner, 4 * width, width))
    pooled = g.add("ReduceMean", g.norm(x, width), axes=[1], keepdims=0)
    g.dense(pooled, width, 16, out="y")
    return g.model("text", [("ids", T.INT64, ["N", tokens])], [("y", T.FLOAT, ["N", 16])])


def ports(values):
    """(name, datatype, axes after the rows) of each."""
    kinds = [(value.name, value.type.tensor_type) for value in values]
    return [(name, TYPES[kind.elem_type], [axis.dim_value for axis in kind.shape.dim][1:]) for name, kind in kinds]


def for_triton(folder, inputs, outputs, instances):
    """The dynamic batcher at its own settings: no delay, whatever waits goes together."""
    (folder / "1").mkdir(parents=True)
    shutil.copy(HERE / "triton_model.py", folder / "1" / "model.py")
    shutil.copy(HERE / "sessions.py", folder / "1")

    def list_of(kind, of):
        lines = (f'  {{ name: "{name}" data_type: TYPE_{kind} dims: {axes} }}' for name, kind, axes in of)
        return f"{kind} [\n" + ",\n".join(lines) + "\n]\n"

    (folder / "config.pbtxt").write_text(
        f'name: "{folder.name}"\nbackend: "python"\nmax_batch_size: {LARGEST_BATCH}\n'
        + list_of("input", inputs) + list_of("output", outputs)
        + f"instance_group [{{ count: {instances} kind: KIND_CPU }}]\ndynamic_batching {{ }}\n")


def for_mlserver(folder, inputs, outputs, batch_time):
    folder.mkdir(parents=True)
    tensor = lambda port: {"name": port[0], "datatype": port[1], "shape": [-1, *port[2]]}
    settings = {
        "name": folder.name,
        "implementation": "mlserver_runtime.OnnxRuntime",
        "max_batch_size": LARGEST_BATCH,
        "max_batch_time": batch_time,
        "inputs": [tensor(port) for port in inputs],
        "outputs": [tensor(port) for port in outputs],
        "parameters": {"uri": "./model.onnx", "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings, indent=1))


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--bundle", type=pathlib.Path, required=True)
    flags.add_argument("--out", type=pathlib.Path, required=True)
    flags.add_argument("--instances", type=int, required=True)
    flags.add_argument("--batch-time", type=float, required=True)
    flags = flags.parse_args()
    shutil.rmtree(flags.out, ignore_errors=True)
    made = {"dense": dense, "series": series, "text": text}
    for name in [*FROM_BUNDLE, *made]:
        path = flags.out / "onnx" / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        if name in made:
            onnx.save(made[name](), path)
        else:
            shutil.copy(flags.bundle / FROM_BUNDLE[name] / "1" / "model.onnx", path)
        graph = onnx.load(path).graph
        inputs, outputs = ports(graph.input), ports(graph.output)
        for_triton(flags.out / "triton" / name, inputs, outputs, flags.instances)
        for_mlserver(flags.out / "mlserver" / name, inputs, outputs, flags.batch_time)
        # One file, whichever server reads it.
        for copy in ("triton/{}/1", "mlserver/{}"):
            os.link(path, flags.out / copy.format(name) / "model.onnx")


if __name__ == "__main__":
    main()
