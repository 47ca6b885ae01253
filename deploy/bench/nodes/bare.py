"""The built-in engine by itself, through `millgate-load cases`: no server, no self-test."""

import json
import pathlib
import select
import shutil
import subprocess
import time

import onnx

from . import case as values
from .case import Unservable, datatype, from_raw, input_names, to_raw

# One case may take this long, loading and all, before it counts as endless.
PATIENCE = 20.0


def run(cases: list, binary: pathlib.Path, folder: pathlib.Path, fixed_shapes: bool = False) -> None:
    """Fills in each case's outcome: right, WRONG, CRASH, ENDLESS, or refused at load or at run."""
    shutil.rmtree(folder, ignore_errors=True)
    waiting = {}
    for at, case in enumerate(cases):
        if case.outcome:
            continue
        own = folder / f"{at:05}"
        own.mkdir(parents=True)
        try:
            lay_out(case, own)
        except Unservable as error:
            case.outcome, case.detail = "not a tensor", str(error)
            shutil.rmtree(own)
            continue
        waiting[own.name] = case
    while waiting:
        command = [binary, "cases", "--dir", folder] + (["--fixed-shapes"] if fixed_shapes else [])
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            last, endless = follow(process)
        for name in [name for name in waiting if (folder / name / "answer.json").exists()]:
            judge(waiting.pop(name), folder / name)
        if process.returncode == 0 and not endless:
            for case in waiting.values():
                case.outcome = "CRASH"
            return
        if last in waiting:
            case = waiting.pop(last)
            case.outcome, case.detail = ("ENDLESS", "") if endless else ("CRASH", f"exit code {process.returncode}")
            shutil.rmtree(folder / last)
        elif process.returncode != 0 and last == "":
            raise RuntimeError(f"{binary}: exit code {process.returncode}")


def follow(process) -> tuple:
    """The last case that was begun, and whether it had to be ended."""
    last, since, rest = "", time.monotonic(), b""
    stream = process.stdout
    while True:
        ready, _, _ = select.select([stream], [], [], 1.0)
        if ready:
            part = stream.read1(65536)
            if not part:
                process.wait()
                return last, False
            *lines, rest = (rest + part).split(b"\n")
            if lines:
                last, since = lines[-1].decode(), time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            process.kill()
            process.wait()
            return last, True


def lay_out(case, own: pathlib.Path) -> None:
    model = onnx.load_from_string(case.model)
    listed = []
    for at, (name, value) in enumerate(zip(input_names(model), case.inputs)):
        file = f"input_{at}.bin"
        listed.append({"name": name, "datatype": datatype(value), "shape": value.shape, "file": file})
        (own / file).write_bytes(to_raw(value))
    (own / "inputs.json").write_text(json.dumps(listed))
    (own / "model.onnx").write_bytes(case.model)


def judge(case, own: pathlib.Path) -> None:
    answer = json.loads((own / "answer.json").read_text())
    if answer.get("failed"):
        case.outcome, case.detail = f"refused at {answer['failed']}", answer["error"]
        return
    found = [from_raw((own / part["file"]).read_bytes(), part["datatype"], part["shape"]) for part in answer["outputs"]]
    try:
        values.judge(case, found)
    except Unservable as error:
        case.outcome, case.detail = "not a tensor", str(error)
