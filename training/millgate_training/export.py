"""ONNX files in Triton's folder shape: opset 17, dynamic first axis, temperature inside, weights stored as FP16."""

import json
import warnings

import numpy as np
import onnx
import torch
from torch import nn

from .config import EMBEDDING, ENCODER, EXPERTS, GATE, MODALITIES
from .gate import Gate
from .onnx_files import halve, session
from .outputs import inputs_of, parts_of
from .train import load

OPSET = 17


class ExpertGraph(nn.Module):
    def __init__(self, net, temperature, shift):
        super().__init__()
        self.net, self.temperature = net, temperature
        if any(shift):
            self.net.head.bias.data += torch.tensor(shift)

    def forward(self, *inputs):
        logits, feat, fmap = self.net(*inputs)
        return logits / self.temperature, feat, fmap


class EncoderGraph(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)[1]


def write(graph, example, inputs, outputs, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "N"} for name in [*inputs, *outputs]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(), example, str(path), dynamo=False, opset_version=OPSET, dynamic_axes=axes,
            input_names=inputs, output_names=outputs, do_constant_folding=True,
        )  # fmt: skip
    model = onnx.load(path)
    halve(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def example_of(work, model, count=4):
    """Inputs of a few calibration samples of the model's first product (any pixels would do for the rest)."""
    columns = parts_of(work, model.products[0], "val")
    rows = np.linspace(0, len(columns["y"]) - 1, count).astype(int)
    few = {k: v if v is None else v[rows] for k, v in columns.items()}
    return inputs_of(model, few)


def compare(graph, path, feed):
    with torch.no_grad():
        expected = graph(*[torch.from_numpy(v) for v in feed.values()])
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = session(path).run(None, feed)
    worst = max(float(np.abs(g - e.numpy()).max()) for g, e in zip(got, expected))
    print(f"{path.parent.parent.name}: {path.stat().st_size} bytes, FP16 weights differ from PyTorch by {worst:.4f} at most")
    assert worst < 0.15, "the exported graph is not the trained network"


def run(data, work):
    del data
    folder = work / "export"
    calibration = json.loads((work / "calibration.json").read_text())
    for model in EXPERTS:
        feed = example_of(work, model)
        graph = ExpertGraph(load(model, work), calibration["temperatures"][model.name], calibration["shifts"][model.name])
        path = folder / model.name / "1" / "model.onnx"
        write(graph, tuple(map(torch.from_numpy, feed.values())), list(feed), ["logits", "feat", "fmap"], path)
        compare(graph, path, feed)
    feed = example_of(work, ENCODER)
    graph = EncoderGraph(load(ENCODER, work))
    path = folder / ENCODER.name / "1" / "model.onnx"
    write(graph, tuple(map(torch.from_numpy, feed.values())), list(feed), ["embedding"], path)
    compare(graph, path, feed)
    gate = Gate()
    gate.load_state_dict(torch.load(work / "models" / "gate.pt"))
    embedding = session(path).run(None, feed)[0][:, None]
    assert embedding.shape[1:] == (1, EMBEDDING)
    feed = {"embeddings": embedding, "presence": np.ones((len(embedding), len(MODALITIES)), np.float32)}
    path = folder / GATE / "1" / "model.onnx"
    write(gate, tuple(map(torch.from_numpy, feed.values())), list(feed), ["scores"], path)
    compare(gate, path, feed)
