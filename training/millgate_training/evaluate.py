"""Measures the exported models on the test parts: results.json, a table and plots."""

import json

import numpy as np
import torch
from sklearn.metrics import f1_score

from . import codecs, plots, report
from .certify import certify
from .config import BASELINES, CLASSES, DEFAULT_RISK, ENCODER, EXPERTS, LABELS, PRODUCTS, RISKS, SEED
from .decide import Mixture
from .experts import PRODUCT_OF_LABEL
from .outputs import logits_of, parts_of
from .pack import GATE_MACS
from .runtime import Bundle
from .scores import Test, ece, per_product, score
from .train import load

RESPLITS = 200
CURVE = np.linspace(0, 1, 101)
NAMES = [m.name for m in EXPERTS]
MACS = "macs"


def modes(test, mixture):
    out = {
        "edge only": per_product(mixture.local.verdict, test.truth),
        "cloud only": per_product(mixture.cloud.verdict, test.truth),
        "always both": per_product(mixture.full.verdict, test.truth),
    }
    for risk in RISKS:
        asked = mixture.asks(PRODUCT_OF_LABEL, risk)
        table = per_product(mixture.verdicts(asked), test.truth)
        for p in PRODUCTS:
            table[p]["offload"] = float(asked[test.rows(p)].mean())
        table["all"]["offload"] = float(asked.mean())
        out[f"mixture at {risk:g}"] = table
    return out


def singles(test):
    """Every expert alone on the products it knows."""
    out = {}
    for e, m in enumerate(EXPERTS):
        rows = np.isin(test.product, [PRODUCTS.index(p) for p in m.products])
        verdict = test.batch.p[:, e].argmax(1)
        out[m.name] = {p: score(verdict[test.rows(p)], test.truth[test.rows(p)]) for p in m.products}
        out[m.name]["all"] = score(verdict[rows], test.truth[rows])
    return out


def dense(work, test):
    out = {}
    for m in BASELINES:
        net = load(m, work)
        verdict = np.concatenate([logits_of(net, m, c).argmax(1) for c in test.columns.values()])
        assert m.labels == LABELS
        cost = torch.load(work / "models" / f"{m.name}.pt")["cost"]
        out[m.name] = per_product(verdict, test.truth) | {MACS: cost["macs"], "weights": cost["weights"]}
    return out


def routers(mixture, truth, rows, share):
    """Random and oracle routers that offload the same share."""
    local, full = (mixture.local.verdict == truth)[rows], (mixture.full.verdict == truth)[rows]
    n = rows.sum()
    rescued = np.sum(~local & full)
    return {
        "random": float((1 - share) * local.mean() + share * full.mean()),
        "oracle": float(local.mean() + min(share, rescued / n)),
    }


def curve(mixture, truth, rows):
    """Accuracy when the riskiest share is offloaded, against random and oracle routers."""
    risk = mixture.local.risk[rows]
    order = np.argsort(-risk, kind="stable")
    local, full = (mixture.local.verdict == truth)[rows][order], (mixture.full.verdict == truth)[rows][order]
    n = len(order)
    ask = [round(c * n) for c in CURVE]
    gain = np.concatenate([[0], np.cumsum(full.astype(int) - local.astype(int))])
    ours = [float((local.sum() + gain[k]) / n) for k in ask]
    other = [routers(mixture, truth, rows, c) for c in CURVE]
    cloud = float((mixture.cloud.verdict == truth)[rows].mean())

    def first(level):
        good = [float(c) for c, a in zip(CURVE, ours) if a >= level - 1e-9]
        return good[0] if good else None

    return {
        "share": CURVE.tolist(),
        "mixture": ours,
        "random": [o["random"] for o in other],
        "oracle": [o["oracle"] for o in other],
        "cloud_only": cloud,
        "share_for_cloud_less_0.3pp": first(cloud - 0.003),
        "share_for_cloud": first(cloud),
    }


def macs_of(work, mixture, asked):
    """Mean multiply-accumulates per decision: at the edge, and in all."""
    each = np.array([torch.load(work / "models" / f"{n}.pt")["cost"]["macs"] for n in NAMES])
    front = torch.load(work / "models" / f"{ENCODER.name}.pt")["cost"]["macs"] + GATE_MACS
    edge = front + (mixture.local_set @ each)
    cloud = np.where(asked, mixture.cloud_set @ each, 0)
    return {"edge": float(edge.mean()), "all": float((edge + cloud).mean())}


def resplits(work, mixture, test):
    """How often a threshold certified on one random half is broken on the other, and how much it keeps."""
    z = np.load(work / "crossfit.npz")
    rng = np.random.default_rng(SEED)
    risk = np.concatenate([z["risk"], mixture.local.risk])
    verdict = np.concatenate([z["local"], mixture.local.verdict])
    wrong = verdict != np.concatenate([z["truth"], test.truth])
    n_calibration = len(z["truth"])
    product = PRODUCT_OF_LABEL[verdict]
    out = {}
    for target in RISKS:
        for k, name in enumerate(PRODUCTS):
            rows = np.flatnonzero(product == k)
            n = int(np.sum(rows < n_calibration))
            broken, kept, certified = 0, [], 0
            for _ in range(RESPLITS):
                mixed = rng.permutation(rows)
                a, b = mixed[:n], mixed[n:]
                found = certify(risk[a], wrong[a], target)
                if found is None:
                    continue
                certified += 1
                keep = risk[b] <= found[0]
                kept.append(keep.mean())
                broken += keep.any() and wrong[b][keep].mean() > target
            out[f"{name} at {target:g}"] = {
                "certified": certified / RESPLITS,
                "broken": float(broken) / RESPLITS,
                "kept": float(np.mean(kept)) if kept else None,
            }
    return out


def promises(mixture, test, rules):
    """The certified thresholds on test: share kept at the edge and error among the kept."""
    out = {}
    product = PRODUCT_OF_LABEL[mixture.local.verdict]
    wrong = mixture.local.verdict != test.truth
    for (name, target), threshold in rules.thresholds.items():
        rows = product == PRODUCTS.index(name)
        keep = rows & (mixture.local.risk <= threshold)
        out[f"{name} at {target:g}"] = {
            "kept": float(keep.sum() / rows.sum()),
            "error": float(wrong[keep].mean()) if keep.any() else 0.0,
        }
    return out


def calibration(work, test, mixture, asked, temperatures):
    """Expected calibration error of single experts before and after temperature, and of the decisions."""
    out = {}
    for e, m in enumerate(EXPERTS):
        rows = np.isin(test.product, [PRODUCTS.index(p) for p in m.products])
        p = test.batch.p[rows, e]
        right = p.argmax(1) == test.truth[rows]
        raw = np.where(p > 0, np.log(np.clip(p, 1e-300, 1)) * temperatures[m.name], -np.inf)
        raw = np.exp(raw - raw.max(1, keepdims=True))
        raw /= raw.sum(1, keepdims=True)
        out[m.name] = {"before": ece(raw.max(1), right), "after": ece(p.max(1), right)}
    verdict, p = mixture.verdicts(asked), mixture.probabilities(asked)
    out["decisions"] = {"after": ece(p, verdict == test.truth)}
    out["local answers"] = {"after": ece(mixture.local.probability, mixture.local.verdict == test.truth)}
    out["local risk"] = {"after": ece(1 - mixture.local.risk, mixture.local.verdict == test.truth)}
    for p_ in PRODUCTS:
        r = test.rows(p_)
        out[f"decisions, {p_}"] = {"after": ece(p[r], (verdict == test.truth)[r])}
    return out


def without(test, rules):
    """Accuracy with each expert unreachable, with the cloud unreachable, and without templates."""
    out = {}
    for e, name in enumerate(NAMES):
        mixture = Mixture(test.batch, rules, np.arange(len(NAMES)) != e)
        out[name] = per_product(mixture.verdicts(mixture.asks(PRODUCT_OF_LABEL, DEFAULT_RISK)), test.truth)
    out["the cloud"] = per_product(Mixture(test.batch, rules, ~rules.cloud).local.verdict, test.truth)
    return out


def no_template(bundle, test):
    columns = test.columns["deeppcb"] | {"templates": None}
    mixture = Mixture(bundle.batch(columns), bundle.rules)
    truth = test.truth[test.rows("deeppcb")]
    asked = mixture.asks(PRODUCT_OF_LABEL, DEFAULT_RISK)
    return {
        "edge only": score(mixture.local.verdict, truth),
        "cloud only": score(mixture.cloud.verdict, truth),
        "mixture": score(mixture.verdicts(asked), truth) | {"offload": float(asked.mean())},
    }


def foreign(work, bundle):
    """What the bundle says about a product that it was never shown."""
    mixture = Mixture(bundle.batch(parts_of(work, "magtile", "test")), bundle.rules)
    asked = mixture.asks(PRODUCT_OF_LABEL, DEFAULT_RISK)
    answered = PRODUCT_OF_LABEL[mixture.verdicts(asked)]
    return {
        "images": len(asked),
        "offload": float(asked.mean()),
        "local_risk_median": float(np.median(mixture.local.risk)),
        "probability_median": float(np.median(mixture.probabilities(asked))),
        "probability_above_0.9": float(np.mean(mixture.probabilities(asked) > 0.9)),
        "answered_as": {p: float(np.mean(answered == k)) for k, p in enumerate(PRODUCTS)},
    }


def uplink(test, bundle, mixture, asked):
    """Bytes per offloaded decision, and what lossy images do to the cloud's answers."""
    out = {}
    for name, columns in test.columns.items():
        rows = test.rows(name)
        ask = asked[rows]
        if not ask.any():
            ask = np.ones(rows.sum(), bool)
        images = columns["images"][ask]
        if name == "deeppcb":
            out[name] = codecs.boards(images, columns["templates"][ask])
        else:
            out[name] = codecs.surfaces(images)
        truth = test.truth[rows][ask]
        for quality in (20, 0):
            lossy = {k: v if v is None else v[ask] for k, v in columns.items()}
            lossy["images"] = np.stack([codecs.unwebp(codecs.webp(i, quality=quality)) for i in images])
            answers = Mixture(bundle.batch(lossy), bundle.rules).full.verdict
            out[name][f"WebP q{quality}"]["accuracy"] = float(np.mean(answers == truth))
        out[name]["lossless accuracy"] = float(np.mean(mixture.full.verdict[rows][ask] == truth))
    return out


def run(data, work, out):
    del data
    calibrated = json.loads((work / "calibration.json").read_text())
    bundle = Bundle(work / "export", calibrated)
    test = Test(work, bundle)
    mixture = Mixture(test.batch, bundle.rules)
    asked = mixture.asks(PRODUCT_OF_LABEL, DEFAULT_RISK)
    everything = np.ones(len(test.truth), bool)
    sent = uplink(test, bundle, mixture, asked)
    trained = {n: torch.load(work / "models" / f"{n}.pt")["cost"] for n in [ENCODER.name, *NAMES]}
    results = {
        "test_images": {p: int(test.rows(p).sum()) for p in PRODUCTS},
        "modes": modes(test, mixture),
        "experts": singles(test),
        "trained": trained | {"gate": {MACS: GATE_MACS}},
        "dense": dense(work, test),
        "routers": {
            f"{risk:g}": routers(mixture, test.truth, everything, float(mixture.asks(PRODUCT_OF_LABEL, risk).mean()))
            for risk in RISKS
        },
        "curves": {p: curve(mixture, test.truth, test.rows(p)) for p in PRODUCTS} | {"all": curve(mixture, test.truth, everything)},
        "macs": macs_of(work, mixture, asked),
        "promises": promises(mixture, test, bundle.rules),
        "resplits": resplits(work, mixture, test),
        "ece": calibration(work, test, mixture, asked, calibrated["temperatures"]),
        "without": without(test, bundle.rules),
        "no_template": no_template(bundle, test),
        "foreign": foreign(work, bundle),
        "codecs": sent,
        "uplink_bytes": {
            "deeppcb": round(sent["deeppcb"]["1 bit, one deflate stream"]["mean"]),
            "xsdd": round(sent["xsdd"]["PNG"]["mean"]),
            "bsdata": round(sent["bsdata"]["PNG"]["mean"]),
        },
        "chosen": {n: float((mixture.local_set | mixture.cloud_set)[:, e].mean()) for e, n in enumerate(NAMES)},
        "per_class": {
            v: float(f)
            for v, f in zip(
                LABELS,
                f1_score(test.truth, mixture.verdicts(asked), labels=range(len(LABELS)), average=None, zero_division=0),
            )
        },
    }
    if (work / "int8.json").exists():
        results["int8"] = json.loads((work / "int8.json").read_text())
    assert len(CLASSES) == len(PRODUCTS)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    plots.draw(results, mixture, test, asked, bundle.rules, out)
    (out / "README.md").write_text(report.text(results))
    print(report.text(results))
