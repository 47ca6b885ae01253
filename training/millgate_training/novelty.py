"""Whether a sample is like anything known: features, banks of known samples, and conformal p-values (docs/bundles.md).

The score of a sample is the distance to its k-th nearest known one, in units of the distance that one calibration sample in
twenty exceeds. Among calibration scores, the share that is as high or higher is the p-value; several detectors share the
bound (Bonferroni).
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .backbone import MEAN as BACKBONE_MEAN
from .backbone import STD as BACKBONE_STD
from .config import ENCODER, MEAN, STD
from .image import resize, resize_all, tensor

PICTURE = "picture"
SIDE = 64  # of the picture that the statistics are taken of
QUANTILES = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]
HALVINGS = 3
LEAST_SD = 1e-6


def statistics(images):
    """[N,19]: grey quantiles; at four scales the mean step across and down, and the standard deviation."""
    rows = []
    for image in images:
        grey = resize(image, SIDE, SIDE).astype(np.float64)
        row = list(np.quantile(grey, QUANTILES))
        for halving in range(HALVINGS + 1):
            if halving:
                half = len(grey) // 2
                grey = grey.reshape(half, 2, half, 2).mean((1, 3))
            row += [np.abs(np.diff(grey, axis=1)).mean(), np.abs(np.diff(grey, axis=0)).mean(), grey.std()]
        rows.append(row)
    return np.array(rows, np.float64).reshape(len(images), -1) / 255


def run_in_batches(session, output, feed, batch=64):
    n = len(next(iter(feed.values())))
    return np.concatenate([session.run([output], {k: v[i : i + batch] for k, v in feed.items()})[0] for i in range(0, n, batch)])


def picture(encoder, images):
    """Features of the detector `picture` and the sizes of their two blocks."""
    feed = {"image": tensor(resize_all(images, ENCODER.size), MEAN, STD)}
    embedding = run_in_batches(encoder, "embedding", feed)
    numbers = statistics(images)
    return np.concatenate([embedding, numbers], 1), [embedding.shape[1], numbers.shape[1]]


def add_pools(graph, skip):
    """Gives an expert's graph the output `nov`: mean, largest and deviation of each channel of every ReLU but the first few.

    Nodes are only added, so that what was there is computed as before. Gives the number of dimensions.
    """
    channels = {w.name.removesuffix(".f16"): w.dims[0] for w in graph.initializer if len(w.dims) == 4}
    made_by = {node.output[0]: node for node in graph.node}
    taps = [node.output[0] for node in graph.node if node.op_type == "Relu"][skip:]
    parts = []
    for i, tap in enumerate(taps):
        kinds = ("mean", "max", "kept", "off", "sq", "var", "sd")
        mean, most, kept, off, square, variance, deviation = (f"nov.{kind}{i}" for kind in kinds)
        pool = {"axes": [2, 3], "keepdims": 0}
        graph.node.extend(
            [
                helper.make_node("ReduceMean", [tap], [mean], **pool),
                helper.make_node("ReduceMax", [tap], [most], **pool),
                helper.make_node("ReduceMean", [tap], [kept], axes=[2, 3], keepdims=1),
                helper.make_node("Sub", [tap, kept], [off]),
                helper.make_node("Mul", [off, off], [square]),
                helper.make_node("ReduceMean", [square], [variance], **pool),
                helper.make_node("Sqrt", [variance], [deviation]),
            ]
        )
        parts += [mean, most, deviation]
    return close(graph, parts, sum(3 * channels[made_by[made_by[tap].input[0]].input[1]] for tap in taps))


def add_backbone(graph, backbone):
    """Gives an expert's graph the output `nov`: mean and largest of each channel of a frozen backbone's third stage.

    The picture comes as the expert's input; it is halved inside the graph. Gives the number
    of dimensions.
    """
    shift = {"nov.gain": STD / BACKBONE_STD, "nov.shift": (MEAN - BACKBONE_MEAN) / BACKBONE_STD}
    graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in shift.items())
    graph.node.extend(
        [
            helper.make_node("AveragePool", ["image"], ["nov.small"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Mul", ["nov.small", "nov.gain"], ["nov.scaled"]),
            helper.make_node("Add", ["nov.scaled", "nov.shift"], ["nov.image"]),
        ]
    )
    stage = up_to(backbone, "stage3")
    rename = {"image": "nov.image"}
    for weight in stage[1]:
        graph.initializer.append(weight)
        rename[weight.name] = weight.name = f"nov.{weight.name}"
        graph.initializer[-1].name = weight.name
    for node in stage[0]:
        node.input[:] = [rename.get(i, f"nov.{i}") for i in node.input]
        node.output[:] = [f"nov.{o}" for o in node.output]
        node.name = f"nov.{node.name}" if node.name else ""
        graph.node.append(node)
    pool = {"axes": [2, 3], "keepdims": 0}
    graph.node.append(helper.make_node("ReduceMean", ["nov.stage3"], ["nov.mean"], **pool))
    graph.node.append(helper.make_node("ReduceMax", ["nov.stage3"], ["nov.max"], **pool))
    channels = next(o for o in backbone.output if o.name == "stage3").type.tensor_type.shape.dim[1].dim_value
    return close(graph, ["nov.mean", "nov.max"], 2 * channels)


def up_to(graph, output):
    """Nodes and weights that an output needs, in order."""
    wanted, nodes = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            nodes.insert(0, node)
            wanted |= set(node.input)
    return nodes, [w for w in graph.initializer if w.name in wanted]


def close(graph, parts, dims):
    graph.node.append(helper.make_node("Concat", parts, ["nov"], axis=1))
    graph.output.append(helper.make_tensor_value_info("nov", TensorProto.FLOAT, ["N", dims]))
    return dims


@dataclass
class Bank:
    """Known samples of one product, as one detector sees them."""

    scale: np.ndarray  # [d]
    rows: np.ndarray  # [n,d] int8
    step: np.ndarray  # [d]
    zero: np.ndarray  # [d]
    unit: float = 1.0
    calibration: np.ndarray = None  # ascending

    @classmethod
    def of(cls, features, blocks):
        scale = np.maximum(features.std(0), LEAST_SD) * np.sqrt(np.repeat(blocks, blocks))
        scale = scale.astype(np.float32)
        scaled = features / scale
        low, high = scaled.min(0), scaled.max(0)
        step = np.maximum((high - low) / 254, LEAST_SD).astype(np.float32)
        zero = ((high + low) / 2).astype(np.float32)
        rows = np.clip(np.rint((scaled - zero) / step), -127, 127).astype(np.int8)
        return cls(scale, rows, step, zero)

    def distances(self, features, k, batch=256):
        """To the k-th nearest row."""
        known = self.rows.astype(np.float32) * self.step + self.zero
        squares = (known.astype(np.float64) ** 2).sum(1)
        found = []
        for i in range(0, len(features), batch):
            x = (features[i : i + batch] / self.scale).astype(np.float64)
            d = (x**2).sum(1)[:, None] + squares - 2 * x @ known.T
            found.append(np.sqrt(np.maximum(np.partition(d, k - 1, 1)[:, k - 1], 0)))
        return np.concatenate(found)

    def calibrate(self, distances):
        distances = np.sort(distances.astype(np.float32))
        self.unit = float(distances[-(-19 * len(distances) // 20) - 1])
        self.calibration = distances / np.float32(self.unit)

    def p(self, features, k):
        return p_value(self.calibration, self.distances(features, k) / self.unit)

    def tensors(self, detector, labels):
        plain = {"scale": self.scale, "rows": self.rows, "step": self.step, "zero": self.zero}
        plain |= {"unit": np.array([self.unit], np.float32), "calibration": self.calibration, "labels": labels.astype(np.uint16)}
        return {f"{detector}.{name}": np.ascontiguousarray(v) for name, v in plain.items()}


def p_value(calibration, scores):
    below = np.searchsorted(calibration, scores.astype(np.float32), side="left")
    return (1 + len(calibration) - below) / (len(calibration) + 1)


def together(each):
    """Of several detectors, an array of p-values each."""
    return np.minimum(np.min(each, axis=0) * len(each), 1)
