"""The networks: plain 3x3 convolutions and ReLU, which the Rust engine runs fastest; batch norm folds away on export."""

import torch
import torch.nn.functional as F
from torch import nn

from .config import EMBEDDING


def conv(i, o, kernel=3, stride=1, act=True):
    layers = [nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width, act=False))

    def forward(self, x):
        return F.relu(x + self.body(x))


def small(channels, size):
    """About 20 MMAC and 86 k weights; 8x8 feature map."""
    first = conv(channels, 16, stride=size // 64)
    rest = [conv(16, 24, stride=2), conv(24, 24), conv(24, 40, stride=2), conv(40, 40), conv(40, 56, stride=2), conv(56, 56)]
    return nn.Sequential(first, *rest, conv(56, 96, kernel=1)), 96


def large(channels, size):
    """About 100 MMAC and 1.0 M weights; 8x8 feature map."""
    front = [conv(channels, 24, stride=2)] if size == 128 else []
    first = conv(24 if front else channels, 32, kernel=4, stride=2)
    rest = [Residual(32), conv(32, 64, stride=2), Residual(64), conv(64, 128, stride=2), Residual(128), Residual(128)]
    return nn.Sequential(*front, first, *rest, conv(128, 192)), 192


def encoder(channels, size):
    """About 1.3 MMAC."""
    return nn.Sequential(conv(channels, 16, kernel=4, stride=4), conv(16, 32, stride=2), conv(32, 48)), 48


TRUNKS = {"small": small, "large": large, "encoder": encoder}


class Net(nn.Module):
    """Reads the image, and where it has one its template and their difference."""

    def __init__(self, model):
        super().__init__()
        self.peak = model.peak
        self.trunk, width = TRUNKS[model.trunk](3 if len(model.inputs) == 2 else 1, model.size)
        self.embeds = model.trunk == "encoder"
        if self.embeds:
            self.embed = nn.Linear(width, EMBEDDING)
            width = EMBEDDING
        self.drop = nn.Dropout(model.dropout)
        self.head = nn.Linear(width, len(model.labels))

    def forward(self, image, template=None):
        x = image if template is None else torch.cat([image, template, (image - template).abs()], 1)
        fmap = self.trunk(x)
        feat = fmap.amax((2, 3)) if self.peak else fmap.mean((2, 3))
        if self.embeds:
            feat = self.embed(feat)
            feat = feat / feat.pow(2).mean(1, keepdim=True).add(1e-6).sqrt()
        return self.head(self.drop(feat)), feat, fmap


def macs(net, model):
    """Multiply-accumulates of one sample, counted layer by layer."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += layer.weight.numel() * output.shape[2] * output.shape[3]
        else:
            total += layer.weight.numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    net.eval()
    with torch.no_grad():
        net(*[torch.zeros(1, 1, model.size, model.size) for _ in model.inputs])
    for hook in hooks:
        hook.remove()
    return total
