"""INT8 variants of the pool's experts, for ONNX Runtime: made from the exported or the packed FP32 files, kept where they pay.

Static quantisation to QDQ with signed weights per channel and unsigned activations (Jacob et al., arXiv:1712.05877;
Krishnamoorthi, arXiv:1806.08342). The first convolution reads one to three channels and stays FP32, which is faster; so does
everything after the last one, whose cost is nothing and whose error would be the answer's.
"""

import json
import logging
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from safetensors.numpy import load_file
from scipy.special import softmax

from . import manifest, variants
from .config import DEFAULT_RISK, EXPERTS, SEED
from .decide import Mixture
from .experts import PRODUCT_OF_LABEL
from .onnx_files import session, widen
from .outputs import inputs_of, parts_of
from .runtime import Bundle
from .scores import Test, ece, per_product, score

IMAGES = 512  # of the fit part, for the ranges of the activations
# Add and Relu too: a sum or a clamp in FP32 between two convolutions costs a conversion to and fro.
QUANTISED = ["Conv", "Add", "Relu"]
# Weights of 7 bits lose nothing measurable, and their sums of pairs fit the 16-bit lanes of processors without VNNI.
SEVEN_BITS = True
LEAST_GAIN = 1.15
MOST_LOST = 0.002  # of the accuracy on the parts that no network was trained on
BATCHES = [1, 4, 8]
ROUNDS, RUNS = 101, 3


class Images(CalibrationDataReader):
    def __init__(self, feed, batch=16):
        n = len(next(iter(feed.values())))
        self.batches = iter([{k: v[i : i + batch] for k, v in feed.items()} for i in range(0, n, batch)])

    def get_next(self):
        return next(self.batches, None)


def rows_of(columns, rows):
    return {k: v if v is None else v[rows] for k, v in columns.items()}


def some(columns, count):
    """The same few rows at every call."""
    n = len(columns["y"])
    return rows_of(columns, np.sort(np.random.default_rng(SEED).permutation(n)[:count]))


def quantise(source, target, feed):
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises a preparation that these graphs do not need
    wide = widen(source)
    first = next(n.name for n in wide.graph.node if n.op_type == "Conv")
    quantize_static(
        wide, target, Images(feed), quant_format=QuantFormat.QDQ, op_types_to_quantize=QUANTISED, nodes_to_exclude=[first],
        per_channel=True, reduce_range=SEVEN_BITS, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    onnx.checker.check_model(onnx.load(target), full_check=True)
    before, after = session(source), session(target)
    for kind in ("get_inputs", "get_outputs"):
        a, b = ([(x.name, x.type, x.shape) for x in getattr(s, kind)()] for s in (before, after))
        assert a == b, (a, b)


def processor():
    """Whether this machine multiplies 8-bit numbers in one instruction, which decides the gain."""
    with open("/proc/cpuinfo") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    lines = {k.strip(): v.strip() for k, v in lines.items()}
    flags = lines.get("flags", "").split()
    vnni = "VNNI" if {"avx512_vnni", "avx_vnni"} & set(flags) else "no VNNI"
    return f"{lines.get('model name', 'unknown')}, {vnni}"


def clock(sessions, feed):
    """Median CPU time of a run in microseconds for each session; they take turns, so that noise meets all of them."""
    times = [[] for _ in sessions]
    for k in range(ROUNDS + 5):
        for i in np.random.default_rng([SEED, k]).permutation(len(sessions)):
            start = time.process_time_ns()
            for _ in range(RUNS):
                sessions[i].run(None, feed)
            if k >= 5:
                times[i].append((time.process_time_ns() - start) / RUNS / 1000)
    return [float(np.median(t)) for t in times]


def logits_of(s, feed, batch=64):
    n = len(next(iter(feed.values())))
    return np.concatenate([s.run(["logits"], {k: v[i : i + batch] for k, v in feed.items()})[0] for i in range(0, n, batch)])


def compare(sessions, feed, truth):
    """Quality of both precisions on some samples, and how far apart they are."""
    wide, narrow = (logits_of(s, feed) for s in sessions)
    out = {"images": len(truth)}
    for name, z in (("fp32", wide), ("int8", narrow)):
        p = softmax(z.astype(np.float64), 1)
        out[name] = score(z.argmax(1), truth) | {"ece": ece(p.max(1), z.argmax(1) == truth)}
    return out | apart(wide, narrow)


def apart(wide, narrow):
    return {
        "same_label": float(np.mean(wide.argmax(1) == narrow.argmax(1))),
        "logit_difference": float(np.abs(wide - narrow).max()),
        "probability_difference": float(np.abs(softmax(wide, 1) - softmax(narrow, 1)).max()),
    }


def worth(row):
    """Whether the variant ships: fast enough at every batch, and no more than a little less accurate."""
    return variants.speed_up(row) >= LEAST_GAIN and variants.accuracy_lost(row) <= MOST_LOST + 1e-9


def measure(work, model, paths, golden):
    sessions = [session(p) for p in paths]
    columns = {part: parts_of(work, model.products[0], part) for part in ("gate", "val", "test")}
    both = {k: v if v is None else np.concatenate([v, columns["val"][k]]) for k, v in columns["gate"].items()}
    row = {"bytes": [p.stat().st_size for p in paths], "cpu": {}}
    for part, c in {"gate and val": both, "val": columns["val"], "test": columns["test"]}.items():
        row[part] = compare(sessions, inputs_of(model, c), c["y"])
    for n in BATCHES:
        wide, narrow = clock(sessions, inputs_of(model, rows_of(columns["test"], slice(n))))
        row["cpu"][str(n)] = {"fp32_us": wide, "int8_us": narrow, "gain": wide / narrow}
    if golden:
        tensors = load_file(golden / f"{model.name}.safetensors")
        feed = {k[3:]: v for k, v in tensors.items() if k.startswith("in.")}
        row["golden"] = apart(tensors["out.logits"], logits_of(sessions[1], feed))
    return row | {"ships": worth(row)}


def decisions(work, models, calibration, kept):
    """The whole mixture on test, its cloud experts in FP32 and in INT8."""
    bundle = Bundle(models, calibration)
    out = {}
    for name in ("fp32", "int8"):
        if name == "int8":
            bundle.sessions |= {m: session(variants.path(work, m)) for m in kept}
        test = Test(work, bundle)
        mixture = Mixture(test.batch, bundle.rules)
        asked = mixture.asks(PRODUCT_OF_LABEL, DEFAULT_RISK)
        out[name] = {
            "cloud only": per_product(mixture.cloud.verdict, test.truth),
            f"mixture at {DEFAULT_RISK:g}": per_product(mixture.verdicts(asked), test.truth),
        }
    return out


def run(data, work, bundle=None):
    """Of the exported models, or of a packed bundle's; the latter also shows the distance on its golden samples."""
    del data
    models, golden = (bundle, bundle / "golden") if bundle else (work / "export", None)
    calibration = manifest.calibration(bundle) if bundle else json.loads((work / "calibration.json").read_text())
    results = {"onnxruntime": ort.__version__, "processor": processor(), "images": IMAGES, "experts": {}}
    for model in (m for m in EXPERTS if m.tier == "cloud"):
        paths = [models / model.name / "1" / "model.onnx", variants.path(work, model.name)]
        paths[1].parent.mkdir(parents=True, exist_ok=True)
        quantise(*paths, inputs_of(model, some(parts_of(work, model.products[0], "fit"), IMAGES)))
        row = results["experts"][model.name] = measure(work, model, paths, golden)
        gains = ", ".join(f"{t['gain']:.2f}x at {n}" for n, t in row["cpu"].items())
        print(f"{model.name}: {gains}; {'kept' if row['ships'] else 'not worth it'}", flush=True)
        if not row["ships"]:
            paths[1].unlink()
    kept = [n for n, row in results["experts"].items() if row["ships"]]
    results["decisions"] = decisions(work, models, calibration, kept)
    (work / "int8.json").write_text(json.dumps(results, indent=1) + "\n")
