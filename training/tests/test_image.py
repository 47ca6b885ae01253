"""From a file to grey, as docs/bundles.md says."""

import io

import numpy as np
import pytest
from PIL import Image

from millgate_training.image import grey

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def written(pixels, form="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_camera_of_few_bits_gives_the_grey_of_eight(form, bits):
    assert (grey(written(LEVELS.astype(np.uint16) << bits - 8, form)) == LEVELS).all()


def test_who_says_the_depth_is_believed():
    dark = LEVELS.astype(np.uint16) * 3
    assert grey(written(dark)).max() == 765 >> 2
    assert grey(written(dark), depth=12).max() == 765 >> 4
    assert grey(written(dark, "TIFF", tiffinfo={281: 4095})).max() == 765 >> 4


def test_eight_bits_stretched_to_sixteen_are_sure_however_dark():
    dark = (LEVELS // 16).astype(np.uint16) * 257
    assert grey(written(dark)).max() == 15


def test_a_picture_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[274] = 6
    assert (grey(written(LEVELS[:4], exif=exif)) == np.rot90(LEVELS[:4], -1)).all()
