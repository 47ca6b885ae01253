"""Runs the exported models the way the agent does, for measuring and for the golden decisions."""

import numpy as np
from tqdm import tqdm

from .config import EMBEDDING, ENCODER, EXPERTS, GATE, LABELS, MODALITIES
from .decide import Batch, Rules
from .experts import CLOUD, COLUMNS, PRICES, eligibility
from .onnx_files import session
from .outputs import inputs_of

ORDER = [m.name for m in EXPERTS]


class Bundle:
    def __init__(self, folder, calibration):
        names = [ENCODER.name, GATE, *[m.name for m in EXPERTS]]
        self.sessions = {n: session(folder / n / "1" / "model.onnx") for n in names}
        self.rules = Rules(
            CLOUD,
            PRICES,
            np.array([calibration["competence"][m.name] for m in EXPERTS]),
            calibration["sharpness"],
            substitutes=[[ORDER.index(s) for s in m.substitutes] for m in EXPERTS],
            thresholds={(p, r): t for p, r, t, *_ in calibration["thresholds"]},
        )

    def run(self, name, feed, batch=64):
        n = len(next(iter(feed.values())))
        parts = [self.sessions[name].run(None, {k: v[i : i + batch] for k, v in feed.items()}) for i in range(0, n, batch)]
        return [np.concatenate(c) for c in zip(*parts)]

    def batch(self, columns):
        """Gate scores and probabilities for images (and templates, or None) of one product."""
        n = len(columns["images"])
        template = np.full(n, columns["templates"] is not None)
        embeddings = self.run(ENCODER.name, inputs_of(ENCODER, columns))[0][:, None]
        assert embeddings.shape == (n, 1, EMBEDDING)
        presence = np.stack([np.ones(n), template], 1).astype(np.float32)
        assert presence.shape[1] == len(MODALITIES)
        scores = self.run(GATE, {"embeddings": embeddings, "presence": presence})[0].astype(np.float64)
        p = np.zeros((n, len(EXPERTS), len(LABELS)))
        for e, model in enumerate(tqdm(EXPERTS, desc="experts", leave=False, disable=n < 500)):
            feed = inputs_of(model, columns)
            if feed is not None:
                z = self.run(model.name, feed)[0].astype(np.float64)
                z = np.exp(z - z.max(1, keepdims=True))
                p[:, e, COLUMNS[model.name]] = z / z.sum(1, keepdims=True)
        return Batch(scores, p, eligibility(template))
