"""Cuts the parts and keeps everything as 8-bit arrays: `parts.npz` for all, `windows.npz` for training on boards.

fit   trains the networks          gate  a share of the official train split that no network sees
val   the official val split       test  the official test split, for reporting only
"""

import io
import json
import tarfile

import numpy as np
from PIL import Image
from tqdm import tqdm

from .config import CLASSES, GATE_SHARE, PARTS, PRODUCTS, SEED
from .datasets import read

WINDOW = 96  # a 64 px crop may shift by 16 px inside it
NORMALS = 2  # defect-free windows per board


def cut(columns, share, rng):
    """Part of each sample. Whole sources go to `gate`, drawn so that its classes keep their shares."""
    part = np.where(columns["split"] == 0, 0, columns["split"] + 1)
    train = part == 0
    y, source = columns["y"], columns["source"]
    classes = np.unique(y)
    names = np.unique(source[train])
    counts = {s: np.array([np.sum(train & (source == s) & (y == c)) for c in classes]) for s in names}
    want = np.array([np.sum(train & (y == c)) for c in classes]) * share
    have = np.zeros(len(classes))
    for name in rng.permutation(names):
        if np.sum((have + counts[name] - want) ** 2 / want) < np.sum((have - want) ** 2 / want):
            have += counts[name]
            part[train & (source == name)] = PARTS.index("gate")
    return part


def windows(data, columns, part, rng):
    """96 px windows (tested, template) round every crop of the fit part, and more defect-free ones."""
    fit = np.flatnonzero(part == 0)
    boards = {j["image"]: j for j in map(json.loads, open(data / "deeppcb" / "boards.jsonl"))}
    images, templates, labels = [], [], []
    with tarfile.open(data / "deeppcb" / "boards.tar") as tar:
        for name in tqdm(np.unique(columns["source"][fit]), desc="windows"):
            pair = [_board(tar, f"{name}_{kind}.png") for kind in ("test", "temp")]
            boxes = np.array([[b[k] for k in ("x1", "y1", "x2", "y2")] for b in boards[name]["boxes"]])
            places = [(x, y, c) for x, y, c in _places(columns, fit[columns["source"][fit] == name], pair[0])]
            places += [(x, y, 0) for x, y in _free(boxes, rng)]
            for x, y, c in places:
                images.append(pair[0][y : y + WINDOW, x : x + WINDOW])
                templates.append(pair[1][y : y + WINDOW, x : x + WINDOW])
                labels.append(c)
    return np.stack(images), np.stack(templates), np.array(labels)


def _board(tar, name):
    board = np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read())).convert("L"))
    return np.pad(board, 16, mode="edge")


def _places(columns, crops, board):
    """Where each published crop lies on its board: found by its pixels, since the data set does not say."""
    inner = board[16:-16, 16:-16]
    found = np.lib.stride_tricks.sliding_window_view(inner, (64, 64))
    for i in crops:
        crop = columns["images"][i]
        rows, cols = np.nonzero((found[:, :, 0, 0] == crop[0, 0]) & (found[:, :, 31, 31] == crop[31, 31]))
        for k in range(0, 64, 3):  # thin the candidates out pixel by pixel
            same = inner[rows + k, cols + (7 * k) % 64] == crop[k, (7 * k) % 64]
            rows, cols = rows[same], cols[same]
        for r, c in zip(rows, cols):
            if np.array_equal(found[r, c], crop):
                yield int(c), int(r), int(columns["y"][i])
                break
        else:
            raise ValueError(f"crop {columns['ids'][i]} is not on its board")


def _free(boxes, rng, margin=9):
    """Places whose crop keeps clear of every box even after a small shift."""
    for _ in range(NORMALS):
        for _ in range(50):
            x, y = rng.integers(0, 640 - 64, 2)
            clear = (boxes[:, 0] > x + 64 + margin) | (boxes[:, 2] < x - margin)
            clear |= (boxes[:, 1] > y + 64 + margin) | (boxes[:, 3] < y - margin)
            if clear.all():
                yield int(x), int(y)
                break


def run(data, work):
    work.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for number, product in enumerate([*PRODUCTS, "magtile"]):
        rng = np.random.default_rng([SEED, number])
        columns = read(data, product)
        known = product in CLASSES
        part = cut(columns, GATE_SHARE[product], rng) if known else np.full(len(columns["y"]), PARTS.index("test"))
        for key in ("ids", "images", "y", "group", "source"):
            arrays[f"{product}/{key}"] = columns[key]
        arrays[f"{product}/part"] = part
        if columns["templates"] is not None:
            arrays[f"{product}/templates"] = columns["templates"]
            image, template, y = windows(data, columns, part, rng)
            np.savez(work / "windows.npz", image=image, template=template, y=y)
        if known:
            print(product, {p: int(np.sum(part == k)) for k, p in enumerate(PARTS)})
    np.savez(work / "parts.npz", **arrays)
