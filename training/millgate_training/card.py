"""The model card of the bundle."""

from . import report
from .config import DEFAULT_RISK, GATE_SHARE, PRODUCTS

HEAD = """# {name} {version}

{description}. Nine experts, one encoder and one gate for [Millgate](../../docs/bundles.md): five experts are small enough
for a device, four are for the pool{variants}. Experts, encoder and gate are trained from scratch on public data by [`training/`](../../training/README.md).

## Data and licences

| product | data set | what was used | licence |
| --- | --- | --- | --- |
| `deeppcb` | [DeepPCB](https://github.com/tangsanli5201/DeepPCB), S. Tang et al., arXiv:1902.06197 | 64x64 crops of binarised board scans with their templates; parts by board family | MIT. Its README adds "You can only use this dataset for research purpose"; the two statements disagree, so clear it with the authors before commercial use |
| `xsdd` | [X-SDD](https://github.com/Fighter20092392/X-SDD-A-New-benchmark), X. Feng et al., Symmetry 13(4):706, 2021 | 128x128 grey images of hot-rolled strip, seven defects | Apache-2.0 |
| `bsdata` | [BSData](https://github.com/2Obe/BSData), T. Schlagenhauf, M. Landwehr, Data in Brief 39:107643, 2021 | 128x128 grey images of ball screw spindles; parts by place on the spindle | CC BY-SA 4.0. No image of it is in this bundle. Whether weights inherit share-alike is unsettled: treat `screw-s`, `screw-l`, `generalist-s` and `image-encoder` as CC BY-SA 4.0 |

`steel-s` also holds three stages of EfficientNet-Lite0, for novelty alone (Apache-2.0, Copyright (c) 2020 ML Illustrated and The
TensorFlow Authors; trained on ImageNet, whose pictures are for non-commercial research: whether weights inherit that is unsettled;
[provenance and notice](../backbone/NOTICE)). The banks in `novelty/` hold features and statistics of training images, not
the images; treat that of `bsdata` as CC BY-SA 4.0.

Manifest: `{licence}`. Of each official train split, {gate} were kept from the networks for gate and calibration.
Most board defects were drawn in by the authors of DeepPCB after real patterns; its `normal` crops are random ones away from
every defect.

## Use

Meant for: showing and testing Millgate; a starting point for experts of one's own line. An answer is one of {labels} labels.

Not meant for: accepting or rejecting parts without the line's own validation; products other than the three; boards of
another scale than 48 pixels per millimetre or with grey levels; steel without a defect (X-SDD has no good class, so a good
strip still gets a defect's name).

## Limits

- A certified threshold holds for samples drawn as the calibration samples were. New board families, cameras or light are not:
  certify again on your own samples before you rely on the number.
- Thresholds for boards rest on one family that no expert had seen; families differ, and those of test are harder (see below).
- Few samples: thresholds for steel and screws rest on fewer than 300 each, so small risks have no threshold and always ask the
  cloud.
- 128x128 images of spindles hide the smallest pits; many errors are pits at their first appearance.
- A foreign product is recognised by its novelty alone (see "Unknown"), never by confidence.
- An unseen kind of defect on a known product often looks like a known one: do not count on novelty for it.
- No threshold was certified for boards without their template.

"""


def text(written, results):
    share = ", ".join(f"{100 * v:.0f} % ({p})" for p, v in GATE_SHARE.items())
    varied = [f"`{e['name']}`" for e in written["experts"] if "variants" in e]
    also = f" ({', '.join(varied)} also in INT8, for ONNX Runtime)" if varied else ""
    out = HEAD.format(**written["head"], variants=also, gate=share, labels=len(written["tasks"][0]["labels"]))
    out += "## Thresholds\n\n" + thresholds(written) + "\n\n"
    if not results:
        return out + "Not measured yet.\n"
    body = report.text(results).split("## Quality", 1)[1]
    body = "\n".join(line for line in body.split("\n") if not line.startswith("!["))
    while "\n\n\n" in body:
        body = body.replace("\n\n\n", "\n\n")
    n = sum(results["test_images"].values())
    intro = f"## Quality on test\n\n{n} images, exported models; accuracy in % / macro-F1. Mixtures: the cloud is asked at the named risk."
    return out + intro + body


def thresholds(written):
    rows = []
    for t in written["offload"]["thresholds"]:
        star = " (default)" if t["risk"] == DEFAULT_RISK else ""
        kept = f"{t['calibration_kept']} of {t['calibration_samples']}"
        only = " known beforehand" if t.get("restricted") else ""
        rows.append([t["product"] + only, f"{t['risk']:g}{star}", f"{t['threshold']:.4f}", kept, t["calibration_errors"]])
    missing = [p for p in PRODUCTS if not any(t["product"] == p and t["risk"] == DEFAULT_RISK and not t.get("restricted") for t in written["offload"]["thresholds"])]
    note = f"\n\nNo threshold at the default risk for: {', '.join(missing)}." if missing else ""
    return report.table(["product", "risk", "threshold", "calibration samples kept", "wrong among them"], rows) + note
