"""Over HTTP."""

import asyncio
import json
import struct
import threading
import urllib.error
import urllib.request

import numpy as np
import tritonclient.http as client
import tritonclient.http.aio as client_aio
from peer import RANDOM, check, classes, http_tensors as tensors, normal, refused, same


def agrees(peer, name, arrays, version=1, binary=True, out=None, **more):
    """`out`: whether the outputs are asked for as binary data; None asks for none by name."""
    session = peer.reference(name, version)
    outputs = None
    if out is not None:
        outputs = [client.InferRequestedOutput(o.name, binary_data=out) for o in session.get_outputs()]
    result = peer.http.infer(name, tensors(arrays, binary), outputs=outputs, **more)
    same(result, session, arrays)
    return result


def post(peer, path, body, **headers):
    headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    request = urllib.request.Request(f"http://{peer.http_address}/{path}", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


@check
def http_the_server_describes_itself(peer):
    assert peer.http.is_server_live() and peer.http.is_server_ready()
    metadata = peer.http.get_server_metadata()
    assert metadata["name"] == "millgate", metadata
    assert {"binary_tensor_data", "classification", "statistics"} <= set(metadata["extensions"]), metadata


@check
def http_a_model_describes_itself(peer):
    assert peer.http.is_model_ready("dense") and peer.http.is_model_ready("dense", "1")
    assert not peer.http.is_model_ready("nobody") and not peer.http.is_model_ready("broken")
    assert not peer.http.is_model_ready("dense", "9")
    metadata = peer.http.get_model_metadata("dense")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], metadata
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}] and metadata["versions"] == ["1"]
    config = peer.http.get_model_config("configured")
    assert config["max_batch_size"] == 8 and config["input"][0]["dims"] == [64], config
    assert config["input"][0]["data_type"] == "TYPE_FP32" and config["platform"] == "onnxruntime_onnx", config
    assert config["dynamic_batching"]["preferred_batch_size"] == [4, 8], config
    refused(lambda: peer.http.get_model_metadata("nobody"), "nobody", code=404)
    refused(lambda: peer.http.get_model_config("dense", "9"), "9", code=404)


@check
def http_every_datatype_goes_both_ways(peer):
    for name, dtype in dict(bool=bool, uint8=np.uint8, uint16=np.uint16, uint32=np.uint32, uint64=np.uint64,
                            int8=np.int8, int16=np.int16, int32=np.int32, int64=np.int64, fp16=np.float16,
                            fp32=np.float32, fp64=np.float64).items():
        x = (RANDOM.normal(size=(3, 3)) * 50).astype(np.float64)
        x = (np.abs(x) if "u" in name else x).astype(dtype)
        if x.dtype.kind in "iu":
            x[0] = [np.iinfo(dtype).min, np.iinfo(dtype).max, 1]
        in_json = [True] if name == "fp16" else [True, False]
        for binary in in_json:
            for out in [None] + in_json:
                result = agrees(peer, f"identity-{name}", {"x": x}, binary=binary, out=out)
                np.testing.assert_array_equal(result.as_numpy("y"), x)
    refused(lambda: agrees(peer, "identity-fp16", {"x": x.astype(np.float16)}, binary=False), "FP16", "binary", code=400)
    refused(lambda: agrees(peer, "identity-fp16", {"x": x.astype(np.float16)}, out=False), "`y`", "binary", code=400)
    x = np.array([["", "a", "grüße \" \\ \n"]], dtype=object)
    for binary in (True, False):
        for out in (None, True, False):
            agrees(peer, "identity-string", {"x": x}, binary=binary, out=out)
    infinite = np.array([[1.0, np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(agrees(peer, "identity-fp32", {"x": infinite}).as_numpy("y"), infinite)
    refused(lambda: agrees(peer, "identity-fp32", {"x": infinite}, out=False), "`y`", "binary_data", code=400)


@check
def http_answers_are_those_of_onnxruntime(peer):
    for binary in (True, False):
        for rows in (1, 2, 33):
            agrees(peer, "dense", {"x": normal(rows, 64)}, binary=binary, out=binary)
            agrees(peer, "conv", {"x": normal(rows, 3, 32, 32)}, binary=binary)
            agrees(peer, "add-sub", {"a": normal(rows, 4), "b": normal(rows, 4)}, binary=binary)
            agrees(peer, "tokens", {"ids": RANDOM.integers(0, 10, (rows, 6))}, binary=binary)
            agrees(peer, "free-axes", {"x": normal(rows, rows + 1)}, binary=binary, out=False)
        agrees(peer, "model-with.dots", {"x": normal(2, 64)}, binary=binary)
        agrees(peer, "no-batch", {"x": normal(3, 4)}, binary=binary)
        agrees(peer, "scalar", {"x": normal(3, 4)}, binary=binary, out=binary)
        agrees(peer, "versions", {"x": normal(2, 2)}, version=2, binary=binary, model_version="2")
    # Of two inputs one in JSON and one behind it, and of two outputs likewise.
    x = {"a": normal(2, 4), "b": normal(2, 4)}
    mixed = tensors({"a": x["a"]}, binary=False) + tensors({"b": x["b"]})
    wanted = [client.InferRequestedOutput("sum", binary_data=False), client.InferRequestedOutput("difference")]
    same(peer.http.infer("add-sub", mixed, outputs=wanted), peer.reference("add-sub"), x)


@check
def http_an_image_of_five_megabytes(peer):
    x = {"x": normal(1, 3, 640, 640)}
    agrees(peer, "image", x)
    agrees(peer, "image", x, request_compression_algorithm="gzip")
    agrees(peer, "image", x, binary=False)


@check
def http_ids_outputs_and_phases(peer):
    x = {"a": normal(1, 4), "b": normal(1, 4)}
    wanted = [client.InferRequestedOutput("difference", binary_data=False)]
    result = peer.http.infer("add-sub", tensors(x), request_id="r-7", outputs=wanted)
    response = result.get_response()
    assert response["id"] == "r-7" and [o["name"] for o in response["outputs"]] == ["difference"], response
    assert response["model_name"] == "add-sub" and response["model_version"] == "1", response
    assert response["parameters"]["batch"] == 1 and "compute_us" in response["parameters"], response
    peer.http.infer("add-sub", tensors(x), priority=1, timeout=5_000_000, parameters={"mine": "a", "level": 3})
    refused(lambda: peer.http.infer("add-sub", tensors(x), timeout=1), "deadline", code=504)


@check
def http_compression(peer):
    x = {"x": normal(100, 64)}
    for sent in (None, "gzip", "deflate"):
        for got in (None, "gzip", "deflate"):
            for binary in (True, False):
                agrees(peer, "dense", x, binary=binary, out=binary, request_compression_algorithm=sent,
                       response_compression_algorithm=got)
    body = json.dumps({"inputs": [{"name": "x", "shape": [64, 64], "datatype": "FP32", "data": [0.5] * 4096}]}).encode()
    _, headers, _ = post(peer, "v2/models/dense/infer", body, Accept_Encoding="deflate;q=0.1, gzip")
    assert headers["Content-Encoding"] == "gzip", headers


@check
def http_bad_input_is_named(peer):
    x = normal(1, 64)
    one = {"x": x}
    infer = lambda name, arrays, **more: peer.http.infer(name, tensors(arrays), **more)  # noqa: E731
    refused(lambda: infer("nobody", one), "nobody", code=404)
    refused(lambda: infer("dense", one, model_version="9"), "9", code=404)
    refused(lambda: infer("broken", one), "broken", code=400)
    refused(lambda: infer("dense", {"z": x}), "`z` is not an input", code=400)
    refused(lambda: infer("add-sub", {"a": normal(1, 4)}), "`b` is missing", code=400)
    refused(lambda: infer("dense", {"x": normal(1, 63)}), "[-1, 64]", code=400)
    refused(lambda: infer("dense", {"x": x.astype(np.float64)}), "FP32", code=400)
    refused(lambda: infer("dense", one, outputs=[client.InferRequestedOutput("q")]), "`q`", code=400)
    refused(lambda: peer.http.infer("dense", tensors(one) * 2), "twice", code=400)
    refused(lambda: infer("configured", {"x": normal(9, 64)}), "at most 8", code=400)
    refused(lambda: infer("tokens", {"ids": np.full((1, 6), 77)}), "tokens", code=500)
    refused(lambda: infer("dense", {"x": normal(1 << 18, 64)}), "67108864", code=413)
    region = client.InferInput("x", [1, 64], "FP32")
    region.set_shared_memory("region", 256)
    refused(lambda: peer.http.infer("dense", [region]), "no memory is shared", code=501)
    bad = {name: np.full([1, *shape], np.nan, np.float32) for name, shape in (("image", [1, 128, 128]),)}
    refused(lambda: infer("steel-l", bad), "not finite", code=400)
    agrees(peer, "dense", one)


@check
def http_async_calls_beside_poison(peer):
    session, sent = peer.reference("tokens"), []
    for number in range(200):
        ids = RANDOM.integers(0, 10, (1, 6))
        if number % 10 == 0:
            ids[0, 3] = 1000
        sent.append((ids, peer.http.async_infer("tokens", tensors({"ids": ids}, binary=number % 3 > 0))))
    for number, (ids, call) in enumerate(sent):
        if number % 10 == 0:
            refused(call.get_result, "tokens", code=500)
        else:
            same(call.get_result(timeout=20), session, {"ids": ids})


@check
def http_asyncio_calls(peer):
    async def run():
        async with client_aio.InferenceServerClient(peer.http_address) as aio:
            assert await aio.is_server_ready() and await aio.is_model_ready("dense")
            assert (await aio.get_model_config("dense"))["name"] == "dense"
            x = [normal(50, 64) for _ in range(50)]
            calls = (aio.infer("dense", tensors({"x": one}, number % 2 > 0)) for number, one in enumerate(x))
            for one, result in zip(x, await asyncio.gather(*calls)):
                same(result, peer.reference("dense"), {"x": one})
            for algorithm in ("gzip", "deflate"):
                result = await aio.infer("dense", tensors({"x": x[0]}), request_compression_algorithm=algorithm,
                                         response_compression_algorithm=algorithm)
                same(result, peer.reference("dense"), {"x": x[0]})

    asyncio.run(run())


@check
def http_many_threads_batch_and_change_nothing(peer):
    session, failures = peer.reference("dense"), []

    def work():
        try:
            own = client.InferenceServerClient(peer.http_address)
            random = np.random.default_rng()
            for _ in range(50):
                x = {"x": random.normal(size=(1, 64)).astype(np.float32)}
                same(own.infer("dense", tensors(x)), session, x)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    before = peer.http.get_inference_statistics("dense")["model_stats"][0]
    threads = [threading.Thread(target=work) for _ in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures[0]
    stats = peer.http.get_inference_statistics("dense")["model_stats"][0]
    assert stats["inference_count"] - before["inference_count"] == 800, stats
    assert stats["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 800, stats
    every = peer.http.get_inference_statistics()["model_stats"]
    assert {"dense", "conv", "steel-l"} <= {one["name"] for one in every}


@check
def http_the_best_classes(peer):
    for name, labels in (("labelled", ["cat", "a dog: big", ""]), ("dense", [])):
        x = {"x": normal(3, 64)}
        expected = peer.reference(name).run(None, x)[0]
        for count in (1, 3, 100):
            for binary in (True, False):
                wanted = [client.InferRequestedOutput("y", class_count=count, binary_data=binary)]
                got = peer.http.infer(name, tensors(x), outputs=wanted).as_numpy("y")
                classes(got, expected, count, labels)
    wanted = [client.InferRequestedOutput("y", class_count=-1)]
    refused(lambda: peer.http.infer("dense", tensors(x), outputs=wanted), "classification", code=400)


@check
def http_the_repository(peer):
    index = {model["name"]: model for model in peer.http.get_model_repository_index()}
    assert index["dense"] == {"name": "dense", "version": "1", "state": "READY"}, index["dense"]
    assert index["broken"]["state"] == "UNAVAILABLE" and index["broken"]["reason"], index["broken"]
    peer.http.unload_model("versions")
    assert not peer.http.is_model_ready("versions")
    x = {"x": normal(1, 2)}
    refused(lambda: peer.http.infer("versions", tensors(x)), "unloaded", code=503)
    peer.http.load_model("versions")
    agrees(peer, "versions", x, version=2)
    refused(lambda: peer.http.load_model("nobody"), "nobody", code=404)
    refused(lambda: peer.http.load_model("dense", config="{}"), "config", code=501)
    refused(lambda: peer.http.unload_model("gate"), "bundle", code=501)
    status, _, body = post(peer, "v2/repository/index", b'{"ready": true}')
    assert status == 200 and "broken" not in {model["name"] for model in json.loads(body)}, body


@check
def http_what_is_not_offered_says_so(peer):
    assert peer.http.get_system_shared_memory_status() == [] and peer.http.get_cuda_shared_memory_status() == []
    refused(lambda: peer.http.register_system_shared_memory("a", "/a", 8), "shared memory", code=501)
    refused(lambda: peer.http.unregister_system_shared_memory(), "shared memory", code=501)
    refused(lambda: peer.http.update_trace_settings(settings={"trace_level": ["OFF"]}), "trace", code=501)
    refused(lambda: peer.http.update_trace_settings("dense", {"trace_rate": "1"}), "trace", code=501)
    refused(lambda: peer.http.update_log_settings({"log_info": False}), "log", code=501)


@check
def http_settings_can_be_read(peer):
    for settings in (peer.http.get_trace_settings(), peer.http.get_trace_settings("dense"),
                     peer.http.update_trace_settings(settings={})):
        assert settings["trace_level"] == ["OFF"] and settings["trace_rate"] == "0", settings
        assert settings["trace_mode"] == "opentelemetry" and settings["trace_file"] == "", settings
    refused(lambda: peer.http.get_trace_settings("nobody"), "nobody", code=404)
    for settings in (peer.http.get_log_settings(), peer.http.update_log_settings({})):
        assert settings["log_verbose_level"] in (0, 1, 2) and settings["log_file"] == "", settings
        assert isinstance(settings["log_info"], bool) and settings["log_format"] == "ISO8601", settings


@check
def http_a_body_that_is_one_tensor(peer):
    x = normal(1, 64)
    status, _, body = post(peer, "v2/models/dense/infer", x.tobytes(), Inference_Header_Content_Length=0)
    assert status == 200, body
    got = np.array(json.loads(body)["outputs"][0]["data"], np.float32).reshape(1, 8)
    np.testing.assert_allclose(got, peer.reference("dense").run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
    for model, sent in (("dense", x.tobytes()[1:]), ("add-sub", bytes(16)), ("identity-fp16", bytes(5))):
        status, _, body = post(peer, f"v2/models/{model}/infer", sent, Inference_Header_Content_Length=0)
        assert status == 400 and json.loads(body)["error"], (model, body)


@check
def http_lengths_of_bytes_are_checked(peer):
    head = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "BYTES", "parameters": {}}]}
    for contents in (b"", b"\x01\0\0\0a\0\0\0\0", b"\xff\xff\xff\xffa" * 3, struct.pack("<I", 0) * 4):
        head["inputs"][0]["parameters"]["binary_data_size"] = len(contents)
        text = json.dumps(head).encode()
        answer = post(peer, "v2/models/identity-string/infer", text + contents, Inference_Header_Content_Length=len(text))
        assert answer[0] == 400 and b"BYTES" in answer[2], answer
