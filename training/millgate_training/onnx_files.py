"""ONNX files: run on one thread, and their weights stored in half and read back."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 64  # tensors below this many numbers stay FP32


def session(path):
    import onnxruntime as ort  # not needed for the rest

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def halve(graph):
    """Stores weights as FP16 with a Cast behind each; the arithmetic stays FP32."""
    casts = []
    for i, weight in enumerate(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < SMALLEST:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name + ".f16")
        casts.append(helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
        graph.initializer[i].CopyFrom(half)
    for node in reversed(casts):
        graph.node.insert(0, node)


def widen(path):
    """The model with FP32 weights: undoes `halve`, since the quantiser looks for weights and not for a Cast."""
    model = onnx.load(path)
    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Cast" and n.input[0] in weights]:
        half = weights[node.input[0]]
        assert half.data_type == TensorProto.FLOAT16
        half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float32), node.output[0]))
        graph.node.remove(node)
    return model
