"""Reads the three products (and the foreign one) as published; see the README in each data folder."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np

from .config import CLASSES
from .image import grey

SPLITS = ["train", "val", "test"]


def read(data, product):
    """Columns of one product: ids, images, templates (or None), y, split (0 train, 1 val, 2 test), group, source."""
    folder = Path(data) / product
    if product == "deeppcb":
        return _crops(np.load(folder / "patches.npz"))
    rows = [json.loads(line) for line in open(folder / "labels.jsonl")]
    with tarfile.open(folder / "images.tar") as tar:
        images = [grey(io.BytesIO(tar.extractfile(f"{r['id']}.png").read())) for r in rows]
    if product in CLASSES:
        assert json.load(open(folder / "classes.json")) == CLASSES[product]
    group = np.array([str(r["group"]) for r in rows])
    return {
        "ids": np.array([r["id"] for r in rows]),
        "images": np.stack(images),
        "templates": None,
        "y": np.array([r["y"] for r in rows]),
        "split": np.array([SPLITS.index(r["split"]) for r in rows]),
        "group": group,
        "source": group,
    }


def _crops(z):
    assert z["names"].tolist() == CLASSES["deeppcb"]
    image = z["image"]
    order = np.zeros(len(image), int)  # running number of a crop on its board
    seen = {}
    for i, board in enumerate(image):
        order[i] = seen[board] = seen.get(board, -1) + 1
    return {
        "ids": np.array([f"{b}-{k:02d}" for b, k in zip(image, order)]),
        "images": z["images"],
        "templates": z["templates"],
        "y": z["labels"].astype(int),
        "split": z["split"].astype(int),
        "group": z["group"],
        "source": image,  # crops of one board never cross a part
    }
