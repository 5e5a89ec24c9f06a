"""Test-time augmentation (tta): the same photos as a camera a little nearer, farther or mirrored would have them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovsfe.photos.decode import PAD_COLOUR

Pixels = npt.NDArray[np.uint8]

TTA_NAMES: tuple[str, ...] = ("plain", "flip", "zoom", "zoom-flip", "wide", "wide-flip")
NEARER = 0.875  # the usual ratio of a test crop to a resized photo, 224 / 256


def apply_tta(photos: Pixels, name: str) -> Pixels:
    """One view of fitted photos: uint8 (n, height, width, 3) in and out.

    "flip" mirrors; "zoom" is the middle 87.5 % of each side, resized back; "wide" the whole photo at 87.5 %
    with a border. Raises ValueError for a name that is not in VIEWS.
    """
    if name not in TTA_NAMES:
        raise ValueError(f'no view "{name}": there are {", ".join(TTA_NAMES)}')
    scale, _, mirrored = name.partition("-")
    if scale == "flip" or mirrored:
        photos = np.ascontiguousarray(photos[:, :, ::-1])
    if scale == "zoom":
        return _each(_zoom, photos)
    if scale == "wide":
        return _each(_wide, photos)
    return photos


def _each(change: Callable[[Image.Image], Pixels], photos: Pixels) -> Pixels:
    out = np.empty_like(photos)
    for i, photo in enumerate(photos):
        out[i] = change(Image.fromarray(photo))
    return out


def _zoom(photo: Image.Image) -> Pixels:
    width, height = photo.size
    left, top = width * (1 - NEARER) / 2, height * (1 - NEARER) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box))


def _wide(photo: Image.Image) -> Pixels:
    width, height = photo.size
    inner = photo.resize(
        (max(round(width * NEARER), 1), max(round(height * NEARER), 1)), Image.Resampling.BICUBIC
    )
    canvas = Image.new("RGB", photo.size, PAD_COLOUR)
    canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return np.asarray(canvas)
