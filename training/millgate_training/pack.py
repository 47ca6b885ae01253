"""Packs the bundle of docs/bundles.md and reads it back before it replaces the old one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import torch
from safetensors.numpy import save_file

from . import card, check, seal, variants
from .config import (
    BUNDLE,
    DEFAULT_RISK,
    DELTA,
    DROP_BELOW,
    EMBEDDING,
    ENCODER,
    EXPERTS,
    GATE,
    LABELS,
    MEAN,
    MODALITIES,
    REFERENCES,
    STD,
    TASK,
    VERSION,
    K,
)
from .decide import Mixture
from .gate import HIDDEN
from .image import png
from .outputs import inputs_of, parts_of
from .runtime import Bundle

GOLDEN_ROWS = 3
# Golden samples come from these two test parts alone: their licences let the images travel.
DECISIONS = {
    "deeppcb": ["normal", "open", "short", "pinhole", "spurious_copper"],
    "xsdd": ["red iron", "slag inclusion", "surface scratch"],
}
UPLINK_BYTES = {"deeppcb": 160, "xsdd": 9000, "bsdata": 9000}  # until `evaluate` has measured them
GATE_MACS = (EMBEDDING + len(MODALITIES)) * HIDDEN + HIDDEN * len(EXPERTS)


def cost_of(work, name):
    return torch.load(work / "models" / f"{name}.pt")["cost"]["macs"]


def shape(model):
    return {"shape": [1, model.size, model.size], "preprocess": {"mean": MEAN, "std": STD}}


def modality(name):
    grey = {"name": name, "kind": "image", "unit": "grey level 0-255", "channels": 1}
    return grey | ({"reference": REFERENCES[name]} if name in REFERENCES else {})


def describe(work, calibration, results):
    """The manifest, except golden decisions and digests."""
    bytes_up = results.get("uplink_bytes", UPLINK_BYTES)
    head = {
        "format": 2,
        "name": BUNDLE,
        "version": VERSION,
        "description": "Visual inspection of circuit boards, hot-rolled steel and ball screws",
        "licence": "MIT AND Apache-2.0 AND CC-BY-SA-4.0",
    }
    experts = []
    for m in EXPERTS:
        bias, confidence, gate = (round(v, 6) for v in calibration["competence"][m.name])
        up = bytes_up[m.products[0]] if m.tier == "cloud" else 0
        experts.append(
            {
                "name": m.name,
                "tier": m.tier,
                "tasks": [TASK],
                "labels": m.labels,
                "feature_dims": 96 if m.trunk == "small" else 192,
                "substitutes": list(m.substitutes),
                "price": m.price,
                "cost": {"macs": cost_of(work, m.name), "uplink_bytes": int(up)},
                "competence": {"bias": bias, "confidence": confidence, "gate": gate},
                "inputs": [{"modality": name} | shape(m) for name in m.inputs],
            }
        )
    thresholds = [
        {
            "product": product,
            "risk": risk,
            "threshold": threshold,
            "calibration_samples": samples,
            "calibration_kept": kept,
            "calibration_errors": errors,
        }
        for product, risk, threshold, kept, errors, samples in calibration["thresholds"]
    ]
    encoder = {"name": ENCODER.name, "modality": "image", "dims": EMBEDDING} | shape(ENCODER)
    return {
        "head": head,
        "modalities": [modality(n) for n in MODALITIES],
        "tasks": [{"name": TASK, "k": K, "labels": LABELS}],
        "encoders": [encoder | {"cost": {"macs": cost_of(work, ENCODER.name)}}],
        "gate": {"name": GATE, "cost": {"macs": GATE_MACS}},
        "experts": experts,
        "combine": {"k_min": 1, "drop_below": DROP_BELOW, "sharpness": calibration["sharpness"]},
        "offload": {"default_risk": DEFAULT_RISK, "delta": DELTA, "thresholds": thresholds},
        "golden": {"relative_tolerance": 1e-3, "absolute_tolerance": 1e-4, "decisions": []},
    }


def golden_models(work, folder, bundle):
    """Inputs and outputs of each model; the screw experts see steel, so that no image of theirs is published."""
    columns = {p: parts_of(work, p, "test") for p in DECISIONS}

    def some(product):
        rows = np.linspace(0, len(columns[product]["y"]) - 1, GOLDEN_ROWS + 2).astype(int)[1:-1]
        return {k: v if v is None else v[rows] for k, v in columns[product].items()}

    for m in [ENCODER, *EXPERTS]:
        feed = inputs_of(m, some(m.products[0] if m.products[0] in DECISIONS else "xsdd"))
        golden(folder, bundle, m.name, feed)
        if m is ENCODER:
            embedding = bundle.run(m.name, feed)[0][:, None]
    presence = np.array([[1, 1], [1, 0], [1, 1]], np.float32)
    golden(folder, bundle, GATE, {"embeddings": embedding, "presence": presence})


def golden(folder, bundle, name, feed):
    outputs = [o.name for o in bundle.sessions[name].get_outputs()]
    tensors = {f"in.{k}": np.ascontiguousarray(v) for k, v in feed.items()}
    tensors |= {f"out.{k}": v for k, v in zip(outputs, bundle.run(name, feed))}
    path = folder / "golden" / f"{name}.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)


def golden_decisions(work, folder, bundle):
    """One test image of several classes, decided by the local experts alone; the first board once more without template."""
    rows = []
    for product, classes in DECISIONS.items():
        columns = parts_of(work, product, "test")
        for name in classes:
            index = np.flatnonzero(columns["class"] == name)[:12]
            few = {k: v if v is None else v[index] for k, v in columns.items()}
            batch = bundle.batch(few)
            answers = [Mixture(batch, replace(bundle.rules, drop_below=d)).local for d in (0.21, 0.29)]
            same = np.all((answers[0].weights > 0) == (answers[1].weights > 0), 1)  # no expert on the brink of being dropped
            good = same & (answers[0].verdict == LABELS.index(f"{product}/{name}"))
            i = int(np.flatnonzero(good)[0]) if good.any() else 0
            stem = f"golden/{'pcb' if product == 'deeppcb' else 'steel'}-{name.replace(' ', '-').replace('_', '-')}"
            two_level = columns["templates"] is not None
            (folder / f"{stem}.png").write_bytes(png(few["images"][i], two_level))
            parts = {"image": f"{stem}.png"}
            if two_level:
                (folder / f"{stem}.template.png").write_bytes(png(few["templates"][i], two_level))
                parts["template"] = f"{stem}.template.png"
            rows.append({"parts": parts})
    board = next(r["parts"]["image"] for r in rows if "open" in r["parts"]["image"])
    rows.append({"parts": {"image": board}})
    for row in rows:
        row |= {"task": TASK} | check.decide_files(bundle, folder, row)
    return rows


def run(data, work, out, results=None):
    del data
    calibration = json.loads((work / "calibration.json").read_text())
    measured = json.loads(results.read_text()) if results else {}
    folder = seal.beside(out)
    (folder / "golden").mkdir(parents=True)
    for name in [ENCODER.name, GATE, *[m.name for m in EXPERTS]]:
        shutil.copytree(work / "export" / name, folder / name)
    written = describe(work, calibration, measured)
    rounded = calibration | {
        "competence": {m["name"]: list(m["competence"].values()) for m in written["experts"]},
    }
    bundle = Bundle(folder, rounded)
    golden_models(work, folder, bundle)
    if (work / "int8.json").exists():
        variants.add(work, folder, written)
    written["golden"]["decisions"] = golden_decisions(work, folder, bundle)
    (folder / "MODEL_CARD.md").write_text(card.text(written, measured))
    seal.seal(folder, written, out)
