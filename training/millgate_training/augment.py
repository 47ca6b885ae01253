"""Augmentation of whole batches: float images in [0, 1], [N,C,H,W], where C is the image and what it is compared with."""

import math

import torch
import torch.nn.functional as F


def rand(n, low, high, g):
    return torch.rand(n, generator=g) * (high - low) + low


def affine(n, g, angle, scale, stretch, shift, turns=False, flips=(True, True)):
    """Random maps [N,2,3] from output to input, in grid units; `turns` adds quarter turns."""
    a = rand(n, -angle, angle, g) * math.pi / 180
    if turns:
        a = a + torch.randint(0, 4, (n,), generator=g) * (math.pi / 2)
    zoom = rand(n, *scale, g)
    sx, sy = zoom * rand(n, 1 / stretch, stretch, g), zoom
    fx = 1 - 2 * (torch.rand(n, generator=g) < 0.5).float() * flips[0]
    fy = 1 - 2 * (torch.rand(n, generator=g) < 0.5).float() * flips[1]
    cos, sin = a.cos(), a.sin()
    rows = [cos * sx * fx, -sin * sy, rand(n, -shift, shift, g), sin * sx, cos * sy * fy, rand(n, -shift, shift, g)]
    return torch.stack(rows, 1).view(n, 2, 3)


def sample(x, theta, size, mode, padding):
    grid = F.affine_grid(theta, (len(x), x.shape[1], size, size), align_corners=False)
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)


def some(n, p, g):
    return (torch.rand(n, generator=g) < p).view(n, 1, 1, 1)


def boards(x, g):
    """96 px windows (tested, template) to 64 px crops. All stays two-level, as the scans are."""
    n = len(x)
    part = 64 / x.shape[-1]
    theta = affine(n, g, 0, (part, part), 1, 0, turns=True)
    bent = affine(n, g, 8, (0.82 * part, 1.18 * part), 1.08, 0, turns=True)
    theta = torch.where(torch.rand(n, generator=g).view(n, 1, 1) < 0.5, theta, bent)
    theta[:, :, 2] = torch.round(rand(2 * n, -6, 6, g)).view(n, 2) * 2 / x.shape[-1]
    drift = theta.clone()  # the template may sit a pixel off
    drift[:, :, 2] += torch.randint(-1, 2, (n, 2), generator=g) * (torch.rand(n, 1, generator=g) < 0.4) * 2 / x.shape[-1]
    image = sample(x[:, :1], theta, 64, "nearest", "border")
    template = sample(x[:, 1:], drift, 64, "nearest", "border")
    return torch.cat([_edges(image, g), _edges(template, g, 0.08)], 1)


def _edges(x, g, p=0.12):
    """Thicker or thinner copper by one pixel on one side, as another threshold would give; and a few flecks."""
    n = len(x)
    thick = -F.max_pool2d(F.pad(-x, (1, 0, 1, 0), mode="replicate"), 2, 1)
    thin = F.max_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, 1)
    x = torch.where(some(n, p, g), thick, x)
    x = torch.where(some(n, p, g), thin, x)
    flecks = (torch.rand(x.shape, generator=g) < 0.001) & some(n, 0.2, g)
    return torch.where(flecks, 1 - x, x)


def surfaces(x, g, angle=8, scale=(0.8, 1.15), stretch=1.15, shift=0.12, light=1.0, fine=False):
    """Photographs: geometry for all channels alike, light and noise for the image (channel 0) alone.

    `fine` spares defects of a few pixels: little noise, no blur, nothing cut out.
    """
    n, c, size = x.shape[:3]
    x = sample(x, affine(n, g, angle, scale, stretch, shift), size, "bilinear", "reflection")
    image = x[:, :1]
    mean = image.mean((2, 3), keepdim=True)
    gain = torch.exp(rand(n, -0.35, 0.35, g) * light).view(n, 1, 1, 1)
    image = (image - mean) * gain + mean + (rand(n, -0.1, 0.1, g) * light).view(n, 1, 1, 1)
    slope = torch.linspace(-1, 1, size)
    tilt = rand(n, -0.06, 0.06, g).view(n, 1, 1, 1) * slope + rand(n, -0.06, 0.06, g).view(n, 1, 1, 1) * slope[:, None]
    image = image + torch.where(some(n, 0.5, g), tilt, 0) * light
    image = torch.where(some(n, 0.0 if fine else 0.15, g), F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1), image)
    image = image + torch.randn(image.shape, generator=g) * rand(n, 0, 0.006 if fine else 0.015, g).view(n, 1, 1, 1)
    if not fine:
        image = _cutout(image, mean, g)
    return torch.cat([image, x[:, 1:]], 1).clamp(0, 1)


def _cutout(image, mean, g, p=0.3):
    n, size = len(image), image.shape[-1]
    line = torch.arange(size) / size
    inside = torch.ones(n, 1, size, size, dtype=torch.bool)
    for axis in (2, 3):
        low, width = rand(n, 0, 0.8, g), rand(n, 0.08, 0.3, g)
        on = (line >= low[:, None]) & (line < (low + width)[:, None])
        inside &= on.view(n, 1, size, 1) if axis == 2 else on.view(n, 1, 1, size)
    return torch.where(inside & some(n, p, g), mean, image)


def mixup(x, y, alpha, g):
    """Blends each sample with another; half of the batches paste a rectangle instead (labels by area)."""
    n, size = len(x), x.shape[-1]
    other = torch.randperm(n, generator=g)
    if torch.rand(1, generator=g) < 0.5:
        share = torch.distributions.Beta(alpha, alpha).sample((n,))
        part = share.view(n, 1, 1, 1)
        return x * part + x[other] * (1 - part), y * share[:, None] + y[other] * (1 - share[:, None])
    h, w = (torch.rand(2, generator=g).mul(0.4).add(0.15) * size).long().tolist()
    top = int(torch.randint(0, size - h, (1,), generator=g))
    left = int(torch.randint(0, size - w, (1,), generator=g))
    x = x.clone()
    x[:, :, top : top + h, left : left + w] = x[other][:, :, top : top + h, left : left + w]
    share = 1 - h * w / size**2
    return x, y * share + y[other] * (1 - share)
