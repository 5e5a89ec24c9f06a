"""From the colours of a file's ICC profile to sRGB, as a browser shows them."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 16 * 1024 * 1024  # bytes; what the segments of a JPEG can hold, a larger one is ignored

_CACHED_PROFILE = (
    1024 * 1024
)  # bytes; that of a camera or a screen has a few thousand, of a press half a million
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # by the profile's colour space
_DEVICES = {"scnr", "mntr", "prtr", "spac"}  # classes of profiles that say what a file's numbers mean
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Returns an image of mode RGB, L or CMYK in sRGB, of mode RGB; one that was RGB is changed in place.

    A `profile` that is broken, not bytes, or for another kind of image is ignored.
    """
    transform = _transform(profile) if isinstance(profile, bytes) else None
    if transform is not None and (image.mode, transform.input_mode) == ("L", "RGB"):
        image = image.convert("RGB")
    if transform is None or transform.input_mode != image.mode:
        return image.convert("RGB") if image.mode != "RGB" else image
    return transform.apply_in_place(image) if image.mode == "RGB" else transform.apply(image)


def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    if not 0 < len(profile) <= MAX_PROFILE:
        return None
    # Large ones are not kept, because whoever sends photos would decide how much memory that takes.
    return _cached_transform(profile) if len(profile) <= _CACHED_PROFILE else _new_transform(profile)


def _new_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Returns the transform to sRGB, or None if the profile is unusable or means sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.device_class.strip() not in _DEVICES:
            return None
        mode = _MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.ImageCmsTransform(source, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (KeyError, OSError, ValueError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


_cached_transform = lru_cache(maxsize=8)(_new_transform)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    transformed = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(transformed.astype(int) - colours).max()) <= 1
