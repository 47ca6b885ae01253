"""Trains each network that has no file yet: AdamW, cosine, label smoothing, averaged weights, optional teacher."""

import copy
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import augment
from .config import LABELS, MEAN, SEED, STD, TRAINED
from .nets import Net, macs
from .pits import Pits

SMOOTHING = 0.05
TEACHER_SHARE = 0.6
PLACE_WEIGHT = 1.0


class Source:
    """The fit part of one product, kept as bytes; draws augmented batches."""

    def __init__(self, work, product):
        self.product = product
        parts = np.load(work / "parts.npz")
        fit = parts[f"{product}/part"] == 0
        images, self.y = parts[f"{product}/images"][fit], parts[f"{product}/y"][fit]
        self.x = images[:, None]
        if product == "deeppcb":
            z = np.load(work / "windows.npz")
            self.x, self.y = np.stack([z["image"], z["template"]], 1), z["y"]
        self.pits = Pits(images, self.y, parts[f"{product}/group"][fit]) if product == "bsdata" else None

    def batch(self, index, g, rng):
        """Images (boards with their templates), labels, and masks of the defects where they are known."""
        x, y = self.x[index], self.y[index]
        if self.pits:
            image, y, mask = self.pits.batch(index, rng)
            x = np.stack([image, mask], 1)
        x = self.augment(torch.from_numpy(x).float() / 255, g)
        return (x[:, :1], y, x[:, 1:]) if self.pits else (x, y, None)

    def augment(self, x, g):
        if self.product == "deeppcb":
            return augment.boards(x, g)
        if self.product == "xsdd":
            return augment.surfaces(x, g, light=0.6)
        return augment.surfaces(x, g, angle=4, scale=(0.85, 1.1), stretch=1.08, shift=0.06, fine=True)


def normalise(x):
    return (x - MEAN) / STD


def fit_size(x, size):
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", antialias=True)


class Mixture:
    """Batches over one or more products, each with its share of the epoch; labels in the model's own order."""

    def __init__(self, model, work):
        self.model = model
        self.sources = [Source(work, p) for p in model.products]
        self.offsets = [model.labels.index(next(v for v in model.labels if v.startswith(f"{p}/"))) for p in model.products]

    def epoch(self, rng):
        plan = []
        for k, source in enumerate(self.sources):
            n = len(source.y)
            draws = self.model.draws.get(source.product, n)
            order = np.concatenate([rng.permutation(n) for _ in range(math.ceil(draws / n))])[:draws]
            plan.append(np.stack([np.full(draws, k), order], 1))
        plan = rng.permutation(np.concatenate(plan))
        size = self.model.batch
        return [plan[i : i + size] for i in range(0, len(plan) - size // 2, size)]

    def batch(self, rows, g, rng):
        xs, ys = [], []
        for k, source in enumerate(self.sources):
            index = rows[rows[:, 0] == k, 1]
            if len(index):
                x, y, mask = source.batch(index, g, rng)
                x = fit_size(x, self.model.size)
                if len(self.model.inputs) == 2 and x.shape[1] == 1:  # no template: that input is zero
                    x = torch.cat([x, torch.full_like(x, MEAN)], 1)
                xs.append(x[:, : len(self.model.inputs)])
                ys.append(torch.from_numpy(y + self.offsets[k]))
        y = F.one_hot(torch.cat(ys), len(self.model.labels)).float()
        return torch.cat(xs), y, mask if self.model.peak else None


def place_loss(net, fmap, mask, y):
    """Cross-entropy of the head at every place of the feature map against where the defect is.

    Images with a defect at an unknown place are left out.
    """
    truth = F.adaptive_max_pool2d(mask, fmap.shape[-1])[:, 0]
    known = (truth.amax((1, 2)) > 0.5) | (y[:, 0] > 0.5)  # class 0 has no defect
    row = net.head.weight[1] - net.head.weight[0]
    z = torch.einsum("c,nchw->nhw", row, fmap) + net.head.bias[1] - net.head.bias[0]
    sure = (truth < 0.05) | (truth > 0.5)
    loss = F.binary_cross_entropy_with_logits(z, (truth > 0.5).float(), pos_weight=torch.tensor(8.0), reduction="none")
    return (loss * sure)[known].mean()


class Average:
    """Exponential moving average of weights and running statistics."""

    def __init__(self, net, steps):
        self.net = copy.deepcopy(net).eval()
        self.keep = 1 - 1 / max(20, min(600, steps // 12))
        self.step = 0

    @torch.no_grad()
    def update(self, net):
        self.step += 1
        keep = min(self.keep, self.step / (10 + self.step))
        for a, b in zip(self.net.state_dict().values(), net.state_dict().values()):
            a.lerp_(b, 1 - keep) if a.is_floating_point() else a.copy_(b)


def split_inputs(x):
    """The model's inputs, one tensor a modality."""
    return normalise(x).contiguous(memory_format=torch.channels_last).split(1, 1)


def train(model, work, effort):
    torch.manual_seed(SEED)
    g = torch.Generator().manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    mixture = Mixture(model, work)
    net = Net(model).to(memory_format=torch.channels_last)
    teacher = load(TRAINED[model.teacher], work) if model.teacher else None
    epochs = max(2, round(model.epochs * effort))
    steps = epochs * len(mixture.epoch(np.random.default_rng(0)))
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": model.decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=model.rate, fused=True)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1, s / steps))) + 1e-3)
    )
    average = Average(net, steps)
    started = time.time()
    bar = tqdm(total=steps, desc=model.name, mininterval=10)
    for _ in range(epochs):
        net.train()
        total = 0.0
        batches = mixture.epoch(rng)
        for rows in batches:
            x, y, mask = mixture.batch(rows, g, rng)
            plain_y = y
            if model.mixup and torch.rand(1, generator=g) < 0.6:
                x, y = augment.mixup(x, y, model.mixup, g)
            y = y * (1 - SMOOTHING) + SMOOTHING / y.shape[1]
            inputs = split_inputs(x)
            with torch.autocast("cpu", torch.bfloat16):
                logits, _, fmap = net(*inputs)
                logits = logits.float()
                if teacher:
                    with torch.no_grad():
                        soft = teacher(*inputs)[0].float().softmax(1)
                    y = y * (1 - TEACHER_SHARE) + soft * TEACHER_SHARE
            loss = F.cross_entropy(logits, y)
            if mask is not None:
                loss = loss + PLACE_WEIGHT * place_loss(net, fmap.float(), mask, plain_y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            average.update(net)
            total += loss.item()
            bar.update()
        bar.set_postfix(loss=total / len(batches))
    bar.close()
    net = average.net.float()
    cost = {"macs": macs(net, model), "weights": sum(p.numel() for p in net.parameters())}
    cost |= {"epochs": epochs, "train_seconds": round(time.time() - started)}
    path = work / "models" / f"{model.name}.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save({"state": net.state_dict(), "cost": cost}, path)
    report(model, work, net, cost)


def load(model, work):
    net = Net(model)
    net.load_state_dict(torch.load(work / "models" / f"{model.name}.pt")["state"])
    return net.eval().to(memory_format=torch.channels_last)


def report(model, work, net, cost):
    """Accuracy on the parts that training never saw, except test."""
    from .outputs import logits_of, parts_of

    line = []
    for product in model.products:
        for part in ("gate", "val"):
            columns = parts_of(work, product, part)
            scores = logits_of(net, model, columns)
            picked = np.array(model.labels)[scores.argmax(1)]
            truth = np.array([f"{product}/{c}" for c in columns["class"]])
            line.append(f"{product} {part} {np.mean(picked == truth):.4f}")
    tqdm.write(f"{model.name}: {', '.join(line)}; {cost}")


def run(data, work, only=None, effort=1.0):
    del data
    assert len(LABELS) == len(set(LABELS))
    order = sorted(TRAINED.values(), key=lambda m: bool(m.teacher))  # teachers first
    for model in order:
        if only and model.name not in only:
            continue
        if (work / "models" / f"{model.name}.pt").exists():
            tqdm.write(f"{model.name}: already there")
            continue
        train(model, work, effort)
