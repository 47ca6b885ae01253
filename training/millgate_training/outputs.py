"""Raw outputs of every network on the parts that no network was trained on."""

import numpy as np

from .config import CLASSES, MEAN, PARTS, STD
from .image import resize_all, tensor


def parts_of(work, product, part):
    """Columns of one part: ids, images, templates (or None), y, class, group, source."""
    z = np.load(work / "parts.npz")
    rows = z[f"{product}/part"] == PARTS.index(part)
    columns = {k: z[f"{product}/{k}"][rows] for k in ("ids", "images", "y", "group", "source")}
    templates = f"{product}/templates"
    columns["templates"] = z[templates][rows] if templates in z else None
    columns["class"] = np.array(CLASSES[product])[columns["y"]] if product in CLASSES else columns["y"]
    return columns


def inputs_of(model, columns):
    """The model's input tensors by name, or None where a modality is missing."""
    pixels = {"image": columns["images"], "template": columns["templates"]}
    if model.tier == "dense" and pixels["template"] is None:
        pixels["template"] = np.full_like(pixels["image"], round(MEAN * 255))
    if any(pixels[name] is None for name in model.inputs):
        return None
    return {name: tensor(resize_all(pixels[name], model.size), MEAN, STD) for name in model.inputs}


def logits_of(net, model, columns, output=0, batch=256):
    import torch  # here, so that the steps after the export run without it

    inputs = inputs_of(model, columns)
    if inputs is None:
        return None
    net.eval()
    arrays = [torch.from_numpy(inputs[name]) for name in model.inputs]
    rows = range(0, len(columns["y"]), batch)
    with torch.no_grad():
        return torch.cat([net(*[a[i : i + batch] for a in arrays])[output] for i in rows]).numpy()
