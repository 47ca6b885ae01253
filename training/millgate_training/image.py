"""From a file to a tensor, exactly as docs/bundles.md says."""

import io

import numpy as np
from PIL import Image, ImageOps

MAX_SAMPLE_VALUES = (281, 341)  # TIFF tags: MaxSampleValue, SMaxSampleValue


def bit_depth(samples, declared=None):
    """How many bits of 16-bit samples count: what the file says, where all keep to it, or the largest."""
    largest = int(samples.max())
    if declared and largest < 1 << declared:
        return declared
    if ((samples >> 8) == (samples & 255)).all():  # 8 bits that were stretched to 16
        return 16
    return next((bits for bits in (8, 10, 12, 14) if largest < 1 << bits), 16)


def declared_depth(image):
    tags = getattr(image, "tag_v2", {})
    values = [np.max(tags[tag]) for tag in MAX_SAMPLE_VALUES if tag in tags]
    depths = [bits for bits in range(8, 17) if (1 << bits) - 1 in values]
    return depths[0] if depths else None


def grey(source, depth=None):
    """8-bit grey pixels of an image file (path, bytes or file object). `depth`: bits of 16-bit samples, if they are known."""
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    declared = declared_depth(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64)
        return (samples >> (depth or bit_depth(samples, declared)) - 8).clip(0, 255).astype(np.uint8)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode == "LA":
        return np.asarray(image.getchannel("L"))
    r, g, b = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.int64), -1, 0)
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).astype(np.uint8)


def resize(pixels, height, width):
    """Antialiased bilinear resize of 8-bit pixels; the identity where the size already fits."""
    if pixels.shape == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.BILINEAR))


def resize_all(images, size):
    if images.shape[1:] == (size, size):
        return images
    return np.stack([resize(i, size, size) for i in images])


def tensor(pixels, mean, std):
    """[N,H,W] grey pixels to the [N,1,H,W] float32 that a model reads."""
    return ((pixels.astype(np.float32) / 255 - mean) / std)[:, None]


def png(pixels, two_level=False):
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert("1", dither=Image.Dither.NONE) if two_level else image).save(out, "PNG", optimize=True)
    return out.getvalue()
