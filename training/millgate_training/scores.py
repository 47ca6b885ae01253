"""Scores of verdicts, and the test parts under a bundle."""

import numpy as np
from sklearn.metrics import f1_score

from .config import LABELS, PRODUCTS
from .decide import Batch
from .experts import PRODUCT_OF_LABEL
from .outputs import parts_of


def score(verdict, truth):
    """Accuracy and macro-F1 over the classes that occur."""
    f1 = f1_score(truth, verdict, labels=np.unique(truth), average="macro", zero_division=0)
    return {"accuracy": float(np.mean(verdict == truth)), "macro_f1": float(f1)}


def per_product(verdict, truth):
    product = PRODUCT_OF_LABEL[truth]
    table = {p: score(verdict[product == k], truth[product == k]) for k, p in enumerate(PRODUCTS)}
    return table | {"all": score(verdict, truth)}


def ece(confidence, right, bins=15):
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].mean() - confidence[which == b].mean()) * np.mean(which == b) for b in set(which)]
    return float(np.sum(gaps))


class Test:
    """The test parts of all products under the exported bundle."""

    def __init__(self, work, bundle):
        self.columns = {p: parts_of(work, p, "test") for p in PRODUCTS}
        batches = [bundle.batch(c) for c in self.columns.values()]
        self.batch = Batch(*(np.concatenate([getattr(b, k) for b in batches]) for k in ("scores", "p", "eligible")))
        self.truth = np.concatenate([[LABELS.index(f"{p}/{v}") for v in c["class"]] for p, c in self.columns.items()])
        self.product = PRODUCT_OF_LABEL[self.truth]

    def rows(self, product):
        return self.product == PRODUCTS.index(product)
