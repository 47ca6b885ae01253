"""Which engine runs a model, and what only one of them can run."""

import ml_dtypes
import numpy as np
import tritonclient.grpc as client
from peer import check, normal


@check
def each_model_has_an_engine_and_a_reason(peer):
    index = {model.name: model for model in peer.grpc.get_model_repository_index().models}
    for name in ("dense", "conv", "identity-fp16", "tokens", "external", "gate"):
        parameters = peer.grpc.get_model_config(name).config.parameters
        engine, reason = parameters["engine"].string_value, parameters["engine_reason"].string_value
        assert reason and engine in (["tract", "onnxruntime"] if peer.engine == "auto" else [peer.engine]), parameters
    assert peer.grpc.get_model_config("wishes-tract").config.parameters["engine"].string_value == "tract"
    assert "leads out" in index["external-outside"].reason, index["external-outside"].reason
    assert "not a tensor" in index["sequence"].reason, index["sequence"].reason
    if peer.engine == "tract":
        assert all(index[name].state == "UNAVAILABLE" and index[name].reason for name in ("bf16", "determinant"))
        return
    assert peer.grpc.get_model_config("determinant").config.parameters["engine"].string_value == "onnxruntime"
    peer.agrees("determinant", {"x": normal(3, 2, 2)})
    x = np.array([[1.5, -2.25, 0.0], [3.0, 1e30, -1e-30]], dtype=ml_dtypes.bfloat16)
    tensor = client.InferInput("x", [2, 3], "BF16")
    tensor.set_data_from_numpy(x)
    got = peer.grpc.infer("bf16", [tensor])
    np.testing.assert_array_equal(got.as_numpy("same").astype(np.float32), x.astype(np.float32))
    np.testing.assert_array_equal(got.as_numpy("y"), 2 * x.astype(np.float32))
