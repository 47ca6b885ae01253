"""INT8 variants of a network small enough to build by hand. Run with `python -m unittest discover tests`."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from millgate_training.onnx_files import halve, session, widen
from millgate_training.quantise import apart, quantise, some, worth

RNG = np.random.default_rng(1)


def network(path):
    """Two convolutions with a sum and ReLU, a mean and a head: the shape of the real experts. Weights in FP16."""

    def weight(name, *shape):
        return numpy_helper.from_array((RNG.normal(size=shape) / 4).astype(np.float32), name)

    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "first", **conv),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "second", **conv),
        helper.make_node("Add", ["r0", "c1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["fmap"]),
        helper.make_node("ReduceMean", ["fmap"], ["feat"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["feat", "w2", "b2"], ["logits"]),
    ]
    shapes = {"w0": (16, 1, 3, 3), "b0": (16,), "w1": (16, 16, 3, 3), "b1": (16,), "w2": (16, 8), "b2": (8,)}
    weights = [weight(name, *shape) for name, shape in shapes.items()]
    outputs = {"logits": [8], "feat": [16], "fmap": [16, 8, 8]}
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *v]) for k, v in outputs.items()], weights,
    )  # fmt: skip
    halve(graph)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def measured(gain=2.0, before=0.9, after=0.9):
    scores = {"fp32": {"accuracy": before}, "int8": {"accuracy": after}}
    return {"cpu": {"1": {"gain": 3.0}, "8": {"gain": gain}}, "gate and val": scores}


class Rule(unittest.TestCase):
    def test_slow_at_one_batch_is_too_slow(self):
        self.assertTrue(worth(measured(gain=1.15)))
        self.assertFalse(worth(measured(gain=1.14)))

    def test_a_fifth_of_a_point_may_be_lost(self):
        self.assertTrue(worth(measured(after=0.898)))
        self.assertFalse(worth(measured(after=0.897)))


class Variant(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source, self.target = Path(folder.name) / "model.onnx", Path(folder.name) / "model.int8.onnx"
        network(self.source)
        self.feed = {"image": RNG.normal(size=(32, 1, 8, 8)).astype(np.float32)}

    def test_widening_changes_no_answer(self):
        wide = self.target.with_name("wide.onnx")
        onnx.save(widen(self.source), wide)
        self.assertNotIn("Cast", [n.op_type for n in onnx.load(wide).graph.node])
        for a, b in zip(session(self.source).run(None, self.feed), session(wide).run(None, self.feed)):
            np.testing.assert_array_equal(a, b)

    def test_answers_stay_near_and_the_first_layer_and_head_wide(self):
        quantise(self.source, self.target, self.feed)
        nodes = {n.name: n for n in onnx.load(self.target).graph.node}
        self.assertTrue(nodes["second"].input[1].endswith("DequantizeLinear_Output"))
        self.assertFalse(nodes["first"].input[1].endswith("DequantizeLinear_Output"))
        wide, narrow = (session(p).run(["logits"], self.feed)[0] for p in (self.source, self.target))
        self.assertLess(apart(wide, narrow)["logit_difference"], 0.05 * np.abs(wide).max())

    def test_the_same_images_give_the_same_bytes(self):
        quantise(self.source, self.target, self.feed)
        once = self.target.read_bytes()
        quantise(self.source, self.target, self.feed)
        self.assertEqual(once, self.target.read_bytes())

    def test_the_choice_of_images_is_fixed(self):
        columns = {"y": np.arange(100), "templates": None}
        self.assertEqual(some(columns, 10)["y"].tolist(), some(columns, 10)["y"].tolist())
        self.assertEqual(len(some(columns, 200)["y"]), 100)


if __name__ == "__main__":
    unittest.main()
