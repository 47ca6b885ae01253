"""Banks, p-values and the outputs that are added to graphs."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from millgate_training import novelty, products
from millgate_training.certify import certify


def test_statistics_of_a_made_up_picture():
    y, x = np.mgrid[:64, :64]
    found = novelty.statistics(np.array([x * 2 + y], np.uint8)[None][0])[0]
    assert found.shape == (19,)
    assert abs(found[3] * 255 - np.median(x * 2 + y)) < 1e-9
    assert np.allclose(found[7:9] * 255, [2, 1])
    assert np.allclose(found[10:12] * 255, [4, 2])  # a pixel of the half is two of the whole apart


def test_the_p_value_counts_what_is_as_odd_or_odder():
    calibration = np.array([1, 2, 2, 3], np.float32)
    assert novelty.p_value(calibration, np.array([0.5, 2.0, 2.5, 9.0])).tolist() == [1, 4 / 5, 2 / 5, 1 / 5]
    assert novelty.together([np.array([0.01, 0.9]), np.array([0.5, 0.8])]).tolist() == [0.02, 1]


def test_a_bank_calls_as_many_known_samples_unknown_as_it_may():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1200, 6))
    bank = novelty.Bank.of(x[:400], [4, 2])
    bank.calibrate(bank.distances(x[400:800], 5))
    assert np.mean(bank.p(x[800:], 5) <= 0.05) < 0.09
    assert np.all(bank.p(x[800:] + 20, 5) <= 0.05)
    plain = np.sort(np.linalg.norm(x[900] / bank.scale - x[:400] / bank.scale, axis=1))[4]
    assert abs(bank.distances(x[900:901], 5)[0] - plain) < 0.02 * plain


def graph():
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    out = helper.make_tensor_value_info("fmap", TensorProto.FLOAT, ["N", 3, 8, 8])
    kernel = numpy_helper.from_array(np.random.default_rng(1).normal(size=(3, 1, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["fmap"])]
    return helper.make_model(helper.make_graph(nodes, "g", [image], [out], [kernel]), opset_imports=[helper.make_opsetid("", 17)])


def test_pools_are_added_and_nothing_is_changed():
    import onnxruntime as ort

    model = graph()
    assert novelty.add_pools(model.graph, 0) == 9
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(2).normal(size=(2, 1, 8, 8)).astype(np.float32)
    before = ort.InferenceSession(graph().SerializeToString()).run(None, {"image": x})[0]
    after, nov = ort.InferenceSession(model.SerializeToString()).run(None, {"image": x})
    assert np.array_equal(before, after)
    assert np.allclose(nov, np.concatenate([after.mean((2, 3)), after.max((2, 3)), after.std((2, 3))], 1), atol=1e-5)


def test_bounds_keep_known_pictures_and_refuse_blank_ones():
    images = np.random.default_rng(4).integers(60, 180, (20, 16, 16)).astype(np.uint8)
    checks = products.bounds(images, "image")
    assert not products.refused_by(checks, images).any()
    blank = np.stack([np.zeros((16, 16)), np.full((16, 16), 255), np.full((16, 16), 120)]).astype(np.uint8)
    assert products.refused_by(checks, blank).all()


def test_a_certificate_that_the_samples_do_not_bear_is_not_given():
    assert certify(np.linspace(0, 1, 30), np.zeros(30, bool), 0.02) is None
