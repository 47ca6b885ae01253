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

## A foreign product

{f["images"]} images of magnetic tiles, a product that the bundle does not know: {pct(f["offload"], 0)} % are offloaded at 2 % risk, the
median local risk is {f["local_risk_median"]:.2f}, and {pct(f["probability_above_0.9"], 0)} % still get an answer with a probability above 0.9 (as {answered}).
Every answer is wrong by construction. Confidence is no novelty detector: do not point the bundle at other products.
"""
