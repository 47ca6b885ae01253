"""Cases through the pool, as a client would: a model repository, `millgate-cloud serve`, an unchanged `tritonclient`."""

import os
import pathlib
import shutil
import time

import onnx

from peers import processes

from .case import Unservable, datatype, input_names, judge

READY_SECONDS = 300
ANSWER_SECONDS = 20


class Pool:
    """A pool of its own on free ports, for one folder of models."""

    def __init__(self, binary, folder: pathlib.Path, engine: str, library):
        self.grpc, self.http, metrics = processes.free_ports(3)
        lines = [f'model_repository = ["{folder}"]', "[engines]"]
        lines += [f'default = "{engine}"'] if engine != "auto" else []
        lines += [f'onnxruntime_library = "{library}"'] if engine != "tract" else []
        config = folder.parent / "cloud.toml"
        config.write_text("\n".join(lines) + "\n")
        addresses = [f"--{name}=127.0.0.1:{port}" for name, port in (("grpc", self.grpc), ("http", self.http), ("metrics", metrics))]
        command = [binary, "serve", "--no-bundle", "--config", config, *addresses]
        self.process = processes.start(command, os.sched_getaffinity(0), folder.parent / "pool.log")

    def index(self) -> dict:
        """What is known of each model once all are loaded: state and reason. Empty if the pool has died."""
        import tritonclient.http as http

        until = time.monotonic() + READY_SECONDS
        client = http.InferenceServerClient(f"127.0.0.1:{self.http}", network_timeout=READY_SECONDS)
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return {}
            try:
                listed = client.get_model_repository_index()
            except Exception:  # noqa: BLE001
                listed = []
            # LOADING and whatever else is on its way is asked for again.
            if listed and all(model.get("state") in {"READY", "UNAVAILABLE"} and model.get("reason") != "loading" for model in listed):
                return {model["name"]: model for model in listed}
            time.sleep(0.2)
        return {}

    def stop(self):
        processes.stop(self.process)


def run(cases: list, binary: pathlib.Path, folder: pathlib.Path, engine: str, library=None, at_once: int = 200) -> None:
    """Fills in each case's outcome: right, WRONG, CRASH, or refused at load or at request."""
    waiting = [case for case in cases if not case.outcome]
    for start in range(0, len(waiting), at_once):
        through(waiting[start : start + at_once], binary, folder, engine, library)


def through(cases: list, binary, folder: pathlib.Path, engine: str, library) -> None:
    """One pool for these; halves of them if it dies while loading, so that what ends it is found."""
    if not cases:
        return
    shutil.rmtree(folder, ignore_errors=True)
    names = {}
    for at, case in enumerate(cases):
        names[f"case-{at}"] = case
        version = folder / "models" / f"case-{at}" / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(case.model)
    pool = Pool(binary, folder / "models", engine, library)
    try:
        index = pool.index()
        if not index:
            if len(cases) == 1:
                cases[0].outcome, cases[0].detail = "CRASH", "the pool ended while loading it"
                return
            pool.stop()
            middle = len(cases) // 2
            through(cases[:middle], binary, folder, engine, library)
            through(cases[middle:], binary, folder, engine, library)
            return
        left = []
        for name, case in names.items():
            model = index.get(name, {})
            if pool.process.poll() is not None:
                left.append(case)
            elif model.get("state") != "READY":
                case.outcome, case.detail = "refused at load", model.get("reason") or "is not listed"
            else:
                ask(pool, name, case)
                if pool.process.poll() is not None:
                    case.outcome, case.detail = "CRASH", "the pool ended while answering"
    finally:
        pool.stop()
    through(left, binary, folder, engine, library)


def ask(pool: Pool, name: str, case) -> None:
    import numpy
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    client = http.InferenceServerClient(f"127.0.0.1:{pool.http}", network_timeout=ANSWER_SECONDS)
    model = onnx.load_from_string(case.model)
    try:
        inputs = []
        for port, value in zip(input_names(model), case.inputs):
            kind = datatype(value)
            made = http.InferInput(port, list(value.shape), kind)
            made.set_data_from_numpy(value.astype(numpy.float32) if kind == "BF16" else value, binary_data=True)
            inputs.append(made)
        wanted = [http.InferRequestedOutput(port.name, binary_data=True) for port in model.graph.output]
        answer = client.infer(name, inputs, outputs=wanted)
        found = []
        for port in model.graph.output:
            value = answer.as_numpy(port.name)
            if answer.get_output(port.name)["datatype"] == "BF16":
                import ml_dtypes

                value = value.astype(ml_dtypes.bfloat16)
            found.append(value)
        judge(case, found)
    except Unservable as error:
        case.outcome, case.detail = "not a tensor", str(error)
    except InferenceServerException as error:
        case.outcome, case.detail = "refused at request", error.message()
    except Exception as error:  # noqa: BLE001
        case.outcome, case.detail = "refused at request", f"{type(error).__name__}: {error}"
    finally:
        client.close()
