"""Reads a packed bundle back as strictly as the Rust side does, and repeats its golden samples."""

import hashlib
import tomllib

import numpy as np
from safetensors.numpy import load_file
from scipy.special import softmax

from . import manifest
from .config import LABELS
from .decide import Mixture
from .image import grey
from .novelty import PICTURE
from .onnx_files import session
from .runtime import Bundle

TOP = {"format", "name", "version", "description", "licence", "modalities", "tasks", "encoders", "gate", "experts", "combine",
       "offload", "golden", "digests"}  # fmt: skip
KEYS = {
    "modalities": {"name", "kind", "unit", "channels"},
    "tasks": {"name", "k", "labels"},
    "encoders": {"name", "modality", "dims", "shape", "preprocess", "cost"},
    "experts": {"name", "tier", "tasks", "labels", "feature_dims", "substitutes", "price", "cost", "competence", "inputs"},
    "inputs": {"modality", "shape", "preprocess"},
    "variants": {"file", "precision", "engine", "logit_tolerance", "measured"},
    "thresholds": {"product", "risk", "threshold", "calibration_samples", "calibration_kept", "calibration_errors"},
    "decisions": {"parts", "task", "label", "probability", "risk", "experts"},
}

OPTIONAL = {"modalities": {"reference"}, "experts": {"variants"}, "thresholds": {"restricted"}}
VARIANT_TOLERANCE = 0.05  # of a probability


def decide_files(bundle, folder, row):
    """Local decision on image files, in the words of [[golden.decisions]]."""
    parts = row["parts"]
    images = grey(folder / parts["image"])[None]
    templates = grey(folder / parts["template"])[None] if "template" in parts else None
    columns = {"images": images, "templates": templates, "y": np.zeros(1)}
    local = Mixture(bundle.batch(columns), bundle.rules).local
    names = list(bundle.sessions)[2:]
    order = np.argsort(-local.weights[0], kind="stable")
    return {
        "label": LABELS[int(local.verdict[0])],
        "probability": round(float(local.probability[0]), 4),
        "risk": round(float(local.risk[0]), 4),
        "experts": [names[e] for e in order if local.weights[0, e] > 0],
    }


def check(folder):
    m = tomllib.loads((folder / "bundle.toml").read_text())
    assert set(m) - {"products"} == TOP, set(m) ^ TOP
    for name in ("modalities", "tasks", "encoders", "experts"):
        for row in m[name]:
            assert set(row) - OPTIONAL.get(name, set()) == KEYS[name], (name, set(row) ^ KEYS[name])
    assert set(m["gate"]) == {"name", "cost"}
    assert set(m["combine"]) == {"k_min", "drop_below", "sharpness"}
    assert set(m["offload"]) == {"default_risk", "delta", "thresholds"}
    assert set(m["golden"]) == {"relative_tolerance", "absolute_tolerance", "decisions"}
    names = [e["name"] for e in m["experts"]]
    labels = m["tasks"][0]["labels"]
    modalities = [x["name"] for x in m["modalities"]]
    for e in m["experts"]:
        assert set(e["labels"]) <= set(labels) and set(e["substitutes"]) <= set(names) - {e["name"]}
        assert e["tier"] in ("edge", "cloud") and set(e["cost"]) == {"macs", "uplink_bytes"}
        assert set(e["competence"]) == {"bias", "confidence", "gate"}
        for i in e["inputs"]:
            assert set(i) == KEYS["inputs"] and i["modality"] in modalities
            assert set(i["preprocess"]) == {"mean", "std"}
        outputs = {"logits": [len(e["labels"])], "feat": [e["feature_dims"]], "fmap": [e["feature_dims"], 8, 8]}
        inputs = {i["modality"]: i["shape"] for i in e["inputs"]}
        graph(folder, e["name"], inputs, outputs)
        for v in e.get("variants", []):
            assert set(v) == KEYS["variants"] and (v["precision"], v["engine"]) == ("int8", "onnxruntime")
            assert 0 < v["logit_tolerance"] <= 1 and set(v["measured"]) == {"speed_up", "accuracy_lost"}
            graph(folder, e["name"], inputs, outputs, v["file"])
            like(folder, e["name"], v)
    for e in m["encoders"]:
        graph(folder, e["name"], {e["modality"]: e["shape"]}, {"embedding": [e["dims"]]})
    inputs = {"embeddings": [len(m["encoders"]), m["encoders"][0]["dims"]], "presence": [len(modalities)]}
    graph(folder, m["gate"]["name"], inputs, {"scores": [len(names)]})
    for t in m["offload"]["thresholds"]:
        assert set(t) - OPTIONAL["thresholds"] == KEYS["thresholds"] and any(v.startswith(t["product"] + "/") for v in labels)
    products(folder, m, names, labels)
    digests(folder, m["digests"])
    golden(folder, m, names)


def products(folder, m, names, labels):
    for product in m.get("products", []):
        assert set(product) <= {"name", "dispositions", "costs", "checks", "novelty"}, product["name"]
        assert all(v in labels and v.startswith(product["name"] + "/") for v in product["dispositions"])
        bank = product["novelty"]
        tensors = load_file(folder / bank["file"])
        for detector in bank["detectors"]:
            assert detector == PICTURE or detector.removeprefix("expert:") in names, detector
            one = {k: tensors[f"{detector}.{k}"] for k in ("scale", "rows", "step", "zero", "unit", "calibration", "labels")}
            n, dims = one["rows"].shape
            assert one["rows"].dtype == np.int8 and len(one["labels"]) == n >= bank["neighbours"]
            assert all(one[k].shape == (dims,) and one[k].dtype == np.float32 for k in ("scale", "step", "zero")), detector
            assert np.all(np.diff(one["calibration"]) >= 0) and one["labels"].max() < len(labels)


def graph(folder, name, inputs, outputs, file="model.onnx"):
    s = session(folder / name / "1" / file)
    for declared, found in ((inputs, s.get_inputs()), (outputs, s.get_outputs())):
        shapes = {x.name: x.shape for x in found if x.name != "nov"}  # of any size
        assert list(shapes) == list(declared), (name, shapes)
        for k, shape in declared.items():
            assert isinstance(shapes[k][0], str) and shapes[k][1:] == shape, (name, k, shapes[k], shape)


def like(folder, name, variant):
    """A variant gives the labels of its expert's golden samples, with nearly their logits and probabilities."""
    tensors = load_file(folder / "golden" / f"{name}.safetensors")
    feed = {k[3:]: v for k, v in tensors.items() if k.startswith("in.")}
    got = session(folder / name / "1" / variant["file"]).run(["logits"], feed)[0]
    want = tensors["out.logits"]
    assert np.array_equal(got.argmax(1), want.argmax(1)), name
    assert np.abs(got - want).max() <= variant["logit_tolerance"], name
    assert np.abs(softmax(got, 1) - softmax(want, 1)).max() < VARIANT_TOLERANCE, name


def digests(folder, listed):
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"bundle.toml", "model.sig"}
    assert files == set(listed), files ^ set(listed)
    for name, value in listed.items():
        assert value == "sha256:" + hashlib.sha256((folder / name).read_bytes()).hexdigest(), name


def golden(folder, m, names):
    absolute, relative = m["golden"]["absolute_tolerance"], m["golden"]["relative_tolerance"]
    for name in [m["encoders"][0]["name"], m["gate"]["name"], *names]:
        tensors = load_file(folder / "golden" / f"{name}.safetensors")
        feed = {k[3:]: v for k, v in tensors.items() if k.startswith("in.")}
        s = session(folder / name / "1" / "model.onnx")
        for rows in (slice(None), slice(0, 1)):  # a batch must not change an answer
            for output, got in zip(s.get_outputs(), s.run(None, {k: v[rows] for k, v in feed.items()})):
                want = tensors[f"out.{output.name}"][rows]
                assert np.all(np.abs(got - want) <= absolute + relative * np.abs(want)), (name, output.name)
    bundle = Bundle(folder, manifest.calibration(folder))
    for row in m["golden"]["decisions"]:
        assert set(row) - {"labels"} == KEYS["decisions"] and set(row["parts"]) <= {x["name"] for x in m["modalities"]}, row
        if row["label"] == "unknown":
            continue  # `products` has looked at it
        got = decide_files(bundle, folder, row)
        assert got["label"] == row["label"] and got["experts"] == row["experts"], (row, got)
        assert abs(got["probability"] - row["probability"]) < 0.01 and abs(got["risk"] - row["risk"]) < 0.01, (row, got)
