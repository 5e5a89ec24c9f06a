"""The only code that turns bytes into pixels and resizes them, in training, prediction and service alike."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import AvifImagePlugin, ExifTags, GifImagePlugin, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from fovsfe.arrays import Pixels
from fovsfe.photos import containers
from fovsfe.photos.colour_profiles import to_srgb

try:
    from fovsfe.photos import heif
except ImportError:  # a server may do without HEIC; such a photo is then "not an image"
    heif = None  # type: ignore[assignment]

Image.init()


MAX_PIXELS = 100_000_000
PAD_COLOUR = (124, 116, 104)  # ImageNet's mean: a border is about zero after normalisation

# Only these: Pillow knows forty more formats, some of which (EPS) start other programs.
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM")
    if name in Image.OPEN
)
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".gif"}
    | {".heic", ".heif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
HEAD_BYTES = 16  # that tell the format of a photo

_PPM_STARTS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_WHITE = (255, 255, 255)
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
# How Pillow begins to say, in words alone, that a file may be whole but is of a kind that it does not read.
_UNSUPPORTED = (
    "cannot handle ",
    "Unsupported BMP ",
    "unknown pixel mode",
    "unknown data organization",
    "Invalid value for samples per pixel",
    "Windows Media Photo ",
    "unsupported compression",
)


InputSize = tuple[tuple[int, int], str]
"""how a network takes photos: (height, width) in pixels, and the resize mode that `resize_photo` takes"""


class BadPhoto(Exception):
    """These bytes are not a readable photo; the message is the reason in a few words."""


def use_one_thread() -> None:
    """Makes all codecs decode in the calling thread: a thread's stack is address space, too."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if heif:
        heif.use_one_thread()


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about itself before its pixels are decoded; width and height of the upright photo."""

    width: int
    height: int
    notes: tuple[str, ...]  # what is unusual: "rotated by EXIF", "CMYK", "16-bit", "animated", ...


def begins_like_photo(head: bytes) -> bool:
    """Returns whether the first HEAD_BYTES of a file are those of a photo in one of the FORMATS."""
    for name in FORMATS:
        if _accepts(name, head[:HEAD_BYTES]):
            # Any text may begin with "BM"; a bitmap has four zeros soon after.
            return name != "BMP" or head[6:10] == bytes(4)
    return False


def _accepts(name: str, head: bytes) -> bool:
    if name == "PPM":  # Pillow would also read kinds of its own
        return head.startswith(_PPM_STARTS) and (head[2:3].isspace() or head[2:3] == b"#")
    accept = Image.OPEN[name][1]
    return accept is not None and accept(head) is True


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Returns the size and the peculiarities of an encoded photo without decoding it. Raises BadPhoto.

    Of a JPEG those pixels count that are decoded at an eighth of its size.
    """
    with _bad_photos():
        image = _open(data, max_pixels)
        orientation, (width, height) = _orientation(image), image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # `size` is that of the upright photo, or is not
            width, height = (
                image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
            )
        if width * height > max_pixels:
            _set_scale(image, data, (1, 1), max_pixels)
        if orientation in _SWAPPED:
            width, height = height, width
        return ImageHeader(width, height, tuple(_notes(image, orientation)))


def decode(data: bytes, at_least: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Returns the pixels of an encoded photo: uint8 (height, width, 3), RGB, upright, transparency on white.

    With `at_least` = (height, width), a JPEG whose sides are at least twice as long is decoded at a half, a
    quarter or an eighth of its size, as long as neither side becomes shorter than that (libjpeg's scaled
    DCT); it may become shorter where the photo has more than `max_pixels` otherwise. Of an animation it is
    the first frame. A colour profile is applied, so that the colours are sRGB. Raises BadPhoto, whatever the
    bytes are.
    """
    with _bad_photos():
        return np.array(_upright_rgb(_open_scaled(data, at_least, max_pixels)))


def image_pixels(image: Image.Image) -> Pixels:
    """Returns the pixels of an open PIL image as `decode` does: uint8 (height, width, 3), sRGB, upright,
    transparency on white. Raises BadPhoto if it cannot be decoded."""
    with _bad_photos():
        if image.mode == "RGB":
            _load(image)
            image = image.copy()  # because a colour profile is applied in place
        return np.array(_upright_rgb(image))


def resize_photo(pixels: Pixels, size: tuple[int, int], resize_mode: str) -> Pixels:
    """Returns pixels resized to `size` = (height, width): uint8 (height, width, 3).

    `resize_mode` "pad" keeps the aspect ratio and adds a border, "squash" ignores the aspect ratio, "crop"
    keeps it and cuts out the middle. Bicubic with antialiasing. Raises ValueError for another `resize_mode`.
    """
    return _resized_to(Image.fromarray(pixels), size, resize_mode)


def resize_boxes(
    photo: tuple[int, int], size: tuple[int, int], resize_mode: str
) -> tuple[tuple[float, float, float, float], tuple[int, int, int, int]]:
    """Returns which part of a photo goes where when it is resized.

    `photo` and `size` are (height, width); the result is (left, top, right, bottom) in the photo and in the
    resized photo. Raises ValueError for a `resize_mode` that `resize_photo` does not know.
    """
    (photo_height, photo_width), (height, width) = photo, size
    if resize_mode == "squash":
        return (0, 0, photo_width, photo_height), (0, 0, width, height)
    if resize_mode == "crop":
        scale = min(photo_width / width, photo_height / height)
        across, down = min(width * scale, photo_width), min(height * scale, photo_height)
        left, top = (photo_width - across) / 2, (photo_height - down) / 2
        return (left, top, left + across, top + down), (0, 0, width, height)
    if resize_mode != "pad":
        raise ValueError(f'resize_mode = "{resize_mode}": must be "pad", "squash" or "crop"')
    scale = min(width / photo_width, height / photo_height)
    inner_width = min(max(round(photo_width * scale), 1), width)
    inner_height = min(max(round(photo_height * scale), 1), height)
    x, y = (width - inner_width) // 2, (height - inner_height) // 2
    return (0, 0, photo_width, photo_height), (x, y, x + inner_width, y + inner_height)


def decode_to_size(
    data: bytes, size: tuple[int, int], resize_mode: str, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Decodes a photo, at a reduced scale if possible, and resizes it: uint8 (*size, 3). Raises BadPhoto."""
    return decode_to_sizes(data, [(size, resize_mode)], max_pixels)[0]


def decode_to_sizes(
    data: bytes, input_sizes: Sequence[InputSize], max_pixels: int = MAX_PIXELS
) -> list[Pixels]:
    """Does `decode_to_size` for several input sizes, decoding once for each scale needed.

    Raises BadPhoto.
    """
    decoded: dict[tuple[int, int], Image.Image] = {}
    photos = []
    for size, resize_mode in input_sizes:
        with _bad_photos():
            image = _open_scaled(data, size, max_pixels)
            scale = image.size  # taken before decoding, which may turn the photo
            if scale not in decoded:
                decoded[scale] = _upright_rgb(image)
        photos.append(_resized_to(decoded[scale], size, resize_mode))
    return photos


def _resized_to(image: Image.Image, size: tuple[int, int], resize_mode: str) -> Pixels:
    height, width = size
    box, (left, top, right, bottom) = resize_boxes((image.height, image.width), size, resize_mode)
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
def _bad_photos() -> Iterator[None]:
    try:
        yield
    except BadPhoto:
        raise
    except Exception as error:  # with hostile bytes, Pillow raises every kind of exception
        raise BadPhoto(_reason(error, None, "pixels")) from error


# ---- opening


class _Source(io.BytesIO):
    """The bytes of a file. They notice whether a decoder asked for more than there are."""

    exhausted = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        # Pixels are read ahead in blocks, of which the last one is always short.
        if size and size > 0 and len(data) < (1 if size >= ImageFile.MAXBLOCK else size):
            self.exhausted = True
        return data


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Returns the image with its header read, and with what Pillow misreads of it put right.

    Image.open would do, but for its pixel limit, which is one for the whole process.
    """
    if not data:
        raise BadPhoto("empty")
    failure: BadPhoto | None = None
    for name in FORMATS:
        if not _accepts(name, data[:HEAD_BYTES]):
            continue
        source, info = _Source(data), dict[str, bytes]()
        if name == "PNG":
            stripped, info = containers.stripped_png(data)
            source = _Source(stripped)
        try:
            image = _open_as(name, source)
            image.info.update(info)
            if name == "PNG":
                containers.mend_png(image, data)
            elif name == "BMP":
                containers.mend_bmp(image, data)
        except Exception as error:
            failure = BadPhoto(_reason(error, source, "header", max_pixels))
            failure.__cause__ = error
            continue  # AVIF and HEIF begin alike: the other plugin may read these bytes
        return image
    raise failure or BadPhoto("not an image")


def _open_as(name: str, source: _Source) -> ImageFile.ImageFile:
    if name == "TIFF":
        return containers.TiffFile(source, "")
    if name == "HEIF":
        return heif.HeifFile(source, "")
    if name != "JPEG":
        return Image.OPEN[name][0](source, "")
    # Not Pillow's factory, which looks for further pictures behind the first one.
    try:
        return JpegImagePlugin.JpegImageFile(source, "")
    except Exception:
        return JpegImagePlugin.JpegImageFile(_Source(containers.stripped_jpeg(source.getvalue())), "")


def _open_scaled(data: bytes, at_least: tuple[int, int] | None, max_pixels: int) -> ImageFile.ImageFile:
    """Returns the image, not decoded yet, set to be decoded at the scale that `at_least` allows."""
    image = _open(data, max_pixels)
    _set_scale(image, data, at_least, max_pixels)
    return image


def _set_scale(
    image: ImageFile.ImageFile, data: bytes, at_least: tuple[int, int] | None, max_pixels: int
) -> None:
    """Sets the scale of a JPEG. Raises BadPhoto if there are more pixels to decode than the limit."""
    width, height = image.size
    pixels = width * height
    if isinstance(image, JpegImagePlugin.JpegImageFile) and at_least is not None:
        stored = at_least[::-1] if _orientation(image) in _SWAPPED else at_least
        scale = containers.jpeg_scale((height, width), stored)
        while scale < 8 and -(-width // scale) * -(-height // scale) > max_pixels:
            scale *= 2
        frame = containers.read_jpeg_frame(data) if scale > 1 else None
        if frame is not None and not frame.lossless:
            image.draft(None, (max(width // scale, 1), max(height // scale, 1)))
            if not frame.several_scans:
                pixels = image.width * image.height
    elif at_least is not None and heif and isinstance(image, heif.HeifFile):
        image.set_scale(containers.heif_scale((height, width), at_least))
    if pixels > max_pixels:
        raise BadPhoto(f"{width}x{height} pixels is over the limit of {_amount(max_pixels)}")


def _orientation(image: Image.Image) -> int:
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            exif = image.getexif()
        elif "exif" not in image.info:
            return _UPRIGHT
        else:  # not by `getexif`, which also looks into XMP, as no browser does
            exif = Image.Exif()
            exif.load(image.info["exif"])
        return containers.exif_orientation(exif.get(ExifTags.Base.Orientation))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return _UPRIGHT


# ---- pixels


def _load(image: Image.Image) -> None:
    source = getattr(image, "fp", None)
    try:
        image.load()
    except Exception as error:
        raise BadPhoto(_reason(error, source, "pixels")) from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Decodes an image and returns it in sRGB. An RGB image is changed in place, which saves its memory."""
    frame = image.tile[0].extents if isinstance(image, GifImagePlugin.GifImageFile) and image.tile else None
    _load(image)
    orientation = _orientation(image)  # only now, because a TIFF is turned while it is loaded
    rgb = _rgb(image)
    if frame is not None and frame != (0, 0, *rgb.size):
        canvas = Image.new("RGB", rgb.size, _WHITE)
        canvas.paste(rgb.crop(frame), frame)
        return canvas
    return rgb.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else rgb


def _rgb(image: Image.Image) -> Image.Image:
    alpha, colours = _alpha(image), image
    if image.mode.startswith(("I", "F")):
        colours = _deep_grey(image)
    elif image.mode in ("1", "LA"):
        colours = image.convert("L")
    elif image.mode == "La":  # multiplied by its opacity
        colours = image.convert("LA").convert("L")
    elif image.mode == "RGBa" or (alpha is not None and image.mode == "P"):
        colours = image.convert("RGBA").convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        colours = image.convert("RGB")
    rgb = to_srgb(colours, image.info.get("icc_profile"))
    if alpha is None:
        return rgb
    on_white = Image.new("RGB", image.size, _WHITE)
    on_white.paste(rgb, mask=alpha)
    return on_white


def _alpha(image: Image.Image) -> Image.Image | None:
    """Returns the opacity of each pixel, mode L, or None if all are opaque."""
    if not image.has_transparency_data or image.mode.startswith("I"):
        return None
    bands = image.getbands()
    if bands[-1] not in ("A", "a"):
        return image.convert("RGBA").getchannel("A")
    alpha = image.getchannel(bands[-1])
    unused = image.format == "BMP" and alpha.getextrema() == (0, 0)  # as the clipboard writes it
    return None if unused else alpha


def _deep_grey(image: Image.Image) -> Image.Image:
    """Converts grey of 16 or 32 bits or floats to mode L, scaled to 8 bits, which Pillow would clip."""
    stored = np.asarray(image)
    values = np.nan_to_num(stored.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16") or image.format == "PPM":
        low, high = 0.0, 65535.0
    else:
        low, high = float(values.min()), float(values.max())
        maxima = [most for most in (1.0, 255.0, 65535.0) if high <= most and (most > 1 or image.mode == "F")]
        if low >= 0 and maxima:
            low, high = 0.0, maxima[0]
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-30))).clip(0, 255).astype(np.uint8)
    if containers.is_white_zero(image):
        grey = 255 - grey
    if "transparency" in image.info:
        grey[stored == image.info["transparency"]] = 255
    return Image.fromarray(grey)


# ---- words


def _notes(image: ImageFile.ImageFile, orientation: int) -> list[str]:
    notes = []
    if orientation in _TRANSPOSITIONS:
        notes.append("rotated by EXIF")
    if image.mode in ("CMYK", "LAB", "YCbCr", "1"):
        notes.append({"1": "1-bit"}.get(image.mode, image.mode))
    if image.mode == "I":
        notes.append("16-bit" if image.format == "PPM" else "32-bit")
    raw_modes = " ".join(str(tile.args) for tile in image.tile)  # 16-bit colour has the mode "RGB"
    if image.mode.startswith("I;16") or any(end in raw_modes for end in (";16B", ";16L", ";16N")):
        notes.append("16-bit")
    if image.mode == "F":
        notes.append("floating point")
    if image.has_transparency_data:
        notes.append("transparent")
    # The second picture of a phone's JPEG is mostly a map of brightness.
    gain_map = any(b' hdrgm:Version="' in segment for _, segment in getattr(image, "applist", ()))
    if getattr(image, "is_animated", False) or ("mp" in image.info and not gain_map):
        notes.append("first of several frames")
    return notes


def _reason(error: Exception, source: object, part: str, max_pixels: int = MAX_PIXELS) -> str:
    """Returns why a file cannot be read: its `part`, "header" or "pixels", led to this error."""
    data = source.getvalue() if isinstance(source, _Source) else b""
    width, height = containers.greatest_size(data)
    if width * height > max_pixels:
        return f"{width}x{height} pixels is over the limit of {_amount(max_pixels)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the limit of {_amount(max_pixels)}"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    exhausted = isinstance(source, _Source) and source.exhausted
    if containers.is_truncated(data) or (exhausted and not containers.has_end(data)):
        return "truncated"
    if str(error).startswith(_UNSUPPORTED):
        return "a kind of image that is not supported"
    return f"damaged: its {part} cannot be read"


def _amount(pixels: int) -> str:
    return f"{pixels // 1_000_000} million" if pixels % 1_000_000 == 0 else f"{pixels:,}"
