"""Recorded test images for the demo: 1-bit board crops with their templates, and grey steel surfaces."""

import json
import shutil
from pathlib import Path

import numpy as np

from .config import CLASSES, SEED
from .datasets import read
from .image import png

COUNTS = {"deeppcb": 200, "xsdd": 100}
ATTRIBUTION = """# Where these images come from

All are from the `test` parts of two public data sets; no image was used to train or calibrate the bundle.

| folder | data set | by | licence |
| --- | --- | --- | --- |
| `deeppcb/` | [DeepPCB](https://github.com/tangsanli5201/DeepPCB), commit `08e98c4`: 64x64 crops of the 640x640 boards, stored with 1 bit a pixel, and the same place of the template | S. Tang, F. He, X. Huang, J. Yang (arXiv:1902.06197) | MIT, `LICENSE.deeppcb`. Its README adds: "You can only use this dataset for research purpose". |
| `xsdd/` | [X-SDD](https://github.com/Fighter20092392/X-SDD-A-New-benchmark), commit `adf8808`: 128x128 grey PNG | X. Feng, X. Gao, L. Luo (Symmetry 13(4):706, 2021, doi:10.3390/sym13040706) | Apache-2.0, `LICENSE.xsdd` |

`labels.jsonl` holds the published class of each image.
"""


def pick(columns, count, rng):
    """Indices of `count` test images, the classes as even as their sizes allow."""
    pools = {c: rng.permutation(np.flatnonzero((columns["split"] == 2) & (columns["y"] == c))).tolist() for c in set(columns["y"])}
    chosen = []
    while len(chosen) < count and any(pools.values()):
        chosen += [pool.pop() for pool in pools.values() if pool]
    return sorted(chosen[:count])


def write(folder, product, columns, chosen):
    """Writes the images and returns their lines of labels.jsonl."""
    (folder / product).mkdir(parents=True, exist_ok=True)
    two_level = columns["templates"] is not None
    lines = []
    for i in chosen:
        name = f"{product}/{columns['ids'][i]}"
        (folder / f"{name}.png").write_bytes(png(columns["images"][i], two_level))
        if two_level:
            (folder / f"{name}.template.png").write_bytes(png(columns["templates"][i], two_level))
        lines.append({"path": f"{name}.png", "label": f"{product}/{CLASSES[product][columns['y'][i]]}"})
    return lines


def save_labels(folder, lines):
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(data, out, everything=False):
    """The demo's folder; with `everything`, the whole test part of every product (not for publishing)."""
    out = Path(out)
    rng = np.random.default_rng(SEED)
    lines = []
    for product in CLASSES if everything else COUNTS:
        columns = read(data, product)
        chosen = np.flatnonzero(columns["split"] == 2) if everything else pick(columns, COUNTS[product], rng)
        lines += write(out, product, columns, chosen)
    save_labels(out, lines)
    if not everything:
        (out / "ATTRIBUTION.md").write_text(ATTRIBUTION)
        for product in COUNTS:
            shutil.copyfile(Path(data) / product / "LICENSE.upstream", out / f"LICENSE.{product}")
