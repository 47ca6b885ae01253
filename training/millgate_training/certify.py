"""Competence of an expert, and certified thresholds on the local risk."""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import beta

from .config import DELTA, FIRST_COVERAGE
from .decide import logit


def certify(risk, wrong, target, delta=DELTA):
    """Largest threshold on the local risk whose kept error is certified: Clopper-Pearson along a fixed sequence.

    The sequence starts where 30 % are kept, or where an error-free count could pass at all, and ends at the first
    failure. Returns (threshold, kept, errors) or None.
    """
    n = len(risk)
    order = np.argsort(risk, kind="stable")
    risk, errors = risk[order], np.cumsum(wrong[order])
    first = max(int(np.ceil(FIRST_COVERAGE * n)), int(np.ceil(np.log(delta) / np.log(1 - target))))
    best = None
    for k in [*range(first, n, max(1, n // 100)), n] if first <= n else []:
        k = int(np.searchsorted(risk, risk[k - 1], side="right"))  # ties stand or fall together
        if beta.ppf(1 - delta, errors[k - 1] + 1, k - errors[k - 1]) > target:
            break
        best = (float(risk[k - 1]), k, int(errors[k - 1]))
    return best


def fit_competence(top, share, right, weight):
    """Logistic regression on two features, lightly pulled towards (0, 1, 0.5)."""
    x = np.stack([np.ones_like(top), logit(top, 1e-6), np.log(np.clip(share, 1e-6, 1))], 1)
    prior = np.array([0.0, 1.0, 0.5])
    y = right.astype(float)

    def loss(b):
        z = x @ b
        return np.sum(weight * (np.logaddexp(0, z) - y * z)) + 0.5 * np.sum((b - prior) ** 2)

    b = minimize(loss, prior, method="L-BFGS-B", bounds=[(None, None), (0.05, None), (0.0, None)]).x
    return b
