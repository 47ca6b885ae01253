"""The decision algorithm of docs/bundles.md, over whole arrays: N samples, E experts, L labels of the task."""

from dataclasses import dataclass, field

import numpy as np

from .config import DROP_BELOW, K, PRODUCTS


@dataclass
class Rules:
    cloud: np.ndarray  # [E] bool
    prices: np.ndarray  # [E]
    competence: np.ndarray  # [E,3]: bias, confidence, gate
    sharpness: float = 1.0
    k: int = K
    drop_below: float = DROP_BELOW
    thresholds: dict = field(default_factory=dict)  # (product, risk) -> threshold
    substitutes: list = field(default_factory=list)  # of each expert, indices in order


@dataclass
class Answer:
    verdict: np.ndarray  # [N] index of the label
    p: np.ndarray  # [N,L]
    weights: np.ndarray  # [N,E]
    risk: np.ndarray  # [N]

    @property
    def probability(self):
        return self.p[np.arange(len(self.p)), self.verdict]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logit(p, margin):
    p = np.clip(p, margin, 1 - margin)
    return np.log(p / (1 - p))


def softmax(x, mask):
    x = np.where(mask, x, -np.inf)
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def choose(scores, eligible, rules):
    """Local and cloud sets [N,E]: the K best, or the best of a tier of which none was chosen."""
    priced = np.where(eligible, scores - rules.prices, -np.inf)
    rank = np.argsort(np.argsort(-priced, axis=1, kind="stable"), axis=1)
    sets = []
    for tier in (~rules.cloud, rules.cloud):
        chosen = eligible & tier & (rank < rules.k)
        best = np.where(eligible & tier, rank, rank.shape[1]).argmin(1)
        fallback = (np.arange(scores.shape[1]) == best[:, None]) & eligible & tier
        sets.append(np.where(chosen.any(1, keepdims=True), chosen, fallback))
    return sets


def answering(chosen, eligible, available, rules):
    """Those of a set that can be reached, and the first reachable substitute of each other one."""
    out = chosen & available
    for e in np.flatnonzero(~available):
        wanted = chosen[:, e]
        for s in rules.substitutes[e] if rules.substitutes else []:
            found = wanted & eligible[:, s] & available[s]
            out[found, s] = True
            wanted = wanted & ~found
    return out


def competences(top, share, rules):
    bias, confidence, gate = rules.competence.T
    return sigmoid(bias + confidence * logit(top, 1e-6) + gate * np.log(np.clip(share, 1e-6, 1)))


def combine(p, c, answered, rules):
    """Weighs the answers [N,E,L] of the experts in `answered` [N,E]."""
    w = softmax(rules.sharpness * logit(c, 1e-4), answered)
    heaviest = np.arange(w.shape[1]) == w.argmax(1)[:, None]
    w = np.where((w >= rules.drop_below) | heaviest, w, 0)
    w /= w.sum(1, keepdims=True)
    mixed = np.einsum("ne,nel->nl", w, p)
    verdict = mixed.argmax(1)
    agrees = p.argmax(2) == verdict[:, None]
    return Answer(verdict, mixed, w, 1 - (w * c * agrees).sum(1))


@dataclass
class Batch:
    """What the models said about N samples."""

    scores: np.ndarray  # [N,E] gate logits
    p: np.ndarray  # [N,E,L], 0 for labels an expert does not know
    eligible: np.ndarray  # [N,E]

    def subset(self, rows):
        return Batch(self.scores[rows], self.p[rows], self.eligible[rows])


class Mixture:
    """Local and full answers of a batch, from which every mode follows."""

    def __init__(self, batch, rules, available=None):
        available = np.ones(batch.scores.shape[1], bool) if available is None else available
        share = softmax(batch.scores, batch.eligible)
        self.c = competences(batch.p.max(2), share, rules)
        wanted = choose(batch.scores, batch.eligible, rules)
        self.local_set, self.cloud_set = (answering(w, batch.eligible, available, rules) for w in wanted)
        assert self.local_set.any(1).all(), "an edge expert without a substitute is away"
        self.rules = rules
        self.local = combine(batch.p, self.c, self.local_set, rules)
        self.cloud = combine(batch.p, self.c, self.cloud_set, rules) if self.cloud_set.any(1).all() else self.local
        self.full = combine(batch.p, self.c, self.local_set | self.cloud_set, rules)

    def asks(self, product_of_label, risk):
        """Which samples ask the cloud in mode `confidence`."""
        thresholds = np.array([self.rules.thresholds.get((p, risk), -np.inf) for p in PRODUCTS])
        return self.local.risk > thresholds[product_of_label[self.local.verdict]]

    def verdicts(self, asked):
        return np.where(asked, self.full.verdict, self.local.verdict)

    def probabilities(self, asked):
        return np.where(asked, self.full.probability, self.local.probability)
