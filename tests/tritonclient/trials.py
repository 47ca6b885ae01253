"""Models that a made-up input does not fit, requests whose inputs are not as many rows, and what scikit-learn exports: the
models, and the checks that `suite.py` runs on them."""

import pathlib
import threading
import urllib.request

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from peer import Peer, normal, refused
from tritonclient import grpc as client
from tritonclient.utils import InferenceServerException

ML = "ai.onnx.ml"
REMEDY = "serve it with ONNX Runtime: `millgate-cloud engine install"
CLASSES = ["crack", "good", "rust"]
WEIGHTS = np.float32([[0.5, -1.0, 0.25, 2.0], [-0.75, 0.5, 1.0, -0.5], [0.1, 0.2, -0.3, 0.4]])


def learned(operation, inputs, outputs, **attributes):
    return h.make_node(operation, inputs, outputs, domain=ML, **attributes)


def trees(kind, **leaves):
    """Two of one cut each: on the first feature at 0, on the third at 0.5."""
    return dict(nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 2, 0, 0],
                nodes_values=[0.0, 0.0, 0.0, 0.5, 0.0, 0.0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
                nodes_truenodeids=[1, 0, 0, 1, 0, 0], nodes_falsenodeids=[2, 0, 0, 2, 0, 0],
                **{f"{kind}_treeids": [0, 0, 1, 1], f"{kind}_nodeids": [1, 2, 1, 2]}, **leaves)


def make(root: pathlib.Path, save) -> None:
    """Beside the models of `make_models.py`, which gives its `save`."""
    x, y = ("x", T.FLOAT, ["N", 4]), ("y", T.FLOAT, ["N", 4])
    # What is made up must not be 0, must be a shape, or is none of what anyone would think of.
    pair = [("a", T.INT64, ["N", 3]), ("b", T.INT64, ["N", 3])]
    save(root, "divide", [h.make_node("Div", ["a", "b"], ["c"])], pair, [("c", T.INT64, ["N", 3])])
    save(root, "shaped", [h.make_node("Reshape", ["x", "shape"], ["y"])],
         [("x", T.FLOAT, [2, 6]), ("shape", T.INT64, [3])], [("y", T.FLOAT, [None, None, None])])
    picky = [h.make_node("Sub", ["ids", "base"], ["at"]), h.make_node("Gather", ["table", "at"], ["y"])]
    ports, weights = ([("ids", T.INT64, ["N", 2])], [("y", T.FLOAT, ["N", 2, 3])]), \
        [("base", np.int64([1000])), ("table", normal(5, 3))]
    save(root, "picky", picky, *ports, weights)
    warm = 'model_warmup [{ name: "sample" batch_size: 2 inputs { key: "ids" value { data_type: TYPE_INT64 dims: [2] ' \
           'input_data_file: "ids" } } }]\nmax_batch_size: 16\n'
    save(root, "picky-warm", picky, *ports, weights, config=warm)
    (root / "picky-warm" / "warmup").mkdir(exist_ok=True)
    (root / "picky-warm" / "warmup" / "ids").write_bytes(np.int64([1000, 1001, 1004, 1002]).tobytes())
    # Rows that are not one another's.
    save(root, "two-sides", [h.make_node("Add", ["a", "a"], ["c"]), h.make_node("Mul", ["b", "b"], ["d"])],
         [("a", T.FLOAT, ["N", 4]), ("b", T.FLOAT, ["M", 4])], [("c", T.FLOAT, ["N", 4]), ("d", T.FLOAT, ["M", 4])])
    save(root, "one-after-the-other", [h.make_node("Concat", ["a", "b"], ["c"], axis=0)],
         [("a", T.FLOAT, ["N", 4]), ("b", T.FLOAT, ["M", 4])], [("c", T.FLOAT, ["K", 4])])
    # What scikit-learn exports.
    scaled = learned("Scaler", ["x"], ["s"], offset=[0.1, 0.2, 0.3, 0.4], scale=[1.0, 2.0, 0.5, 1.5])
    save(root, "scaler", [scaled, h.make_node("Identity", ["s"], ["y"])], [x], [y], domains=[ML])
    linear = dict(coefficients=WEIGHTS.flatten().tolist(), intercepts=[0.1, -0.2, 0.0], multi_class=0,
                  post_transform="SOFTMAX")
    for name, labels in (("classifier", dict(classlabels_strings=CLASSES)), ("classifier-numbers", dict(classlabels_ints=[3, 5, 9]))):
        zipped = {key.replace("_ints", "_int64s"): value for key, value in labels.items()}
        kind = T.STRING if "classlabels_strings" in labels else T.INT64
        nodes = [scaled, learned("LinearClassifier", ["s"], ["label", "probabilities"], **labels, **linear),
                 h.make_node("Identity", ["label"], ["output_label"]),
                 learned("ZipMap", ["probabilities"], ["output_probability"], **zipped)]
        maps = h.make_value_info("output_probability", h.make_sequence_type_proto(
            h.make_map_type_proto(kind, h.make_tensor_type_proto(T.FLOAT, []))))
        save(root, name, nodes, [x], [("output_label", kind, ["N"]), maps], domains=[ML])
    votes = trees("class", class_ids=[0, 1, 1, 2], class_weights=[1.0, 1.0, 0.5, 0.5])
    forest = learned("TreeEnsembleClassifier", ["x"], ["label", "scores"], classlabels_int64s=[0, 1, 2],
                     post_transform="NONE", **votes)
    save(root, "forest", [forest], [x], [("label", T.INT64, ["N"]), ("scores", T.FLOAT, ["N", 3])], domains=[ML])
    sums = trees("target", target_ids=[0] * 4, target_weights=[1.0, -2.0, 4.0, 8.0])
    save(root, "forest-regression", [learned("TreeEnsembleRegressor", ["x"], ["y"], n_targets=1, **sums)], [x],
         [("y", T.FLOAT, ["N", 1])], domains=[ML])
    svm = dict(coefficients=[0.5, -1.5, 1.0], kernel_params=[0.25, 0.0, 3.0], kernel_type="RBF", n_supports=3,
               post_transform="NONE", rho=[0.125], support_vectors=WEIGHTS.flatten().tolist())
    save(root, "svm", [learned("SVMRegressor", ["x"], ["y"], **svm)], [x], [("y", T.FLOAT, ["N", 1])], domains=[ML])
    hot = learned("OneHotEncoder", ["c"], ["h"], cats_strings=["a", "b", "c"], zeros=1)
    save(root, "texts-hot", [hot], [("c", T.STRING, ["N", 1])], [("h", T.FLOAT, ["N", 1, 3])], domains=[ML])


def index(peer: Peer) -> dict:
    return {model.name: model for model in peer.grpc.get_model_repository_index().models}


def parameters(peer: Peer, name: str) -> dict:
    return {key: value.string_value for key, value in peer.grpc.get_model_config(name).config.parameters.items()}


def a_divisor_is_made_up_that_is_not_0(peer):
    a, b = np.int64([[7, -9, 4], [1, 0, 100]]), np.int64([[2, 2, -3], [5, 1, 7]])
    peer.agrees("divide", {"a": abs(a), "b": abs(b)})
    assert parameters(peer, "divide")["rows_are_independent"] == "true"
    assert index(peer)["divide"].reason == ""


def a_shape_may_come_with_the_request(peer):
    if peer.engine == "tract":
        return
    for shape in ([2, 3, 2], [12, 1, 1], [-1, 2, 2]):
        peer.agrees("shaped", {"x": normal(2, 6), "shape": np.int64(shape)})
    assert parameters(peer, "shaped")["rows_are_independent"] == "false"


def what_no_made_up_input_fits_is_served_unproven_and_never_batched(peer):
    listed = index(peer)["picky"]
    assert listed.state == "READY" and "unproven" in listed.reason and "never batched" in listed.reason, listed
    assert parameters(peer, "picky")["unproven"] and parameters(peer, "picky")["rows_are_independent"] == "false"
    ids = [np.int64([[1000 + at % 5, 1004]]) for at in range(24)]
    failed = []

    def ask(ids):
        try:
            result = Peer(peer.address, peer.http_address, peer.models, peer.metrics, peer.engine).agrees("picky", {"ids": ids})
            assert result.get_response().parameters["batch"].int64_param == 1
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=ask, args=[of]) for of in ids]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed, failed[0]
    # Some rows in one request are one computation, as they came.
    peer.agrees("picky", {"ids": np.concatenate(ids)})
    statistics = peer.grpc.get_inference_statistics("picky").model_stats[0]
    assert [of.batch_size for of in statistics.batch_stats] == [1], statistics
    # That it answers changes nothing of what is known of it.
    assert "unproven" in index(peer)["picky"].reason
    refused(lambda: peer.infer("picky", {"ids": np.int64([[0, 1]])}), "picky")
    if peer.metrics:
        page = urllib.request.urlopen(f"http://{peer.metrics}/metrics").read().decode()
        assert 'millgate_model_unproven{model="picky",version="1"} 1' in page
        assert 'millgate_model_unproven{model="picky-warm",version="1"} 0' in page


def what_its_configuration_brings_proves_it(peer):
    assert index(peer)["picky-warm"].reason == "", index(peer)["picky-warm"]
    assert parameters(peer, "picky-warm")["rows_are_independent"] == "true"
    peer.agrees("picky-warm", {"ids": np.int64([[1000, 1004], [1003, 1001], [1002, 1002]])})


def inputs_need_not_have_as_many_rows_as_each_other(peer):
    for rows in ((2, 3), (1, 4), (5, 1), (3, 3)):
        a, b = normal(rows[0], 4), normal(rows[1], 4)
        peer.agrees("two-sides", {"a": a, "b": b})
        peer.agrees("one-after-the-other", {"a": a, "b": b})
    # One row for all, as broadcasting has it; and two that do not go together, by name.
    refused(lambda: peer.infer("add-sub", {"a": normal(2, 4), "b": normal(3, 4)}), "`N`", code="INVALID_ARGUMENT")


def no_rows_give_no_rows(peer):
    for name, inputs, output in (("dense", {"x": (0, 64)}, (0, 8)), ("add-sub", {"a": (0, 4), "b": (0, 4)}, (0, 4)),
                                 ("identity-fp32", {"x": (0, 3)}, (0, 3))):
        arrays = {key: np.zeros(shape, np.float32) for key, shape in inputs.items()}
        try:
            result = peer.infer(name, arrays)
        except InferenceServerException as error:
            # Where the engine cannot, it says so.
            assert "INVALID_ARGUMENT" in str(error.status()) and "have no rows" in str(error), error
            continue
        for port in peer.reference(name).get_outputs():
            assert result.as_numpy(port.name).shape == output, (name, result.as_numpy(port.name).shape)
        peer.agrees(name, {key: normal(2, *shape[1:]) for key, shape in inputs.items()})
    if peer.engine == "onnxruntime":
        assert peer.infer("dense", {"x": np.zeros((0, 64), np.float32)}).as_numpy("y").shape == (0, 8)


def is_served(peer, name):
    """On ONNX Runtime always; elsewhere the reason says what would serve it."""
    listed = index(peer)[name]
    if listed.state == "READY":
        return True
    assert peer.engine == "tract" and REMEDY in listed.reason, listed
    return False


def what_scikit_learn_exports_is_served_or_says_by_what_it_would_be(peer):
    assert is_served(peer, "scaler") == (peer.engine != "tract")
    for name in ("scaler", "forest", "forest-regression", "svm"):
        if is_served(peer, name):
            for rows in (1, 5, 33):
                peer.agrees(name, {"x": normal(rows, 4) * 4})
    if is_served(peer, "texts-hot"):
        peer.agrees("texts-hot", {"c": np.array([["a"], ["c"], ["?"], ["b"]], dtype=object)})


def a_list_of_maps_comes_as_a_table_beside_its_labels(peer):
    for name, classes in (("classifier", CLASSES), ("classifier-numbers", [3, 5, 9])):
        if not is_served(peer, name):
            continue
        metadata = peer.grpc.get_model_metadata(name)
        assert [(o.name, list(o.shape)) for o in metadata.outputs] == [("output_label", [-1]), ("output_probability", [-1, 3])]
        x = normal(6, 4) * 3
        labels, maps = peer.reference(name).run(None, {"x": x})
        result = peer.infer(name, {"x": x})
        got = [value.decode() if isinstance(value, bytes) else value for value in result.as_numpy("output_label")]
        assert got == list(labels), (got, labels)
        expected = [[row[of] for of in classes] for row in maps]
        np.testing.assert_allclose(result.as_numpy("output_probability"), expected, rtol=1e-4, atol=1e-6)
        best = client.InferRequestedOutput("output_probability", class_count=1)
        text = peer.infer(name, {"x": x}, outputs=[best]).as_numpy("output_probability")
        assert [row[0].decode().split(":")[2] for row in text] == [str(label) for label in labels], text


CHECKS = [a_divisor_is_made_up_that_is_not_0, a_shape_may_come_with_the_request,
          what_no_made_up_input_fits_is_served_unproven_and_never_batched, what_its_configuration_brings_proves_it,
          inputs_need_not_have_as_many_rows_as_each_other, no_rows_give_no_rows,
          what_scikit_learn_exports_is_served_or_says_by_what_it_would_be,
          a_list_of_maps_comes_as_a_table_beside_its_labels]
