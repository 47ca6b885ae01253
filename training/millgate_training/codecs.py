"""Bytes that one offloaded image costs under several encodings."""

import io
import zlib

import numpy as np
from PIL import Image

from .image import png


def webp(pixels, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", method=6, **options)
    return out.getvalue()


def unwebp(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def deflate(data):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return squeeze.compress(data) + squeeze.flush()


def bits(pixels):
    return np.packbits(pixels > 127, axis=1).tobytes()


def residual(image, template):
    """The image, and where the template differs from it."""
    return bits(image) + np.packbits((image > 127) ^ (template > 127), axis=1).tobytes()


SINGLE = {
    "PNG": png,
    "WebP lossless": lambda x: webp(x, lossless=True),
    "WebP q20": lambda x: webp(x, quality=20),
    "WebP q0": lambda x: webp(x, quality=0),
}


def boards(images, templates):
    """Bytes of image and template together, and of the image alone, for two-level crops."""
    pairs = list(zip(images, templates))
    table = {"PNG 1-bit": ([len(png(i, True)) for i, _ in pairs], [len(png(t, True)) for _, t in pairs])}
    for name, encode in SINGLE.items():
        if name != "PNG":
            table[name] = ([len(encode(i)) for i, _ in pairs], [len(encode(t)) for _, t in pairs])
    table["1 bit + deflate"] = ([len(deflate(bits(i))) for i, _ in pairs], [len(deflate(bits(t))) for _, t in pairs])
    out = {k: summary(np.add(a, b)) | {"image_alone": float(np.mean(a))} for k, (a, b) in table.items()}
    stream = [len(deflate(bits(i) + bits(t))) for i, t in pairs]
    out["1 bit, one deflate stream"] = summary(stream) | {"image_alone": out["1 bit + deflate"]["image_alone"]}
    together = [len(deflate(residual(i, t))) for i, t in pairs]
    out["1 bit, XOR residual + deflate"] = summary(together) | {"image_alone": out["1 bit + deflate"]["image_alone"]}
    return out


def surfaces(images):
    return {name: summary([len(encode(i)) for i in images]) for name, encode in SINGLE.items()}


def summary(sizes):
    return {"mean": float(np.mean(sizes)), "p95": float(np.percentile(sizes, 95)), "n": len(sizes)}
