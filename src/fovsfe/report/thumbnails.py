"""Small pictures for a page that is one file: photos as data URIs."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovsfe.photos.decode import MAX_PIXELS, BadPhoto, decode
from fovsfe.photos.reader import read_bytes
from fovsfe.storage.locations import AnyPath

Pixels = npt.NDArray[np.uint8]

SIDE = 160  # pixels of the longer side, by default
QUALITY = 70  # of the JPEG: 3 to 6 kB a photo

# A grey that is neither lost on white nor glaring on black.
PLACEHOLDER = "data:image/svg+xml;base64," + base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" width="160" height="120" viewBox="0 0 160 120">'
    b'<rect width="160" height="120" fill="#8a8f98" fill-opacity=".25"/>'
    b'<g fill="none" stroke="#8a8f98" stroke-width="3" stroke-linecap="round" stroke-linejoin="round">'
    b'<rect x="48" y="36" width="64" height="48" rx="5"/><path d="M52 80l18-20 10 9 14-18 15 19"/>'
    b'<path d="M42 92L118 28"/></g></svg>'
).decode("ascii")


def thumbnail(root: AnyPath, path: str, side: int = SIDE, max_pixels: int = MAX_PIXELS) -> str:
    """A photo of the table as a data URI: upright, its longer side at most `side` pixels.

    `path` is under `root`, also into a zip. A photo that cannot be read, or has more than `max_pixels`, gives
    PLACEHOLDER.
    """
    try:
        return data_uri(decode(read_bytes(root, path), (side, side), max_pixels), side)
    except (OSError, BadPhoto):
        return PLACEHOLDER


def data_uri(pixels: Pixels, side: int = SIDE) -> str:
    """uint8 (height, width, 3) as the data URI of a JPEG without metadata, shrunk to `side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
