"""What the bundle knows of its products: dispositions, bounds of their pictures, banks of known samples, and thresholds for
samples whose product is known beforehand. It is added to a bundle that is already packed, without PyTorch.

Each detector is calibrated by leaving groups out: a sample's score is its distance to a bank without its group (boards: without
its family). What ships holds all groups. Experts' own features are calibrated on samples that the expert was not trained on.
"""

import json
import shutil

import numpy as np
import onnx
from safetensors.numpy import load_file, save_file

from . import card, check, manifest, novelty, report, seal
from .certify import certify, fit_competence
from .config import CLASSES, ENCODER, EXPERTS, FOLDS, LABELS, MEAN, PRODUCTS, RISKS, SEED, SETTLED_BY, STD, TASK, VERSION
from .decide import Batch, Mixture, Rules, softmax
from .experts import CLOUD, COLUMNS, PRICES, PRODUCT_OF_LABEL, eligibility
from .image import grey, png, resize_all, tensor
from .novelty import PICTURE, Bank, run_in_batches, together
from .onnx_files import session
from .outputs import parts_of
from .runtime import Bundle

NEIGHBOURS = 5
FALSE_ALARMS = 0.02
SKIPPED = 1  # ReLUs of the board expert that are not pooled: the first has half of all numbers
KNOWN = ["fit", "gate", "val"]
UNTRAINED = ["gate", "val"]
GROUP_FOLDS = 8
ROWS = {PICTURE: 1500, "expert:pcb-s": 1000, "expert:steel-s": 1500}
# Detectors of each product; an expert's features count where no sample of `fit` shapes them (frozen) or by `gate` and `val` alone.
DETECTORS = {"deeppcb": [PICTURE, "expert:pcb-s"], "xsdd": ["expert:steel-s"], "bsdata": [PICTURE]}
FROZEN = [PICTURE, "expert:steel-s"]
ACCEPTED = ["deeppcb/normal", "bsdata/clean"]
BLACK = "golden/odd/black.png"
BACKBONE_MACS = 8_695_808  # of its first three stages at 64 x 64
MARGIN = 0.25  # of the range between the least and the most of known pictures
LEAST_MARGIN = {"brightness": 5, "contrast": 2, "saturated": 0.02, "dark": 0.02, "sharpness": 0.01}
MEASURES = list(LEAST_MARGIN)


def give_features(folder, backbone):
    """The output `nov` of the two experts that get one; their other outputs must stay the same, bit for bit. Gives those
    that had none."""
    stage = onnx.load(backbone).graph
    adds = {"pcb-s": lambda g: novelty.add_pools(g, SKIPPED), "steel-s": lambda g: novelty.add_backbone(g, stage)}
    given = []
    for name, add in adds.items():
        path = folder / name / "1" / "model.onnx"
        model = onnx.load(path)
        if any(o.name == "nov" for o in model.graph.output):
            continue
        add(model.graph)
        onnx.checker.check_model(model, full_check=True)
        golden = load_file(folder / "golden" / f"{name}.safetensors")
        feed = {k[3:]: v for k, v in golden.items() if k.startswith("in.")}
        before = session(path).run(None, feed)
        path.write_bytes(model.SerializeToString())
        *after, nov = session(path).run(None, feed)
        assert all(np.array_equal(a, b) for a, b in zip(before, after)), name
        save_file(golden | {"out.nov": nov}, folder / "golden" / f"{name}.safetensors")
        (folder / "golden" / f"{name}.safetensors").chmod(0o644)
        given.append(name)
    return given


def features(sessions, detector, images, templates):
    """Rows of features, and the sizes of their blocks."""
    if detector == PICTURE:
        return novelty.picture(sessions[ENCODER.name], images)
    model = next(m for m in EXPERTS if f"expert:{m.name}" == detector)
    pixels = {"image": images, "template": templates}
    feed = {name: tensor(resize_all(pixels[name], model.size), MEAN, STD) for name in model.inputs}
    found = run_in_batches(sessions[model.name], "nov", feed)
    return found, [found.shape[1]]


def known(work, product):
    """Columns of everything but the test part, with the part of each sample."""
    parts = [(part, parts_of(work, product, part)) for part in KNOWN]
    columns = {k: None if v is None else np.concatenate([c[k] for _, c in parts]) for k, v in parts[0][1].items()}
    return columns | {"part": np.concatenate([np.full(len(c["y"]), part) for part, c in parts])}


def some(rows, most, rng):
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def bank_of(x, blocks, columns, detector, rng):
    """The bank that ships, calibrated on scores against banks without the sample's group; and the rows that it holds."""
    names = rng.permutation(np.unique(columns["group"]))
    counted = np.ones(len(x), bool) if detector in FROZEN else np.isin(columns["part"], UNTRAINED)
    distances = np.full(len(x), np.nan)
    folds = min(GROUP_FOLDS, len(names))
    for fold in range(folds):
        out = np.isin(columns["group"], names[fold::folds])
        rows = some(np.flatnonzero(~out), ROWS[detector], rng)
        distances[out & counted] = Bank.of(x[rows], blocks).distances(x[out & counted], NEIGHBOURS)
    rows = some(np.arange(len(x)), ROWS[detector], rng)
    bank = Bank.of(x[rows], blocks)
    bank.calibrate(distances[counted])
    return bank, rows


def measures(images):
    """What the picture checks look at, of pictures of at most 128 pixels a side."""
    pixels = images.astype(np.float64)
    variance = pixels.var((1, 2))
    inner = pixels[:, 1:-1, 1:-1]
    around = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1] + pixels[:, 1:-1, :-2] + pixels[:, 1:-1, 2:]
    sharpness = (around - 4 * inner).var((1, 2)) / np.maximum(variance, 1e-12)
    return {
        "brightness": pixels.mean((1, 2)),
        "contrast": np.sqrt(variance),
        "saturated": (images >= 250).mean((1, 2)),
        "dark": (images <= 5).mean((1, 2)),
        "sharpness": np.where(variance > 0, sharpness, 0),
    }


def bounds(images, modality):
    """Least and most of the known pictures and a margin; a lower bound never falls to what a blank picture has."""
    limits = {"brightness": 255, "saturated": 1, "dark": 1}
    out = {"modality": modality, "samples": len(images)}
    for name, values in measures(images).items():
        low, high = float(values.min()), float(values.max())
        margin = max(MARGIN * (high - low), LEAST_MARGIN[name])
        least = max(low - margin, low / 2) if name in ("contrast", "sharpness") else max(low - margin, 0)
        out[name] = [round(float(least), 4), round(float(min(high + margin, limits.get(name, np.inf))), 4)]
    return out


def refused_by(checks, images):
    found = measures(images)
    return np.any([(found[k] < checks[k][0]) | (found[k] > checks[k][1]) for k in MEASURES], 0)


def restricted(bundle, work, product):
    """Thresholds for samples known to be of this product: nothing else may be the answer. Competence is fitted anew on four
    folds for the fifth, so that no score has seen its own label."""
    parts = [parts_of(work, product, part) for part in SETTLED_BY[product]]
    columns = {k: None if v is None else np.concatenate([c[k] for c in parts]) for k, v in parts[0].items()}
    truth = np.array([LABELS.index(f"{product}/{c}") for c in columns["class"]])
    batch = bundle.batch(columns)
    inside = PRODUCT_OF_LABEL == PRODUCTS.index(product)
    batch.p[:, :, ~inside] = 0
    total = batch.p.sum(2, keepdims=True)
    batch.p = np.divide(batch.p, total, out=np.zeros_like(batch.p), where=total > 0)
    eligible = batch.eligible & np.array([inside[COLUMNS[m.name]].any() for m in EXPERTS])
    batch = Batch(batch.scores, batch.p, eligible)
    share = softmax(batch.scores, eligible)
    right = batch.p.argmax(2) == truth[:, None]
    rng = np.random.default_rng([SEED, 7])
    names = rng.permutation(np.unique(columns["source"]))
    risk, verdict = np.zeros(len(truth)), np.zeros(len(truth), int)
    for fold in range(FOLDS):
        out = np.isin(columns["source"], names[fold::FOLDS])
        competence = bundle.rules.competence.copy()
        for e in range(len(EXPERTS)):
            r = ~out & eligible[:, e]
            if r.any():
                competence[e] = fit_competence(batch.p[r, e].max(1), share[r, e], right[r, e], np.ones(r.sum()))
        rules = Rules(CLOUD, PRICES, competence, bundle.rules.sharpness, substitutes=bundle.rules.substitutes)
        local = Mixture(batch.subset(out), rules).local
        risk[out], verdict[out] = local.risk, local.verdict
    rows = []
    for target in RISKS:
        found = certify(risk, verdict != truth, target)
        if found:
            counts = {"calibration_samples": len(truth), "calibration_kept": found[1], "calibration_errors": found[2]}
            rows.append({"product": product, "risk": target, "threshold": found[0], **counts, "restricted": True})
    return rows


def p_values(banks, sessions, images, templates):
    """Of all detectors together; those whose expert lacks an input do not count."""
    each = []
    for detector, bank in banks.items():
        if detector == "expert:pcb-s" and templates is None:
            continue
        each.append(bank.p(features(sessions, detector, images, templates)[0], NEIGHBOURS))
    return together(each)


def made_up(rng, count=60, side=128):
    """Pictures of nothing: by kind."""
    y, x = np.mgrid[:side, :side]
    noise = [rng.integers(0, 256, (side, side)) for _ in range(count)]
    cap = [rng.uniform(0, 12) + np.abs(rng.normal(0, rng.uniform(0.5, 4), (side, side))) for _ in range(count)]
    ramps = [x * np.cos(a) + y * np.sin(a) for a in rng.uniform(0, 2 * np.pi, count)]
    kinds = {
        "black": np.zeros((1, side, side)),
        "white": np.full((1, side, side), 255),
        "one grey": np.stack([np.full((side, side), v) for v in range(5, 255, 10)]),
        "noise": np.stack(noise),
        "lens cap": np.stack(cap),
        "gradient": np.stack([255 * (r - r.min()) / np.ptp(r) for r in ramps]),
    }
    return {k: v.clip(0, 255).astype(np.uint8) for k, v in kinds.items()}


def measure(sessions, work, entries, banks):
    """Share called unknown: of each product's own test part, of the other products and of pictures of nothing."""
    rng = np.random.default_rng([SEED, 8])
    tests = {p: parts_of(work, p, "test") for p in [*PRODUCTS, "magtile"]}
    made = made_up(rng)
    rows = {}
    for entry in entries:
        name = entry["name"]
        own = tests[name]
        p = p_values(banks[name], sessions, own["images"], own["templates"])
        refused = refused_by(entry["checks"][0], own["images"])
        rows[name] = {"images": len(p), "bound": FALSE_ALARMS, "unknown": float(np.mean(p <= FALSE_ALARMS))}
        rows[name] |= {"unknown or refused": float(np.mean((p <= FALSE_ALARMS) | refused)), "foreign": {}}
        for other, images in [(k, c["images"]) for k, c in tests.items() if k != name] + list(made.items()):
            few = images[some(np.arange(len(images)), 300, rng)]
            template = own["templates"]
            paired = None if template is None else template[rng.choice(len(template), len(few))]
            p = p_values(banks[name], sessions, few, paired)
            refused = refused_by(entry["checks"][0], few)
            found = {"images": len(few), "by novelty": float(np.mean(p <= FALSE_ALARMS))}
            rows[name]["foreign"][other] = found | {"in all": float(np.mean((p <= FALSE_ALARMS) | refused))}
    return rows


def goldens(folder, written, sessions, banks, bundle):
    """Golden decisions that keep their labels: those whose picture is not one of the few known ones that are called unknown."""
    kept = []
    for row in written["golden"]["decisions"]:
        product = next((e for e in written["products"] if e["name"] == row["label"].split("/")[0]), None)
        if product:
            images, templates = (grey(folder / row["parts"][k])[None] if k in row["parts"] else None for k in ("image", "template"))
            p = p_values(banks[product["name"]], sessions, images, templates)[0]
            refused = refused_by(product["checks"][0], images)[0]
            if p <= FALSE_ALARMS or refused:
                print(f"{row['parts']['image']} is no golden decision any more: p {p:.4f}, refused {refused}")
                continue
        if row["label"] != "unknown":
            kept.append(row)
    return [*kept, black(folder, written, sessions, banks, bundle)]


def black(folder, written, sessions, banks, bundle):
    """The golden decision on a black picture: unknown."""
    pixels = np.zeros((128, 128), np.uint8)
    (folder / BLACK).parent.mkdir(exist_ok=True)
    (folder / BLACK).write_bytes(png(pixels))
    row = {"parts": {"image": BLACK}, "task": TASK}
    found = check.decide_files(bundle, folder, row)
    product = found["label"].split("/")[0]
    p = p_values(banks[product], sessions, pixels[None], None)[0]
    assert p <= FALSE_ALARMS, (found, p)
    return row | found | {"label": "unknown"}


def run(data, work, out, results, backbone):
    del data
    folder = seal.beside(out)
    shutil.copytree(out, folder)
    (folder / "model.sig").unlink(missing_ok=True)
    shutil.rmtree(folder / "novelty", ignore_errors=True)
    (folder / "novelty").mkdir()
    written = manifest.read(folder)
    written["head"]["version"] = VERSION
    if "steel-s" in give_features(folder, backbone):
        next(e for e in written["experts"] if e["name"] == "steel-s")["cost"]["macs"] += BACKBONE_MACS
    bundle = Bundle(folder, manifest.calibration(folder))
    kept = [t for t in written["offload"]["thresholds"] if not t.get("restricted")]
    written["products"], banks = [], {}
    for number, product in enumerate(PRODUCTS):
        columns = known(work, product)
        rng = np.random.default_rng([SEED, 6, number])
        tensors, names, banks[product] = {}, {}, {}
        for detector in DETECTORS[product]:
            x, blocks = features(bundle.sessions, detector, columns["images"], columns["templates"])
            bank, rows = bank_of(x, blocks, columns, detector, rng)
            banks[product][detector] = bank
            labels = np.array([LABELS.index(f"{product}/{c}") for c in columns["class"][rows]])
            tensors |= bank.tensors(detector, labels)
            names[detector] = [f"{product}/{i}" for i in columns["ids"][rows]]
        file = f"novelty/{product}.safetensors"
        save_file(tensors, folder / file, metadata={"samples": json.dumps(names)})
        (folder / file).chmod(0o644)
        samples = max(len(b.calibration) for b in banks[product].values())
        found = {"file": file, "neighbours": NEIGHBOURS, "detectors": DETECTORS[product], "false_alarms": FALSE_ALARMS}
        labels = [f"{product}/{c}" for c in CLASSES[product]]
        written["products"].append(
            {
                "name": product,
                "dispositions": {v: "accept" if v in ACCEPTED else "reject" for v in labels},
                "novelty": found | {"calibration_samples": samples},
                "checks": [bounds(columns["images"], "image")],
            }
        )
        kept += restricted(bundle, work, product)
    written["offload"]["thresholds"] = kept
    written["golden"]["decisions"] = goldens(folder, written, bundle.sessions, banks, bundle)
    measured = json.loads(results.read_text()) | {"novelty": measure(bundle.sessions, work, written["products"], banks)}
    print(json.dumps(measured["novelty"], indent=1))
    (folder / "MODEL_CARD.md").write_text(card.text(written, measured))
    seal.seal(folder, written, out)
    results.write_text(json.dumps(measured, indent=1) + "\n")
    (results.parent / "README.md").write_text(report.text(measured))
