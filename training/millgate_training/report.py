"""The tables of `evaluate` as Markdown; the model card shows the same ones."""

from .config import DEFAULT_RISK, PRODUCTS, RISKS

ALL = [*PRODUCTS, "all"]
CHOSEN = f"mixture at {DEFAULT_RISK:g}"


def pct(x, digits=2):
    return "-" if x is None else f"{100 * x:.{digits}f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows])


def quality(r):
    """Accuracy / macro-F1 of every way to decide."""
    head = ["", *(f"{p} ({r['test_images'][p]})" for p in PRODUCTS), "all"]

    def cells(entry):
        return [f"{pct(entry[p]['accuracy'])} / {entry[p]['macro_f1']:.4f}" if p in entry else "-" for p in ALL]

    rows = []
    for name, entry in r["modes"].items():
        share = f" ({pct(entry['all']['offload'], 1)} % offloaded)" if "offload" in entry["all"] else ""
        rows.append([name + share, *cells(entry)])
    rows += [[f"`{name}` alone", *cells(entry)[: len(PRODUCTS)], "-"] for name, entry in r["experts"].items()]
    rows += [[f"`{name}` (baseline, {entry['macs'] / 1e6:.0f} MMAC)", *cells(entry)] for name, entry in r["dense"].items()]
    return table(head, rows)


def offload(r):
    head = ["product", "cloud only", "share for cloud - 0.3 pp", "share for = cloud", "at 10 %", "at 20 %", "offload at 2 % risk"]
    rows = []
    for p in ALL:
        c = r["curves"][p]
        rows.append(
            [
                p,
                pct(c["cloud_only"]),
                "not reached" if c["share_for_cloud_less_0.3pp"] is None else f"{pct(c['share_for_cloud_less_0.3pp'], 0)} %",
                "not reached" if c["share_for_cloud"] is None else f"{pct(c['share_for_cloud'], 0)} %",
                f"{pct(c['mixture'][10])} (random {pct(c['random'][10])}, oracle {pct(c['oracle'][10])})",
                f"{pct(c['mixture'][20])} (random {pct(c['random'][20])}, oracle {pct(c['oracle'][20])})",
                f"{pct(r['modes'][CHOSEN][p]['offload'], 1)} %",
            ]
        )
    return table(head, rows)


def certificates(r):
    head = ["product, risk", "test: kept %", "test: error %", "resplits: certified %", "kept %", "broken %"]
    rows = []
    for p in PRODUCTS:
        for risk in RISKS:
            name = f"{p} at {risk:g}"
            shipped, again = r["promises"].get(name), r["resplits"][name]
            first = [pct(shipped["kept"], 1), pct(shipped["error"])] if shipped else ["no threshold", "-"]
            rows.append([name, *first, pct(again["certified"], 0), pct(again["kept"], 1), pct(again["broken"], 1)])
    return table(head, rows)


def cost(r):
    small, large = r["dense"]["dense-small"]["macs"], r["dense"]["dense-large"]["macs"]
    m = r["macs"]
    rows = [
        ["mixture at 2 % risk, mean", f"{m['all'] / 1e6:.1f}", f"{m['edge'] / 1e6:.1f}"],
        ["dense-large for every sample", f"{large / 1e6:.1f}", "-"],
        ["dense-small for every sample", f"{small / 1e6:.1f}", f"{small / 1e6:.1f}"],
        ["dense-large / mixture", f"{large / m['all']:.2f}x", "-"],
    ]
    return table(["MMAC per decision", "in all", "of it at the edge"], rows)


def models(r):
    rows = []
    for name, c in r["trained"].items():
        chosen = pct(r["chosen"][name], 1) if name in r["chosen"] else "-"
        rows.append([f"`{name}`", f"{c['macs'] / 1e6:.2f}", c.get("weights", "-"), c.get("epochs", "-"), chosen])
    return table(["model", "MMAC", "weights", "epochs", "in the choice, % of test"], rows)


def ece(r):
    rows = [[k, f"{v['before']:.4f}" if "before" in v else "-", f"{v['after']:.4f}"] for k, v in r["ece"].items()]
    return table(["expected calibration error (15 bins, test)", "before", "after"], rows)


def sizes(r):
    rows = []
    for p in PRODUCTS:
        for name, v in r["codecs"][p].items():
            if isinstance(v, dict):
                right = pct(v["accuracy"]) if "accuracy" in v else pct(r["codecs"][p]["lossless accuracy"])
                alone = f"{v['image_alone']:.0f}" if "image_alone" in v else "-"
                rows.append([p, name, f"{v['mean']:.0f}", f"{v['p95']:.0f}", alone, right])
    return table(["product", "encoding", "bytes, mean", "95th percentile", "image alone", "accuracy on the offloaded, %"], rows)


def down(r):
    head = ["unreachable", *ALL]
    rows = [["nothing", *(pct(r["modes"][CHOSEN][p]["accuracy"]) for p in ALL)]]
    rows += [[f"`{n}`" if n in r["trained"] else n, *(pct(v[p]["accuracy"]) for p in ALL)] for n, v in r["without"].items()]
    return table(head, rows)


def int8(r):
    """Speed and quality of the INT8 variants; nothing where none were measured."""
    if "int8" not in r:
        return ""
    v = r["int8"]

    def cell(s):
        return f"{pct(s['accuracy'])} / {s['macro_f1']:.4f}"

    speed, quality, distance = [], [], []
    for name, e in v["experts"].items():
        cells = [f"{t['fp32_us']:.0f} -> {t['int8_us']:.0f} ({t['gain']:.2f}x)" for t in e["cpu"].values()]
        speed.append([f"`{name}`", *cells, f"{e['bytes'][0]} -> {e['bytes'][1]}", "yes" if e["ships"] else "no"])
        quality.append([f"`{name}`", *(f"{cell(e[p]['fp32'])} -> {cell(e[p]['int8'])}" for p in ("gate and val", "val", "test"))])
        cells = [f"{e['test']['fp32']['ece']:.4f} -> {e['test']['int8']['ece']:.4f}", pct(e["test"]["same_label"])]
        golden = f"{e['golden']['logit_difference']:.3f}" if "golden" in e else "-"
        distance.append([f"`{name}`", *cells, f"{e['test']['logit_difference']:.3f}", golden])
    batches = list(next(iter(v["experts"].values()))["cpu"])
    whole = [
        [f"{mode}, {precision.upper()}", *(cell(scores[p]) for p in ALL)]
        for precision, modes in v["decisions"].items()
        for mode, scores in modes.items()
    ]
    return f"""
## INT8

`model.int8.onnx` of an expert in the cloud: signed weights per channel, unsigned activations, convolutions, sums and ReLU in
8 bits, the first convolution and the head in FP32 ([arXiv:1712.05877](https://arxiv.org/abs/1712.05877),
[arXiv:1806.08342](https://arxiv.org/abs/1806.08342)). Weights take 7 of the 8 bits, so that sums of pairs cannot saturate on
processors without VNNI (none was at hand to try). The ranges are the extremes over {v["images"]} training images, unchanged, of the
expert's own product (the `fit` part; data and licences as in the model card). Nothing was trained again; temperatures
and thresholds are those of FP32.

A variant ships if it is at least 1.15 times as fast at every batch and loses at most 0.2 points on `gate` and `val` together.
For ONNX Runtime only: a pool without it runs the FP32 files.

CPU time of a run in microseconds, FP32 -> INT8, both on ONNX Runtime {v["onnxruntime"]} with one thread ({v["processor"]};
medians, the two taking turns on a machine that also did other work):

{table(["expert", *(f"batch {b}" for b in batches), "bytes", "ships"], speed)}

Accuracy in % / macro-F1, FP32 -> INT8:

{table(["expert", "gate and val", "val", "test"], quality)}

{table(["expert", "calibration error, test", "same label, test, %", "largest logit difference, test", "golden samples"], distance)}

All decisions on test, with the shipped variants in the cloud:

{table(["", *ALL], whole)}
"""


def text(r):
    f, n = r["foreign"], r["no_template"]
    answered = ", ".join(f"{p} {pct(v, 0)} %" for p, v in f["answered_as"].items())
    gone = "; ".join(f"{k} {pct(v['accuracy'])} / {v['macro_f1']:.4f}" for k, v in n.items())
    return f"""# Measured results

All numbers are from the `test` parts ({sum(r["test_images"].values())} images, never used for training or calibration)
and from the exported ONNX files. Accuracy in % / macro-F1. Written by `evaluate`; `results.json` has them all.

## Quality

{quality(r)}

Boards without their template: {gone} ({pct(n["mixture"]["offload"], 0)} % offloaded). The thresholds were certified with templates.

## Offload

![accuracy by offload share](offload.png)

{offload(r)}

## Certified thresholds

![error among the kept](coverage.png)

The first two columns: the shipped thresholds on test. The board families of test are not those of the calibration, so this
is the hard check. The last three: 200 random resplits of calibration and test together, certified on one side and checked on
the other ("broken": the error there is above the risk).

{certificates(r)}

## Calibration

![reliability](reliability.png)

{ece(r)}

## Compute

{cost(r)}

{models(r)}

## Bytes

![bytes per offloaded board crop](bytes.png)

{sizes(r)}

These are plain codecs, for comparison. The agent's own coder for two-level pictures sends fewer bytes than any of them.

## One part unreachable

![accuracy with one part unreachable](down.png)

{down(r)}

The certified thresholds stay as they are; where an expert is away, its substitutes answer.
{int8(r)}
## A foreign product

{f["images"]} images of magnetic tiles, a product that the bundle does not know: {pct(f["offload"], 0)} % are offloaded at 2 % risk, the
median local risk is {f["local_risk_median"]:.2f}, and {pct(f["probability_above_0.9"], 0)} % get an answer with a probability above 0.9 (as {answered})
if novelty is not looked at. Confidence is no novelty detector.
{unknown(r)}"""


def unknown(r):
    """What novelty and picture checks find, where they were measured."""
    if "novelty" not in r:
        return ""
    products = list(r["novelty"])
    own = table(
        ["product", "test images", "allowed, %", "unknown by novelty, %", "with picture checks, %"],
        [[p, v["images"], pct(v["bound"]), pct(v["unknown"]), pct(v["unknown or refused"])] for p, v in r["novelty"].items()],
    )
    kinds = list(dict.fromkeys(k for v in r["novelty"].values() for k in v["foreign"]))
    cell = lambda v: f"{pct(v['by novelty'], 0)} / {pct(v['in all'], 0)} ({v['images']})" if v else "-"  # noqa: E731
    foreign = table(
        ["pictures", *[f"as {p}" for p in products]],
        [[k, *[cell(r["novelty"][p]["foreign"].get(k)) for p in products]] for k in kinds],
    )
    return f"""
## Unknown

Known samples of the test parts that are called unknown:

{own}

Pictures of something else, compared with each product as if its answer had been taken: unknown by novelty / with picture checks, in
% (images). Boards are given a template of another board.

{foreign}
"""
