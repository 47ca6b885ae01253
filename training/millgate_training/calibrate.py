"""Gate, temperatures, competence and certified thresholds, all on samples that no network was trained on.

The gate learns from the `gate` and `val` parts; everything after it from those that `SETTLED_BY` names. All scores are
cross-fitted: five folds by source image or group; what scores a fold was fitted on the other four. What ships is fitted
on all of them.
"""

import json

import numpy as np
import torch
from scipy.optimize import minimize

from .certify import certify, fit_competence
from .config import (
    ENCODER,
    EXPERTS,
    FOLDS,
    LABELS,
    PRODUCTS,
    RISKS,
    SEED,
    SETTLED_BY,
)
from .decide import Batch, Mixture, Rules, softmax
from .experts import CLOUD, COLUMNS, PRICES, PRODUCT_OF_LABEL, eligibility
from .gate import cost_of
from .gate import fit as fit_gate
from .outputs import logits_of, parts_of
from .train import load

SHARPNESS = [1.0, 1.5, 2.0, 3.0, 5.0]


class Pool:
    """Raw outputs on the calibration samples: logits per expert (NaN where not eligible), embeddings, truth."""

    def __init__(self, work):
        nets = {m.name: load(m, work) for m in [ENCODER, *EXPERTS]}
        self.macs = [torch.load(work / "models" / f"{m.name}.pt")["cost"]["macs"] for m in EXPERTS]
        parts = [(p, part, parts_of(work, p, part)) for p in PRODUCTS for part in ("gate", "val")]
        self.product = np.concatenate([np.full(len(c["y"]), PRODUCTS.index(p)) for p, _, c in parts])
        self.part = np.concatenate([np.full(len(c["y"]), part) for _, part, c in parts])
        self.settles = np.concatenate([np.full(len(c["y"]), part in SETTLED_BY[p]) for p, part, c in parts])
        self.truth = np.concatenate([[LABELS.index(f"{p}/{v}") for v in c["class"]] for p, _, c in parts])
        self.source = np.concatenate([[f"{p}/{s}" for s in c["source"]] for p, _, c in parts])
        self.embedding = np.concatenate([logits_of(nets[ENCODER.name], ENCODER, c, output=1) for _, _, c in parts])
        self.logits = {}
        for model in EXPERTS:
            blocks = []
            for _, _, columns in parts:
                found = logits_of(nets[model.name], model, columns)
                blocks.append(np.full((len(columns["y"]), len(model.labels)), np.nan) if found is None else found)
            self.logits[model.name] = np.concatenate(blocks)
        self.template = ~np.isnan(self.logits[next(m.name for m in EXPERTS if "template" in m.inputs)][:, 0])

    def folds(self):
        """Fold of each sample; samples of one source stay together."""
        rng = np.random.default_rng(SEED)
        fold = np.zeros(len(self.truth), int)
        for product in range(len(PRODUCTS)):
            names = rng.permutation(np.unique(self.source[self.product == product]))
            sizes = np.zeros(FOLDS)
            for name in sorted(names, key=lambda s: -np.sum(self.source == s)):
                rows = self.source == name
                fold[rows] = k = int(sizes.argmin())
                sizes[k] += rows.sum()
        return fold


def spread(logits, temperatures, shifts):
    """[N,E,L] probabilities over the task's labels."""
    n = len(next(iter(logits.values())))
    p = np.zeros((n, len(EXPERTS), len(LABELS)))
    for e, model in enumerate(EXPERTS):
        z = (np.nan_to_num(logits[model.name]).astype(np.float64) + shifts[e]) / temperatures[e]
        z = np.exp(z - z.max(1, keepdims=True))
        p[:, e, COLUMNS[model.name]] = z / z.sum(1, keepdims=True)
    return p


def temperature(logits, y, shifted):
    """Scale and shift of the logits that make the likelihood of the truth largest.

    Only models whose training changed the shares of their two classes get a shift (of the second class).
    """

    def loss(v):
        z = (logits + np.array([0, v[1]]) if shifted else logits) / np.exp(np.clip(v[0], -3, 3))
        z = z - z.max(1, keepdims=True)
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y])

    scale, shift = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(np.clip(scale, -3, 3))), [0.0, float(shift)] if shifted else [0.0] * logits.shape[1]


class Fitted:
    """Temperatures, gate and competence from the samples in `rows`."""

    def __init__(self, pool, rows):
        self.temperatures, self.shifts = [], []
        for model in EXPERTS:
            own = rows & pool.settles & np.isin(pool.truth, COLUMNS[model.name]) & ~np.isnan(pool.logits[model.name][:, 0])
            y = np.array([COLUMNS[model.name].index(t) for t in pool.truth[own]])
            scale, shift = temperature(pool.logits[model.name][own].astype(np.float64), y, model.peak)
            self.temperatures.append(scale)
            self.shifts.append(shift)
        # every sample as it is, and those with a template once more without it
        index = np.flatnonzero(rows)
        twice = np.concatenate([index, np.flatnonzero(rows & pool.template)])
        has = np.concatenate([pool.template[index], np.zeros(len(twice) - len(index), bool)])
        counts = np.bincount(pool.product[twice], minlength=len(PRODUCTS))
        p = spread({k: v[twice] for k, v in pool.logits.items()}, self.temperatures, self.shifts)
        truth = pool.truth[twice]
        likelihood = np.take_along_axis(p, truth[:, None, None], 2)[:, :, 0]
        eligible = eligibility(has)
        self.gate = fit_gate(
            torch.from_numpy(pool.embedding[twice]),
            presence_of(has),
            torch.from_numpy(eligible),
            cost_of(torch.from_numpy(likelihood).float(), pool.macs),
            torch.from_numpy(1 / counts[pool.product[twice]]).float(),
        )
        share = softmax(self.scores(pool.embedding[twice], has), eligible)
        right = p.argmax(2) == truth[:, None]
        self.competence = np.zeros((len(EXPERTS), 3))
        for e in range(len(EXPERTS)):
            r = eligible[:, e] & pool.settles[twice]
            weight = np.where(pool.template[twice][r], 0.5, 1.0)  # the doubled ones count half
            self.competence[e] = fit_competence(p[r, e].max(1), share[r, e], right[r, e], weight)

    @torch.no_grad()
    def scores(self, embedding, template):
        return self.gate(torch.from_numpy(embedding), presence_of(template)).numpy().astype(np.float64)

    def batch(self, pool, rows):
        p = spread({k: v[rows] for k, v in pool.logits.items()}, self.temperatures, self.shifts)
        return Batch(self.scores(pool.embedding[rows], pool.template[rows]), p, eligibility(pool.template[rows]))

    def rules(self, sharpness, thresholds=None):
        return Rules(CLOUD, PRICES, self.competence, sharpness, thresholds=thresholds or {})


def presence_of(template):
    return torch.from_numpy(np.stack([np.ones(len(template)), template], 1)).float()


def crossfit(pool):
    """Out-of-fold batches and competences of all calibration samples, glued together."""
    fold = pool.folds()
    n, e = len(pool.truth), len(EXPERTS)
    pieces = Batch(np.zeros((n, e)), np.zeros((n, e, len(LABELS))), eligibility(pool.template))
    fits = []
    for k in range(FOLDS):
        fitted = Fitted(pool, fold != k)
        part = fitted.batch(pool, fold == k)
        pieces.scores[fold == k], pieces.p[fold == k] = part.scores, part.p
        fits.append(fitted)
    return fold, pieces, fits


def mix(fold, pieces, fits, sharpness):
    """Local risk, local and full verdicts and probabilities, out of fold."""
    n = len(fold)
    out = {k: np.zeros(n) for k in ("risk", "local_p", "full_p")} | {k: np.zeros(n, int) for k in ("local", "full")}
    for k, fitted in enumerate(fits):
        rows = fold == k
        m = Mixture(pieces.subset(rows), fitted.rules(sharpness))
        out["risk"][rows], out["local"][rows], out["full"][rows] = m.local.risk, m.local.verdict, m.full.verdict
        out["local_p"][rows], out["full_p"][rows] = m.local.probability, m.full.probability
    return out


def loss_of(out, truth):
    """Log loss of the full answers' verdicts: how well their probability says whether they are right."""
    p = np.clip(out["full_p"], 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(out["full"] == truth, np.log(p), np.log(1 - p))))


def run(data, work):
    del data
    pool = Pool(work)
    fold, pieces, fits = crossfit(pool)
    losses = {s: loss_of(mix(fold, pieces, fits, s), pool.truth) for s in SHARPNESS}
    sharpness = min(SHARPNESS, key=losses.get)
    out = mix(fold, pieces, fits, sharpness)
    final = Fitted(pool, np.ones(len(fold), bool))
    product = PRODUCT_OF_LABEL[out["local"]]
    table = []
    for k, name in enumerate(PRODUCTS):
        rows = (product == k) & pool.settles
        for target in RISKS:
            found = certify(out["risk"][rows], (out["local"] != pool.truth)[rows], target)
            print(name, target, int(rows.sum()), found)
            if found:
                table.append([name, target, *found, int(rows.sum())])
    settled = {k: v[pool.settles] for k, v in out.items()}
    np.savez(work / "crossfit.npz", truth=pool.truth[pool.settles], **settled)
    torch.save(final.gate.state_dict(), work / "models" / "gate.pt")
    result = {
        "temperatures": dict(zip([m.name for m in EXPERTS], final.temperatures)),
        "shifts": dict(zip([m.name for m in EXPERTS], final.shifts)),
        "competence": {m.name: final.competence[e].tolist() for e, m in enumerate(EXPERTS)},
        "sharpness": sharpness,
        "sharpness_losses": {str(s): v for s, v in losses.items()},
        "thresholds": table,
    }
    (work / "calibration.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    for name, v in (("local", out["local"]), ("full", out["full"])):
        print(name, {p: round(float(np.mean((v == pool.truth)[pool.product == k])), 4) for k, p in enumerate(PRODUCTS)})
