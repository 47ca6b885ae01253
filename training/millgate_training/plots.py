"""The plots of `evaluate`."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from .config import DEFAULT_RISK, PRODUCTS  # noqa: E402
from .experts import PRODUCT_OF_LABEL  # noqa: E402

plt.rcParams |= {"font.size": 8, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}
BLUE, ORANGE, GREEN, GREY = "#2563a8", "#d97706", "#2f855a", "#8a8f98"


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def offload(results, path):
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9))
    for axis, name in zip(axes, [*PRODUCTS, "all"]):
        c = results["curves"][name]
        share = 100 * np.array(c["share"])
        axis.plot(share, 100 * np.array(c["oracle"]), color=GREEN, lw=1, label="oracle router")
        axis.plot(share, 100 * np.array(c["mixture"]), color=BLUE, label="riskiest first (ours)")
        axis.plot(share, 100 * np.array(c["random"]), color=GREY, lw=1, ls=":", label="random router")
        axis.axhline(100 * c["cloud_only"], color=ORANGE, lw=1, ls="--", label="cloud only")
        m = results["modes"][f"mixture at {DEFAULT_RISK:g}"][name]
        axis.plot(100 * m["offload"], 100 * m["accuracy"], "o", color=BLUE, ms=5, label=f"certified, risk {100 * DEFAULT_RISK:g} %")
        axis.set(title=name, xlabel="sent to the cloud, %", xlim=(-1, 60))
    axes[0].set_ylabel("accuracy on test, %")
    axes[-1].legend(fontsize=6.5, loc="lower right")
    save(figure, path)


def coverage(mixture, test, rules, path):
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.9))
    product = PRODUCT_OF_LABEL[mixture.local.verdict]
    wrong = mixture.local.verdict != test.truth
    for k, (axis, name) in enumerate(zip(axes, PRODUCTS)):
        rows = np.flatnonzero(product == k)
        order = rows[np.argsort(mixture.local.risk[rows], kind="stable")]
        n = np.arange(1, len(order) + 1)
        axis.plot(100 * n / len(order), 100 * np.cumsum(wrong[order]) / n, color=BLUE, label="error among the kept")
        for (p, target), threshold in rules.thresholds.items():
            if p == name:
                kept = int(np.sum(mixture.local.risk[order] <= threshold))
                error = 100 * wrong[order][:kept].mean() if kept else 0
                axis.plot([100 * kept / len(order)] * 2, [error, 100 * target], color=ORANGE, lw=1)
                axis.plot(100 * kept / len(order), 100 * target, "v", color=ORANGE, ms=5)
        axis.plot([], [], "v", color=ORANGE, label="certified limit")
        axis.set(title=name, xlabel="kept at the edge, %", xlim=(20, 101), ylim=(-0.2, 7))
    axes[0].set_ylabel("error on test, %")
    axes[0].legend(fontsize=7, loc="upper left")
    save(figure, path)


def reliability(mixture, test, asked, path):
    figure, axes = plt.subplots(1, 2, figsize=(6.5, 3))
    verdict = mixture.verdicts(asked)
    pairs = [
        ("decision: probability", mixture.probabilities(asked), verdict),
        ("local answer: 1 - risk", 1 - mixture.local.risk, mixture.local.verdict),
    ]
    for axis, (title, confidence, chosen) in zip(axes, pairs):
        right = chosen == test.truth
        which = np.minimum((confidence * 10).astype(int), 9)
        bins = [b for b in range(10) if np.any(which == b)]
        x = [confidence[which == b].mean() for b in bins]
        y = [right[which == b].mean() for b in bins]
        axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        axis.plot(x, y, "o-", color=BLUE, ms=4)
        for b, xx, yy in zip(bins, x, y):
            axis.annotate(int(np.sum(which == b)), (xx, yy), xytext=(4, -9), textcoords="offset points", fontsize=6.5, color=GREY)
        axis.set(title=title, xlabel="said", xlim=(0, 1.03), ylim=(0, 1.05))
    axes[0].set_ylabel("right")
    save(figure, path)


def bytes_up(results, path):
    table = {k: v for k, v in results["codecs"]["deeppcb"].items() if isinstance(v, dict)}
    names = sorted(table, key=lambda k: -table[k]["mean"])  # the smallest last, on top
    figure, axis = plt.subplots(figsize=(6, 2.4))
    sizes = [table[k]["mean"] for k in names]
    axis.barh(names, sizes, color=[BLUE if k == names[-1] else GREY for k in names])
    for y, v in enumerate(sizes):
        axis.text(v + 5, y, f"{v:.0f}", va="center", fontsize=7)
    axis.axvline(250, color=ORANGE, lw=1, ls="--")
    axis.set(xlabel="bytes per offloaded board crop with its template (dashed: goal)")
    save(figure, path)


def down(results, path):
    names = ["nothing", *results["without"]]
    base = results["modes"][f"mixture at {DEFAULT_RISK:g}"]
    figure, axis = plt.subplots(figsize=(8, 2.8))
    x = np.arange(len(names))
    for k, (p, colour) in enumerate(zip(PRODUCTS, (BLUE, ORANGE, GREEN))):
        y = [100 * base[p]["accuracy"], *(100 * v[p]["accuracy"] for v in results["without"].values())]
        axis.bar(x + (k - 1) * 0.26, y, 0.25, color=colour, label=p)
    axis.set_xticks(x, names, rotation=25, ha="right")
    axis.set(ylabel="accuracy on test, %", title="one part unreachable", ylim=(50, 101))
    axis.legend(fontsize=7, loc="lower left", ncols=3)
    save(figure, path)


def draw(results, mixture, test, asked, rules, out):
    offload(results, out / "offload.png")
    coverage(mixture, test, rules, out / "coverage.png")
    reliability(mixture, test, asked, out / "reliability.png")
    bytes_up(results, out / "bytes.png")
    down(results, out / "down.png")
