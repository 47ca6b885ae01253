"""Certifies a threshold on the local risk."""

import numpy as np
from scipy.stats import beta

from .config import DELTA, FIRST_COVERAGE


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
