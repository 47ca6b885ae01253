"""Writes a folder of small ONNX models, in Triton's shape, that a server for any client must cope with."""

import pathlib
import sys

import numpy as np
import onnx
import repositories
import trials
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

RANDOM = np.random.default_rng(7)


def save(root: pathlib.Path, name: str, nodes, inputs, outputs, weights=(), version=1, config=None, external=None,
         domains=()):
    """One model: `inputs` and `outputs` are (name, type, shape) with None or a text for a free axis, or as ONNX has them.
    `external` names the file for the weights, if they are to lie beside it; `domains`: of operations, beside ONNX's own."""
    infos = [[h.make_tensor_value_info(*port) if isinstance(port, tuple) else port for port in ports]
             for ports in (inputs, outputs)]
    tensors = [numpy_helper.from_array(array, key) for key, array in weights]
    graph = h.make_graph(nodes, name, *infos, initializer=tensors, doc_string=f"{name} for tests")
    opsets = [h.make_opsetid("", 17)] + [h.make_opsetid(domain, 3) for domain in domains]
    model = h.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="make_models")
    h.set_model_props(model, {"origin": "tests"})
    onnx.checker.check_model(model)
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    if external:
        data, at = b"", {}
        for tensor in model.graph.initializer:
            at[tensor.name] = (len(data), len(tensor.raw_data))
            data += tensor.raw_data
        (folder / external).write_bytes(data)
        for tensor in model.graph.initializer:
            offset, length = at[tensor.name]
            tensor.ClearField("raw_data")
            tensor.data_location = T.EXTERNAL
            for key, value in (("location", external), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    else:
        onnx.save(model, folder / "model.onnx")
    if config:
        (root / name / "config.pbtxt").write_text(config)


def normal(*shape):
    """Small, so that what is summed up stays near 1 and rounding stays far below the tolerance."""
    return (0.1 * RANDOM.normal(size=shape)).astype(np.float32)


def main(root: pathlib.Path) -> None:
    types = dict(bool=T.BOOL, uint8=T.UINT8, uint16=T.UINT16, uint32=T.UINT32, uint64=T.UINT64, int8=T.INT8,
                 int16=T.INT16, int32=T.INT32, int64=T.INT64, fp16=T.FLOAT16, fp32=T.FLOAT, fp64=T.DOUBLE,
                 string=T.STRING)
    for name, kind in types.items():
        node = h.make_node("Identity", ["x"], ["y"])
        save(root, f"identity-{name}", [node], [("x", kind, ["N", 3])], [("y", kind, ["N", 3])])
    save(root, "add-sub", [h.make_node("Add", ["a", "b"], ["sum"]), h.make_node("Sub", ["a", "b"], ["difference"])],
         [("a", T.FLOAT, ["N", 4]), ("b", T.FLOAT, ["N", 4])],
         [("sum", T.FLOAT, ["N", 4]), ("difference", T.FLOAT, ["N", 4])])
    dense = [h.make_node("Gemm", ["x", "w1", "b1"], ["h"]), h.make_node("Relu", ["h"], ["r"]),
             h.make_node("Gemm", ["r", "w2", "b2"], ["y"])]
    weights = [("w1", normal(64, 256)), ("b1", normal(256)), ("w2", normal(256, 8)), ("b2", normal(8))]
    ports = [("x", T.FLOAT, ["N", 64])], [("y", T.FLOAT, ["N", 8])]
    save(root, "dense", dense, *ports, weights)
    save(root, "model-with.dots", dense, *ports, weights)
    config = 'max_batch_size: 8\ninput [{ name: "x" data_type: TYPE_FP32 dims: [64] }]\n' \
             'output [{ name: "y" data_type: TYPE_FP32 dims: [8] }]\n' \
             'dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 500 }\n'
    save(root, "configured", dense, *ports, weights, config=config)
    config = 'max_batch_size: 0\noutput [{ name: "y" data_type: TYPE_FP32 dims: [-1, 8] label_filename: "labels.txt" }]\n'
    save(root, "labelled", dense, *ports, weights, config=config)
    (root / "labelled" / "labels.txt").write_text("cat\na dog: big\n\n")
    save(root, "image", [h.make_node("GlobalAveragePool", ["x"], ["g"]), h.make_node("Flatten", ["g"], ["y"])],
         [("x", T.FLOAT, ["N", 3, 640, 640])], [("y", T.FLOAT, ["N", 3])])
    conv = [h.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]), h.make_node("Relu", ["c"], ["r"]),
            h.make_node("GlobalAveragePool", ["r"], ["g"]), h.make_node("Flatten", ["g"], ["y"])]
    for name, first in (("conv", "N"), ("conv-one", 1)):
        save(root, name, conv, [("x", T.FLOAT, [first, 3, 32, 32])], [("y", T.FLOAT, [first, 16])],
             [("k", normal(16, 3, 3, 3))])
    save(root, "free-axes", [h.make_node("Softmax", ["x"], ["y"], axis=1)],
         [("x", T.FLOAT, ["N", "M"])], [("y", T.FLOAT, ["N", "M"])])
    save(root, "across-rows", [h.make_node("Softmax", ["x"], ["y"], axis=0)],
         [("x", T.FLOAT, ["N", 3])], [("y", T.FLOAT, ["N", 3])])
    # An index that is out of range is an error in the run: the poison of these tests.
    save(root, "tokens", [h.make_node("Gather", ["table", "ids"], ["e"]),
                          h.make_node("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0)],
         [("ids", T.INT64, ["N", 6])], [("y", T.FLOAT, ["N", 5])], [("table", normal(10, 5))])
    save(root, "no-batch", [h.make_node("MatMul", ["x", "w"], ["y"])], [("x", T.FLOAT, [3, 4])],
         [("y", T.FLOAT, [3, 2])], [("w", normal(4, 2))])
    save(root, "scalar", [h.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", T.FLOAT, [3, 4])], [("y", T.FLOAT, [])])
    for version in (1, 2):
        save(root, "versions", [h.make_node("Mul", ["x", "by"], ["y"])], [("x", T.FLOAT, ["N", 2])],
             [("y", T.FLOAT, ["N", 2])], [("by", np.float32([version]))], version=version)
    # Recurrent, with the steps first and with the samples first; both go on from zeros at each run.
    steps = [h.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)]
    memory = [("w", normal(1, 20, 4)), ("r", normal(1, 20, 5))]
    save(root, "recurrent", steps, [("x", T.FLOAT, ["S", "N", 4])], [("y", T.FLOAT, ["S", 1, "N", 5])], memory)
    turned = [h.make_node("Transpose", ["a"], ["x"], perm=[1, 0, 2]), *steps,
              h.make_node("Transpose", ["y"], ["b"], perm=[2, 1, 0, 3])]
    save(root, "recurrent-rows", turned, [("a", T.FLOAT, ["N", 6, 4])], [("b", T.FLOAT, ["N", 1, 6, 5])], memory)
    repositories.make(root)
    trials.make(root, save)
    save(root, "external", dense, *ports, weights, external="weights.bin")
    save(root, "external-outside", dense, *ports, weights, external="../../outside.bin")
    # What only ONNX Runtime can do.
    save(root, "bf16", [h.make_node("Cast", ["x"], ["f"], to=T.FLOAT), h.make_node("Add", ["f", "f"], ["y"]),
                        h.make_node("Identity", ["x"], ["same"])],
         [("x", T.BFLOAT16, ["N", 3])], [("y", T.FLOAT, ["N", 3]), ("same", T.BFLOAT16, ["N", 3])])
    save(root, "determinant", [h.make_node("Det", ["x"], ["y"])], [("x", T.FLOAT, ["N", 2, 2])], [("y", T.FLOAT, ["N"])])
    wishes = 'parameters { key: "engine" value { string_value: "tract" } }\nmax_batch_size: 8\n'
    save(root, "wishes-tract", dense, *ports, weights, config=wishes)
    sequence = h.make_graph([h.make_node("SequenceAt", ["s", "i"], ["y"])], "sequence",
                            [h.make_tensor_sequence_value_info("s", T.FLOAT, None),
                             h.make_tensor_value_info("i", T.INT64, [])],
                            [h.make_tensor_value_info("y", T.FLOAT, None)])
    (root / "sequence" / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(h.make_model(sequence, opset_imports=[h.make_opsetid("", 17)], ir_version=8),
              root / "sequence" / "1" / "model.onnx")
    (root / "broken" / "1").mkdir(parents=True, exist_ok=True)
    (root / "broken" / "1" / "model.onnx").write_bytes(b"this is no model")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
