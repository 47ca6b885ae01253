"""Versions, MLflow folders and what is told of a model: the models, and the checks that `suite.py` runs on them."""

import pathlib
import shutil

import numpy as np
from tritonclient import grpc as client
from tritonclient.utils import InferenceServerException

MLMODEL = """artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.16.1
    providers:
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: 3.11.9
mlflow_version: 2.20.1
model_uuid: 55e1070ae2d84d4390ab9aa9f4e4e5e1
run_id: 0f2c6d5e8a7b4c3d9e1f0a2b3c4d5e6f
signature:
  inputs: '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape":
    [-1, 2]}}]'
  outputs: '[{"name": "y", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape":
    [-1, 2]}}]'
  params: null
utc_time_created: '2025-02-03 10:11:12.345678'
"""


def make(root: pathlib.Path) -> None:
    """Beside the models of `make_models.py`, of which it copies `versions`: version N multiplies by N."""
    one, two = (root / "versions" / str(version) / "model.onnx" for version in (1, 2))
    for name, files in {"every-version/1/model.onnx": one, "every-version/2/model.onnx": two,
                        "some-versions/1/model.onnx": one, "some-versions/2/model.onnx": two,
                        "flow/model.onnx": two, "flow-version/4/model.onnx": two, "dropped/model.onnx": two}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files, root / name)
    (root / "every-version" / "config.pbtxt").write_text("version_policy { all {} }")
    (root / "some-versions" / "config.pbtxt").write_text("version_policy: { specific: { versions: [ 1 ] } }")
    for folder in ("flow", "flow-version/4"):
        (root / folder / "MLmodel").write_text(MLMODEL)
    (root / "pickle").mkdir(exist_ok=True)
    (root / "pickle" / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")


def infer(peer, name, version=""):
    x = np.float32([[0.5, -2.0], [1.0, 3.0]])
    tensor = client.InferInput("x", [2, 2], "FP32")
    tensor.set_data_from_numpy(x)
    return peer.grpc.infer(name, [tensor], model_version=version), x


def every_version_answers(peer):
    for version, by, answered in (("1", 1, "1"), ("2", 2, "2"), ("", 2, "2")):
        result, x = infer(peer, "every-version", version)
        np.testing.assert_array_equal(result.as_numpy("y"), x * by)
        assert result.get_response().model_version == answered
    assert list(peer.grpc.get_model_metadata("every-version").versions) == ["1", "2"]
    index = [(m.version, m.state) for m in peer.grpc.get_model_repository_index().models if m.name == "every-version"]
    assert index == [("1", "READY"), ("2", "READY")], index
    assert peer.grpc.is_model_ready("every-version", "1") and not peer.grpc.is_model_ready("every-version", "3")
    statistics = peer.grpc.get_inference_statistics("every-version").model_stats
    assert [(of.version, of.inference_count) for of in statistics] == [("1", 2), ("2", 4)], statistics
    assert len(peer.grpc.get_inference_statistics("every-version", "2").model_stats) == 1


def a_policy_names_versions(peer):
    result, x = infer(peer, "some-versions")
    np.testing.assert_array_equal(result.as_numpy("y"), x)
    assert list(peer.grpc.get_model_metadata("some-versions").versions) == ["1"]
    try:
        infer(peer, "some-versions", "2")
    except InferenceServerException as error:
        assert "NOT_FOUND" in str(error.status()), error
    else:
        raise AssertionError("a version that the policy leaves out has answered")


def models_of_mlflow_answer(peer):
    for name, version in (("flow", "1"), ("flow-version", "4"), ("dropped", "1")):
        result, x = infer(peer, name, version)
        np.testing.assert_array_equal(result.as_numpy("y"), x * 2)
    parameters = peer.grpc.get_model_config("flow").config.parameters
    assert parameters["mlflow.run_id"].string_value == "0f2c6d5e8a7b4c3d9e1f0a2b3c4d5e6f", parameters
    index = {model.name: model for model in peer.grpc.get_model_repository_index().models}
    assert index["pickle"].state == "UNAVAILABLE" and "onnx" in index["pickle"].reason, index["pickle"]


def a_model_without_configuration_tells_its_batch(peer):
    config = peer.grpc.get_model_config("dense").config
    assert config.max_batch_size > 8 and list(config.input[0].dims) == [64], config
    assert config.HasField("dynamic_batching")
    assert list(peer.grpc.get_model_metadata("dense").inputs[0].shape) == [-1, 64]
    for name, dims in (("no-batch", [3, 4]), ("across-rows", [-1, 3])):
        config = peer.grpc.get_model_config(name).config
        assert config.max_batch_size == 0 and list(config.input[0].dims) == dims, config


CHECKS = [every_version_answers, a_policy_names_versions, models_of_mlflow_answer,
          a_model_without_configuration_tells_its_batch]
