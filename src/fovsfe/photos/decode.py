"""The only code that turns bytes into pixels and resizes them, in training, prediction and service alike."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from fovsfe.arrays import Pixels

try:
    import pillow_heif
except ImportError:  # a server may do without HEIC; such a photo is then "not an image"
    pass
else:
    pillow_heif.register_heif_opener()

Image.init()


MAX_PIXELS = 100_000_000
PAD_COLOUR = (124, 116, 104)  # ImageNet's mean: a border is about zero after normalisation

# Only these: Pillow knows forty more formats, some of which (EPS) start other programs.
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF") if name in Image.OPEN
)
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".tif", ".avif", ".heic", ".heif"]
)

_WHITE = (255, 255, 255, 255)
_UPRIGHT = 1
_SWAPPED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPhoto(Exception):
    """These bytes are not a readable photo; the message is the reason in a few words."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about itself before its pixels are decoded; width and height of the upright photo."""

    width: int
    height: int
    notes: tuple[str, ...]  # what is unusual: "rotated by EXIF", "CMYK", "16-bit", "animated", ...


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Returns the size and the peculiarities of an encoded photo without decoding it. Raises BadPhoto."""
    with _bad_photos(data):
        image = _open(data, max_pixels)
        orientation = _orientation(image)
        swapped = orientation in _SWAPPED and image.format != "TIFF"  # its plugin has swapped them already
        width, height = image.size[::-1] if swapped else image.size
        return ImageHeader(width, height, tuple(_notes(image, orientation)))


def decode(data: bytes, at_least: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Returns the pixels of an encoded photo: uint8 (height, width, 3), RGB, upright, transparency on white.

    With `at_least` = (height, width), a JPEG whose sides are at least twice as long is decoded at a half, a
    quarter or an eighth of its size, as long as neither side becomes shorter than that (libjpeg's scaled
    DCT). Of an animation it is the first frame. Raises BadPhoto, whatever the bytes are.
    """
    with _bad_photos(data):
        return np.array(_upright_rgb(_open_scaled(data, at_least, max_pixels)))


def image_pixels(image: Image.Image) -> Pixels:
    """Returns the pixels of an open PIL image as `decode` does: uint8 (height, width, 3), RGB, upright,
    transparency on white. Raises BadPhoto if it cannot be decoded."""
    with _bad_photos(b""):
        return np.array(_upright_rgb(image))


def fit_photo(pixels: Pixels, size: tuple[int, int], fit: str) -> Pixels:
    """Returns pixels resized to `size` = (height, width): uint8 (height, width, 3).

    `fit` "pad" keeps the aspect ratio and adds a border, "squash" ignores the aspect ratio, "crop" keeps it
    and cuts out the middle. Bicubic with antialiasing. Raises ValueError for another `fit`.
    """
    return _resized_to(Image.fromarray(pixels), size, fit)


def fit_boxes(
    photo: tuple[int, int], size: tuple[int, int], fit: str
) -> tuple[tuple[float, float, float, float], tuple[int, int, int, int]]:
    """Returns which part of a photo goes where when it is resized.

    `photo` and `size` are (height, width); the result is (left, top, right, bottom) in the photo and in the
    resized photo. Raises ValueError for a `fit` that `fit_photo` does not know.
    """
    (photo_height, photo_width), (height, width) = photo, size
    if fit == "squash":
        return (0, 0, photo_width, photo_height), (0, 0, width, height)
    if fit == "crop":
        scale = min(photo_width / width, photo_height / height)
        across, down = min(width * scale, photo_width), min(height * scale, photo_height)
        left, top = (photo_width - across) / 2, (photo_height - down) / 2
        return (left, top, left + across, top + down), (0, 0, width, height)
    if fit != "pad":
        raise ValueError(f'fit = "{fit}": must be "pad", "squash" or "crop"')
    scale = min(width / photo_width, height / photo_height)
    inner_width = min(max(round(photo_width * scale), 1), width)
    inner_height = min(max(round(photo_height * scale), 1), height)
    x, y = (width - inner_width) // 2, (height - inner_height) // 2
    return (0, 0, photo_width, photo_height), (x, y, x + inner_width, y + inner_height)


def load_photo(data: bytes, size: tuple[int, int], fit: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes a photo, at a reduced scale if possible, and resizes it: uint8 (*size, 3). Raises BadPhoto."""
    return load_photo_sizes(data, [(size, fit)], max_pixels)[0]


def load_photo_sizes(
    data: bytes, sizes: Sequence[tuple[tuple[int, int], str]], max_pixels: int = MAX_PIXELS
) -> list[Pixels]:
    """Does `load_photo` for several (size, fit), decoding once for each scale needed. Raises BadPhoto."""
    decoded: dict[tuple[int, int], Image.Image] = {}
    photos = []
    for size, fit in sizes:
        with _bad_photos(data):
            image = _open_scaled(data, size, max_pixels)
            scale = image.size  # taken before decoding, which may turn the photo
            if scale not in decoded:
                decoded[scale] = _upright_rgb(image)
        photos.append(_resized_to(decoded[scale], size, fit))
    return photos


def _resized_to(image: Image.Image, size: tuple[int, int], fit: str) -> Pixels:
    height, width = size
    box, (left, top, right, bottom) = fit_boxes((image.height, image.width), size, fit)
    inner = _resized(image, right - left, bottom - top, box)
    if inner.size == (width, height):
        return np.array(inner)
    canvas = Image.new("RGB", (width, height), PAD_COLOUR)
    canvas.paste(inner, (left, top))
    return np.array(canvas)


def _resized(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float]
) -> Image.Image:
    # A first step by a whole factor makes huge photos cheap; with a gap of 3 the result looks the same.
    return image.resize((width, height), Image.Resampling.BICUBIC, box, reducing_gap=3.0)


@contextmanager
def _bad_photos(data: bytes) -> Iterator[None]:
    try:
        yield
    except BadPhoto:
        raise
    except Exception as error:  # with hostile bytes, Pillow's plugins raise every kind of exception
        raise BadPhoto(_reason(error, data)) from error


def _open_scaled(data: bytes, at_least: tuple[int, int] | None, max_pixels: int) -> ImageFile.ImageFile:
    """Returns the image, not decoded yet, set to be decoded at the scale that `at_least` allows."""
    image = _open(data, max_pixels)
    if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        height, width = at_least
        image.draft(None, (height, width) if _orientation(image) in _SWAPPED else (width, height))
    return image


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    # Only now, because a TIFF is turned while it is loaded, and a PNG may have its EXIF block at the end.
    orientation = _orientation(image)
    rgb = _rgb(image)
    return rgb.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else rgb


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Returns the image with its header read.

    Image.open would do, but for its pixel limit, which is one for the whole process.
    """
    if not data:
        raise BadPhoto("empty")
    failure: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is not True:
            continue
        try:
            image = factory(io.BytesIO(data), "")
        except Image.DecompressionBombError as error:
            raise BadPhoto(f"more pixels than the limit of {_amount(max_pixels)}") from error
        except Exception as error:
            failure = error  # AVIF and HEIF begin alike: the other plugin may read these bytes
            continue
        width, height = image.size
        if width * height > max_pixels:
            raise BadPhoto(f"{width}x{height} pixels is over the limit of {_amount(max_pixels)}")
        return image
    if failure is not None:
        raise failure
    raise BadPhoto("not an image")


def _orientation(image: Image.Image) -> int:
    try:
        # Not the plugin's own getexif: that of PNG decodes the whole image if there is no EXIF block.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, _UPRIGHT))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return _UPRIGHT


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _deep_grey(image)
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, _WHITE)
        on_white.alpha_composite(image.convert("RGBA"))
        return on_white.convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Converts grey of 16 or 32 bits or floats to RGB, scaled to 8 bits, which Pillow would clip."""
    stored = np.asarray(image)
    values = np.nan_to_num(stored.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        low, high = float(values.min()), float(values.max())
        maxima = [most for most in (1.0, 255.0, 65535.0) if high <= most and (most > 1 or image.mode == "F")]
        if low >= 0 and maxima:
            low, high = 0.0, maxima[0]
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-30))).clip(0, 255).astype(np.uint8)
    if "transparency" in image.info:
        grey[stored == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _notes(image: ImageFile.ImageFile, orientation: int) -> list[str]:
    notes = []
    if orientation in _TRANSPOSITIONS:
        notes.append("rotated by EXIF")
    if image.mode in ("CMYK", "LAB", "YCbCr", "1"):
        notes.append({"1": "1-bit"}.get(image.mode, image.mode))
    if image.mode == "I":
        notes.append("32-bit")
    raw_modes = " ".join(str(tile.args) for tile in image.tile)  # 16-bit colour has the mode "RGB"
    if image.mode.startswith("I;16") or ";16B" in raw_modes or ";16L" in raw_modes:
        notes.append("16-bit")
    if image.mode == "F":
        notes.append("floating point")
    if image.has_transparency_data:
        notes.append("transparent")
    if getattr(image, "is_animated", False):
        notes.append("first of several frames")
    return notes


def _reason(error: Exception, data: bytes) -> str:
    text = str(error).strip().split("\n")[0]
    if isinstance(error, (EOFError, struct.error)) or "truncat" in text.lower() or _is_truncated(data):
        return "truncated"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    return f"damaged: {text[:80] or type(error).__name__}"


def _is_truncated(data: bytes) -> bool:
    """Returns whether the end of a file is missing. For files that could not be read, to say why."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"GIF"):
        return not data.endswith(b";")
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):  # the directory, where it comes after the pixels
        return int.from_bytes(data[4:8], "little" if data.startswith(b"I") else "big") >= len(data)
    at = 0
    while data[4:8] == b"ftyp" and at < len(data):  # AVIF, HEIF: a chain of boxes
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 8:  # 0: to the end of the file; 1: a 64-bit length follows
            return False
        at += length
    return at > len(data)


def _amount(pixels: int) -> str:
    return f"{pixels // 1_000_000} million" if pixels % 1_000_000 == 0 else f"{pixels:,}"
