"""Test-time augmentation (tta): variants of photos whose predictions are averaged.

A new variant gets a name in TTA_NAMES, here and in recipe.EnsembleSettings, and a case in `apply_tta`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from fovsfe.arrays import Pixels
from fovsfe.photos.decode import PAD_COLOUR

TTA_NAMES: tuple[str, ...] = ("plain", "flip", "zoom", "zoom-flip", "wide", "wide-flip")
ZOOM = 0.875  # the usual ratio of a test crop to a resized photo, 224 / 256


def apply_tta(photos: Pixels, name: str) -> Pixels:
    """Returns one variant of resized photos: uint8 (n, height, width, 3) in and out.

    "plain" leaves them as they are; "flip" mirrors them; "zoom" takes the middle 87.5% of each side, resized
    back; "wide" shrinks the whole photo to 87.5% and adds a border. Raises ValueError for a name that is not
    in TTA_NAMES.
    """
    if name not in TTA_NAMES:
        raise ValueError(f'no test-time augmentation "{name}": there are {", ".join(TTA_NAMES)}')
    scale, _, mirrored = name.partition("-")
    if scale == "flip" or mirrored:
        photos = np.ascontiguousarray(photos[:, :, ::-1])
    if scale == "zoom":
        return _apply_to_each(_zoom, photos)
    if scale == "wide":
        return _apply_to_each(_wide, photos)
    return photos


def _apply_to_each(change: Callable[[Image.Image], Pixels], photos: Pixels) -> Pixels:
    out = np.empty_like(photos)
    for i, photo in enumerate(photos):
        out[i] = change(Image.fromarray(photo))
    return out


def _zoom(photo: Image.Image) -> Pixels:
    width, height = photo.size
    left, top = width * (1 - ZOOM) / 2, height * (1 - ZOOM) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box))


def _wide(photo: Image.Image) -> Pixels:
    width, height = photo.size
    inner = photo.resize(
        (max(round(width * ZOOM), 1), max(round(height * ZOOM), 1)), Image.Resampling.BICUBIC
    )
    canvas = Image.new("RGB", photo.size, PAD_COLOUR)
    canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return np.asarray(canvas)
