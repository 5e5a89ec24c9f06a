"""Thumbnails as data URIs, for pages that are a single file."""

import base64
import io

from PIL import Image

from fovsfe.arrays import Pixels
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.reader import read_unchanged
from fovsfe.storage.locations import AnyPath

SIDE = 160  # pixels of the longer side, by default
QUALITY = 70  # of the JPEG: 3 to 6 kB a photo

# A grey that can be seen on white and does not glare on black.
PLACEHOLDER = "data:image/svg+xml;base64," + base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" width="160" height="120" viewBox="0 0 160 120">'
    b'<rect width="160" height="120" fill="#8a8f98" fill-opacity=".25"/>'
    b'<g fill="none" stroke="#8a8f98" stroke-width="3" stroke-linecap="round" stroke-linejoin="round">'
    b'<rect x="48" y="36" width="64" height="48" rx="5"/><path d="M52 80l18-20 10 9 14-18 15 19"/>'
    b'<path d="M42 92L118 28"/></g></svg>'
).decode("ascii")


def thumbnail(root: AnyPath, path: str, sha256: str, side: int = SIDE, max_pixels: int = MAX_PIXELS) -> str:
    """Returns a photo as a data URI: upright, its longer side at most `side` pixels.

    Paths of a run from elsewhere could name any file of this machine: only the photo itself is shown.

    Args:
        root: the folder, here or at a URL, that `path` is relative to.
        path: the photo's path as in the manifest, possibly into a zip.
        sha256: the SHA-256 of its content, as in the manifest.
        side: the longest side of the thumbnail, in pixels.
        max_pixels: a photo of more pixels is not decoded.

    Returns:
        The thumbnail, or PLACEHOLDER for a photo that cannot be read, is too large, or has another content.
    """
    try:
        photo = shared_pool().decode(read_unchanged(root, path, sha256), (side, side), max_pixels)
        return data_uri(photo.pixels[0], side)
    except (OSError, BadPhoto):
        return PLACEHOLDER


def data_uri(pixels: Pixels, side: int = SIDE) -> str:
    """Returns uint8 (height, width, 3) as a data URI of what `small_jpeg` makes of it."""
    return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(pixels, side)).decode("ascii")


def small_jpeg(pixels: Pixels, side: int, quality: int = QUALITY) -> bytes:
    """Returns uint8 (height, width, 3) as a JPEG without metadata, its longest side at most `side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
