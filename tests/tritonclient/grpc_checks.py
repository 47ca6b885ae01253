"""Over gRPC."""

import asyncio
import queue
import threading

import numpy as np
import tritonclient.grpc as client
import tritonclient.grpc.aio as client_aio
from peer import RANDOM, check, classes, grpc_tensors as tensors, normal, refused, same
from tritonclient.grpc import service_pb2 as pb


@check
def the_server_describes_itself(peer):
    assert peer.grpc.is_server_live() and peer.grpc.is_server_ready()
    metadata = peer.grpc.get_server_metadata(as_json=True)
    assert metadata["name"] == "millgate" and "statistics" in metadata["extensions"]


@check
def a_model_describes_itself(peer):
    assert peer.grpc.is_model_ready("dense") and not peer.grpc.is_model_ready("nobody")
    metadata = peer.grpc.get_model_metadata("dense")
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("x", "FP32", [-1, 64])]
    assert [(o.name, o.datatype, list(o.shape)) for o in metadata.outputs] == [("y", "FP32", [-1, 8])]
    assert list(metadata.versions) == ["1"]
    config = peer.grpc.get_model_config("configured").config
    assert config.max_batch_size == 8 and list(config.input[0].dims) == [64]
    config = peer.grpc.get_model_config("dense").config
    assert config.parameters["onnx.origin"].string_value == "tests", config.parameters


@check
def every_datatype_goes_both_ways(peer):
    for name, dtype in dict(bool=bool, uint8=np.uint8, uint16=np.uint16, uint32=np.uint32, uint64=np.uint64,
                            int8=np.int8, int16=np.int16, int32=np.int32, int64=np.int64, fp16=np.float16,
                            fp32=np.float32, fp64=np.float64).items():
        for rows in (1, 3):
            x = (RANDOM.normal(size=(rows, 3)) * 50).astype(np.float64)
            x = (np.abs(x) if "u" in name else x).astype(dtype)
            peer.agrees(f"identity-{name}", {"x": x})
    x = np.array([["", "a", "grüße"]], dtype=object)
    got = peer.infer("identity-string", {"x": x}).as_numpy("y")
    assert [value.decode() for value in got.flatten()] == ["", "a", "grüße"], got


@check
def answers_are_those_of_onnxruntime(peer):
    for rows in (1, 2, 5, 33, 70):
        peer.agrees("dense", {"x": normal(rows, 64)})
        peer.agrees("conv", {"x": normal(rows, 3, 32, 32)})
        peer.agrees("add-sub", {"a": normal(rows, 4), "b": normal(rows, 4)})
        peer.agrees("tokens", {"ids": RANDOM.integers(0, 10, (rows, 6))})
        peer.agrees("across-rows", {"x": normal(rows, 3)})
        peer.agrees("free-axes", {"x": normal(rows, rows + 1)})
    # More rows than may wait in the queue, of a model that does not batch.
    peer.agrees("conv", {"x": normal(300, 3, 32, 32)})
    peer.agrees("model-with.dots", {"x": normal(2, 64)})
    peer.agrees("conv-one", {"x": normal(1, 3, 32, 32)})
    peer.agrees("no-batch", {"x": normal(3, 4)})
    peer.agrees("scalar", {"x": normal(3, 4)})
    peer.agrees("configured", {"x": normal(8, 64)})
    for _ in range(3):
        peer.agrees("recurrent", {"x": normal(3, 2, 4)})
        peer.agrees("recurrent-rows", {"a": normal(4, 6, 4)})
    peer.agrees("wishes-tract", {"x": normal(3, 64)})
    peer.agrees("external", {"x": normal(3, 64)})
    peer.agrees("versions", {"x": normal(2, 2)}, version=2)
    peer.agrees("versions", {"x": normal(2, 2)}, version=2, model_version="2")


@check
def ids_outputs_and_phases(peer):
    x = {"a": normal(1, 4), "b": normal(1, 4)}
    wanted = [client.InferRequestedOutput("difference")]
    response = peer.infer("add-sub", x, request_id="r-7", outputs=wanted).get_response()
    assert response.id == "r-7" and [o.name for o in response.outputs] == ["difference"]
    assert response.parameters["batch"].int64_param == 1 and "compute_us" in response.parameters
    peer.infer("add-sub", x, priority=1, timeout=5_000_000, parameters={"mine": "a", "level": 3})


@check
def compression(peer):
    x = {"x": normal(16, 64)}
    same(peer.infer("dense", x, compression_algorithm="gzip"), peer.reference("dense"), x)
    refused(lambda: peer.infer("dense", x, compression_algorithm="deflate"), code="UNIMPLEMENTED")


@check
def bad_input_is_named(peer):
    x = normal(1, 64)
    one = {"x": x}
    refused(lambda: peer.infer("nobody", one), "nobody", code="NOT_FOUND")
    refused(lambda: peer.infer("dense", one, model_version="9"), "9", code="NOT_FOUND")
    refused(lambda: peer.infer("broken", one), "broken", code="FAILED_PRECONDITION")
    refused(lambda: peer.infer("dense", {"z": x}), "`z` is not an input", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("add-sub", {"a": normal(1, 4)}), "`b` is missing", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("dense", {"x": normal(1, 63)}), "[-1, 64]", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("dense", {"x": x.astype(np.float64)}), "FP32", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("dense", one, outputs=[client.InferRequestedOutput("q")]), "`q`", code="INVALID_ARGUMENT")
    refused(lambda: peer.grpc.infer("dense", tensors(one) * 2), "twice", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("configured", {"x": normal(9, 64)}), "at most 8", code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("add-sub", {"a": normal(2, 4), "b": normal(3, 4)}), code="INVALID_ARGUMENT")
    refused(lambda: peer.infer("tokens", {"ids": np.full((1, 6), 77)}), "tokens", code="INTERNAL")
    refused(lambda: peer.infer("dense", {"x": normal(1 << 18, 64)}), code="OUT_OF_RANGE")
    peer.agrees("dense", one)


def raw(peer, change):
    request = pb.ModelInferRequest(model_name="dense")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(bytes(256))
    change(request, tensor)
    return peer.grpc._client_stub.ModelInfer(request)


@check
def hand_made_requests(peer):
    import grpc

    def fails(change, words):
        try:
            raw(peer, change)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and words in error.details(), error
            return
        raise AssertionError(words)

    def typed(request, tensor):
        del request.raw_input_contents[:]
        tensor.contents.fp32_contents.extend([0.5] * 64)

    def shaped(*shape):
        return lambda request, tensor: (tensor.ClearField("shape"), tensor.shape.extend(shape))

    answer = raw(peer, typed)
    assert len(answer.raw_output_contents) == 0 and len(answer.outputs[0].contents.fp32_contents) == 8, answer
    assert len(raw(peer, lambda request, tensor: None).raw_output_contents) == 1
    fails(shaped(-1, 64), "negative")
    fails(shaped(1 << 62, 64), "overflows")
    fails(shaped(1, 32), "got 256")
    fails(lambda request, tensor: tensor.contents.fp32_contents.extend([1.0]), "raw_input_contents")
    fails(lambda request, tensor: setattr(tensor, "datatype", "FLOAT"), "FLOAT")
    fails(lambda request, tensor: request.raw_input_contents.append(b""), "2 entries")
    # No bytes at all, and more rows than any memory could list.
    request = pb.ModelInferRequest(model_name="free-axes")
    request.inputs.add(name="x", datatype="FP32", shape=[1 << 40, 0])
    request.raw_input_contents.append(b"")
    try:
        peer.grpc._client_stub.ModelInfer(request)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "at most 65536" in error.details(), error
    else:
        raise AssertionError("rows without end")
    request = pb.ModelInferRequest(model_name="identity-string")
    request.inputs.add(name="x", datatype="BYTES", shape=[1, 3])
    for contents in (b"", b"\x01\0\0\0a\0\0\0\0", b"\xff\xff\xff\xffa" * 3, b"\0\0\0\0" * 4):
        request.raw_input_contents[:] = [contents]
        try:
            peer.grpc._client_stub.ModelInfer(request)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "BYTES" in error.details(), error
        else:
            raise AssertionError(contents)


@check
def typed_contents_both_ways(peer):
    fields = dict(bool="bool", int8="int", int16="int", int32="int", int64="int64", uint8="uint", uint16="uint",
                  uint32="uint", uint64="uint64", fp32="fp32", fp64="fp64", string="bytes")
    for name, field in fields.items():
        # ONNX Runtime's strings end at a zero byte.
        last = b"a\0" if peer.engine == "tract" else b"a"
        sent = [b"", "grüße".encode(), last] if field == "bytes" else [1, 0, 1]
        datatype = {"string": "BYTES"}.get(name, name.upper())
        request = pb.ModelInferRequest(model_name=f"identity-{name}")
        tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
        getattr(tensor.contents, f"{field}_contents").extend(sent)
        answer = peer.grpc._client_stub.ModelInfer(request)
        assert not answer.raw_output_contents and answer.outputs[0].datatype == datatype, answer
        assert list(getattr(answer.outputs[0].contents, f"{field}_contents")) == sent, answer


@check
def async_calls_beside_poison(peer):
    answers = queue.Queue()
    session = peer.reference("tokens")
    sent = {}
    for number in range(200):
        ids = RANDOM.integers(0, 10, (1, 6))
        if number % 10 == 0:
            ids[0, 3] = 1000
        sent[str(number)] = ids
        peer.grpc.async_infer("tokens", tensors({"ids": ids}),
                              lambda result, error, n=str(number): answers.put((n, result, error)), request_id=str(number))
    for _ in sent:
        number, result, error = answers.get(timeout=20)
        if int(number) % 10 == 0:
            assert error is not None, number
        else:
            assert error is None, error
            same(result, session, {"ids": sent[number]})


@check
def a_stream_survives_an_error(peer):
    answers = queue.Queue()
    with client.InferenceServerClient(peer.address) as stream:
        stream.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(20):
            name = "nobody" if number == 5 else "dense"
            stream.async_stream_infer(name, tensors({"x": normal(1, 64)}), request_id=str(number))
        got = [answers.get(timeout=20) for _ in range(20)]
        assert sum(error is not None for _, error in got) == 1
        assert len({result.get_response().id for result, error in got if error is None}) == 19


@check
def asyncio_calls(peer):
    async def run():
        async with client_aio.InferenceServerClient(peer.address) as aio:
            x = [normal(1, 64) for _ in range(50)]
            results = await asyncio.gather(*(aio.infer("dense", tensors({"x": one})) for one in x))
            for one, result in zip(x, results):
                same(result, peer.reference("dense"), {"x": one})

    asyncio.run(run())


@check
def many_threads_batch_and_change_nothing(peer):
    session, failures = peer.reference("dense"), []

    def work():
        try:
            own = client.InferenceServerClient(peer.address)
            random = np.random.default_rng()
            for _ in range(50):
                x = {"x": random.normal(size=(1, 64)).astype(np.float32)}
                same(own.infer("dense", tensors(x)), session, x)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures[0]
    stats = peer.grpc.get_inference_statistics("dense").model_stats[0]
    assert stats.inference_count >= 800 and stats.inference_stats.success.count >= 800
    assert stats.execution_count <= stats.inference_count


@check
def the_repository(peer):
    index = {model.name: model for model in peer.grpc.get_model_repository_index().models}
    assert index["dense"].state == "READY" and index["broken"].state == "UNAVAILABLE" and index["broken"].reason
    peer.grpc.unload_model("versions")
    assert not peer.grpc.is_model_ready("versions")
    refused(lambda: peer.infer("versions", {"x": normal(1, 2)}), "unloaded", code="UNAVAILABLE")
    peer.grpc.load_model("versions")
    peer.agrees("versions", {"x": normal(1, 2)}, version=2)
    refused(lambda: peer.grpc.load_model("nobody"), "nobody", code="NOT_FOUND")
    refused(lambda: peer.grpc.unload_model("gate"), "bundle", code="UNIMPLEMENTED")


@check
def the_best_classes(peer):
    for name, labels in (("labelled", ["cat", "a dog: big", ""]), ("dense", [])):
        x = {"x": normal(3, 64)}
        expected = peer.reference(name).run(None, x)[0]
        for count in (1, 3, 100):
            wanted = [client.InferRequestedOutput("y", class_count=count)]
            classes(peer.infer(name, x, outputs=wanted).as_numpy("y"), expected, count, labels)
    # Of an expert of the bundle, with the labels of its manifest.
    shapes = {tensor.name: [1, *tensor.shape[1:]] for tensor in peer.grpc.get_model_metadata("steel-l").inputs}
    x = {name: normal(*shape) for name, shape in shapes.items()}
    logits = peer.infer("steel-l", x).as_numpy("logits")
    wanted = [client.InferRequestedOutput("logits", class_count=2)]
    best = peer.infer("steel-l", x, outputs=wanted).as_numpy("logits")
    value, index, label = best[0][0].decode().split(":")
    assert int(index) == logits[0].argmax() and "/" in label, best
    for name, count, words in (("identity-string", 1, "no classes"), ("identity-bool", 1, "no classes"), ("identity-fp32", -1, "at least 1")):
        wanted = [client.InferRequestedOutput("y", class_count=count)]
        x = np.array([["a"] * 3], dtype=object) if "string" in name else np.ones((1, 3), bool if "bool" in name else np.float32)
        refused(lambda: peer.infer(name, {"x": x}, outputs=wanted), words, "classification", code="INVALID_ARGUMENT")


@check
def what_is_not_offered_says_so(peer):
    refused(lambda: peer.grpc.register_system_shared_memory("a", "/a", 8), code="UNIMPLEMENTED")
    refused(lambda: peer.grpc.update_trace_settings(settings={"trace_level": ["OFF"]}), "trace", code="UNIMPLEMENTED")
    refused(lambda: peer.grpc.update_log_settings({"log_info": False}), "log", code="UNIMPLEMENTED")
    assert not peer.grpc.get_system_shared_memory_status().regions


@check
def settings_can_be_read(peer):
    for settings in (peer.grpc.get_trace_settings(), peer.grpc.get_trace_settings("dense"),
                     peer.grpc.update_trace_settings(settings={})):
        settings = {name: list(setting.value) for name, setting in settings.settings.items()}
        assert settings["trace_level"] == ["OFF"] and settings["trace_rate"] == ["0"], settings
        assert settings["trace_mode"] == ["opentelemetry"] and settings["trace_file"] == [""], settings
    refused(lambda: peer.grpc.get_trace_settings("nobody"), "nobody", code="NOT_FOUND")
    for settings in (peer.grpc.get_log_settings(), peer.grpc.update_log_settings({})):
        assert settings.settings["log_verbose_level"].uint32_param in (0, 1, 2), settings
        assert settings.settings["log_file"].string_param == "", settings
        assert settings.settings["log_info"].HasField("bool_param"), settings


@check
def the_bundles_models_are_there(peer):
    metadata = peer.grpc.get_model_metadata("pcb-l")
    shapes = {tensor.name: [1, *tensor.shape[1:]] for tensor in metadata.inputs}
    result = peer.infer("pcb-l", {name: normal(*shape) for name, shape in shapes.items()})
    assert result.as_numpy("logits").shape[0] == 1
    bad = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    refused(lambda: peer.infer("pcb-l", bad), "not finite", code="INVALID_ARGUMENT")
