"""Encoded images, as several tests of decoding need them."""

import io

import numpy as np
from PIL import Image


def encoded(image, kind, **options):
    """Returns an array or a PIL image in a format."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    """Returns EXIF with an orientation: as bytes, because pillow-heif turns only those into HEIF's own."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()
