"""INT8 variants in a bundle: their manifest entries, and the step that adds them to a bundle that is already packed."""

import json
import math
import shutil

import numpy as np
from safetensors.numpy import load_file

from . import card, manifest, report, seal
from .config import INT8, VERSION
from .onnx_files import session

# What a golden sample's logits may differ by is what they did, twice over: kernels of other processors round otherwise.
SLACK, LEAST_TOLERANCE = 2, 0.05


def path(work, expert):
    return work / "int8" / f"{expert}.onnx"


def speed_up(row):
    """The least of all batches measured."""
    return min(t["gain"] for t in row["cpu"].values())


def accuracy_lost(row):
    """On the parts that no network was trained on, as a share; negative where some was won."""
    held_out = row["gate and val"]
    return held_out["fp32"]["accuracy"] - held_out["int8"]["accuracy"]


def difference(folder, expert):
    """Largest distance of a logit from FP32's on the expert's golden samples; the labels must be the same."""
    tensors = load_file(folder / "golden" / f"{expert}.safetensors")
    feed = {k[3:]: v for k, v in tensors.items() if k.startswith("in.")}
    got, want = session(folder / expert / "1" / INT8).run(["logits"], feed)[0], tensors["out.logits"]
    assert np.array_equal(got.argmax(1), want.argmax(1)), expert
    return float(np.abs(got - want).max())


def entry(row, difference):
    tolerance = max(LEAST_TOLERANCE, math.ceil(100 * SLACK * difference) / 100)
    measured = {"speed_up": math.floor(100 * speed_up(row)) / 100, "accuracy_lost": round(accuracy_lost(row), 6)}
    return {"file": INT8, "precision": "int8", "engine": "onnxruntime", "logit_tolerance": tolerance, "measured": measured}


def add(work, folder, written):
    """Puts those that `quantise` kept into an open bundle and its manifest, in place of what was there."""
    rows = json.loads((work / "int8.json").read_text())["experts"]
    for expert in written["experts"]:
        name = expert["name"]
        for old in expert.pop("variants", []):
            (folder / name / "1" / old["file"]).unlink()
        if name in rows and rows[name]["ships"]:
            shutil.copyfile(path(work, name), folder / name / "1" / INT8)
            expert["variants"] = [entry(rows[name], difference(folder, name))]


def run(data, work, out, results):
    """Adds them to the bundle `out`, and what was measured to its card and to the results."""
    del data
    folder = seal.beside(out)
    shutil.copytree(out, folder)
    (folder / "model.sig").unlink(missing_ok=True)  # it signed the old manifest
    written = manifest.read(folder)
    written["head"]["version"] = VERSION
    add(work, folder, written)
    measured = json.loads(results.read_text()) | {"int8": json.loads((work / "int8.json").read_text())}
    (folder / "MODEL_CARD.md").write_text(card.text(written, measured))
    seal.seal(folder, written, out)
    results.write_text(json.dumps(measured, indent=1) + "\n")
    (results.parent / "README.md").write_text(report.text(measured))
