"""photos.tta: each view keeps shape and type and shows what its name says."""

import numpy as np
import pytest

from fovsfe.photos.decode import PAD_COLOUR
from fovsfe.photos.tta import TTA_NAMES, apply_tta

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), np.uint8)


@pytest.mark.parametrize("name", TTA_NAMES)
def test_shape_and_type(name):
    variant = apply_tta(PHOTOS, name)
    assert variant.shape == PHOTOS.shape and variant.dtype == np.uint8 and variant.flags.c_contiguous


def test_plain_and_flip():
    assert np.array_equal(apply_tta(PHOTOS, "plain"), PHOTOS)
    assert np.array_equal(apply_tta(PHOTOS, "flip"), PHOTOS[:, :, ::-1])
    assert np.array_equal(apply_tta(apply_tta(PHOTOS, "flip"), "flip"), PHOTOS)


def test_zoom_shows_the_middle():
    framed = np.zeros((1, 64, 64, 3), np.uint8)
    framed[:, 4:60, 4:60] = 255
    assert apply_tta(framed, "zoom").min() > 230  # the kernel reaches a little beyond the cut
    assert np.array_equal(apply_tta(PHOTOS, "zoom-flip"), apply_tta(PHOTOS[:, :, ::-1], "zoom"))


def test_wide_shows_all_with_a_border():
    wide = apply_tta(np.full((1, 64, 64, 3), 255, np.uint8), "wide")[0]
    assert (wide[:4] == PAD_COLOUR).all() and (wide[:, -4:] == PAD_COLOUR).all()
    assert (wide[4:60, 4:60] == 255).all()


def test_unknown_view_and_no_photos():
    with pytest.raises(ValueError, match="plain, flip"):
        apply_tta(PHOTOS, "sideways")
    assert apply_tta(PHOTOS[:0], "zoom").shape == (0, 40, 64, 3)
