"""The experts as arrays, in manifest order."""

import numpy as np

from .config import EXPERTS, LABELS, PRODUCTS

COLUMNS = {m.name: [LABELS.index(v) for v in m.labels] for m in EXPERTS}
PRODUCT_OF_LABEL = np.array([PRODUCTS.index(v.split("/")[0]) for v in LABELS])
PAIRED = np.array(["template" in m.inputs for m in EXPERTS])
CLOUD = np.array([m.tier == "cloud" for m in EXPERTS])
PRICES = np.array([m.price for m in EXPERTS])


def eligibility(template):
    return template[:, None] | ~PAIRED
