"""The structure of image files, for what Pillow refuses or misreads although every browser shows it."""

from __future__ import annotations

import ctypes
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import BmpImagePlugin, ExifTags, Image, ImageFile, ImagePalette, TiffImagePlugin, _imaging

from fovsfe.photos.colour_profiles import MAX_PROFILE

# ---- JPEG

_APP0, _APP1, _APP2, _APP14, _APP15, _COMMENT, _SCAN = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE, 0xDA
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES = {0xC2, 0xC6, 0xCA, 0xCE}
_LOSSLESS_FRAMES = {0xC3, 0xC7, 0xCB, 0xCF}


@dataclass(frozen=True)
class JpegFrame:
    """How a JPEG is encoded: its number of components, whether it is lossless, which excludes decoding at a
    reduced scale, and whether libjpeg holds all coefficients, because there are several scans."""

    components: int
    lossless: bool
    several_scans: bool


def read_jpeg_frame(data: bytes) -> JpegFrame:
    """Returns how a JPEG is encoded; one that is cut off before its first scan counts as the plain kind."""
    frame, components = 0, 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _FRAMES and end - start >= 10:
            frame, components = marker, data[start + 9]
        if marker == _SCAN:
            several = frame in _PROGRESSIVE_FRAMES or data[start + 4] < components
            return JpegFrame(components, frame in _LOSSLESS_FRAMES, several)
    return JpegFrame(components, frame in _LOSSLESS_FRAMES, frame in _PROGRESSIVE_FRAMES)


def jpeg_scale(size: tuple[int, int], at_least: tuple[int, int]) -> int:
    """Returns the divisor, 8, 4, 2 or 1, at which a JPEG of `size` is decoded where neither side may become
    shorter than in `at_least`."""
    most = min(side // least for side, least in zip(size, at_least, strict=True))
    return max(divisor for divisor in (1, 2, 4, 8) if divisor <= max(most, 1))


def heif_scale(size: tuple[int, int], at_least: tuple[int, int]) -> int:
    """Returns the factor, 8, 4, 2 or 1, by which a HEIC of `size` is made smaller while it is decoded.

    Its sides stay three times as long as in `at_least`: after bicubic resizing, nobody sees the difference.
    """
    return jpeg_scale(size, (3 * at_least[0], 3 * at_least[1]))


def stripped_jpeg(data: bytes) -> bytes:
    """Returns a JPEG without its comments and without segments of applications that decide neither colours
    nor orientation or are too short for what they begin."""
    kept = [data[:2]]
    for marker, start, end in _jpeg_segments(data):
        if marker == _SCAN:
            return b"".join([*kept, memoryview(data)[start:]])
        body = data[start + 4 : end]
        metadata = marker == _COMMENT or _APP0 <= marker <= _APP15
        if not metadata or (
            (marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14)
            or (marker == _APP1 and body.startswith(b"Exif\0\0"))
            or (marker == _APP2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14)
            or (marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12)
        ):
            kept.append(data[start:end])
    return b"".join(kept)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields the marker, start and end of each whole segment, the header of the first scan being the last."""
    at = data.find(b"\xff", 2)
    while 0 <= at <= len(data) - 5:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        end = at + 2  # these have no body: stuffing, TEM, RST, SOI, EOI
        if marker not in {0x00, 0x01} and not 0xD0 <= marker <= 0xD9:
            end += max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
            if end > len(data):
                return
            yield marker, at, end
            if marker == _SCAN:
                return
        at = data.find(b"\xff", end)


# ---- PNG

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_TRANSPARENCY = {0: range(2, 2**31), 2: range(6, 2**31), 3: range(1, 257)}  # colour type: valid lengths


def stripped_png(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Returns a PNG without the chunks that do not decide its pixels, and its "icc_profile" and "exif".

    Those are read wherever they are, and only if their checksum is right. What says that the image is
    animated stays; the frames after the first do not.
    """
    view, kept, info = memoryview(data), list[bytes | memoryview]([data[:8]]), dict[str, bytes]()
    at, before, complete = 8, b"", False
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        start, at = at, at + 12 + length
        body = view[start + 8 : at - 4]
        if not name.isalpha():  # not a chunk: the decoder is to fail here
            kept.append(view[start:])
            break
        complete = complete or (before == b"IDAT" and name != b"IDAT")
        if complete and name == b"IDAT":  # a file that was put together wrongly
            kept.append(_PNG_END)
            break
        before = name
        if name[0:1].isupper():
            kept.append(view[start:at])
            if name == b"IEND":
                break
        elif at > len(data) or zlib.crc32(view[start + 4 : at - 4]) != int.from_bytes(
            view[at - 4 : at], "big"
        ):
            continue
        elif name == b"tRNS":
            if length in _PNG_TRANSPARENCY.get(data[25], ()):
                kept.append(view[start:at])
        elif name == b"acTL":
            if length >= 8 and 1 < int.from_bytes(body[:4], "big") <= 2**31:
                kept.append(view[start:at])
        elif name == b"eXIf":
            info["exif"] = b"Exif\0\0" + body
        elif name == b"iCCP":
            info["icc_profile"] = _png_profile(bytes(body))
    return b"".join(kept), info


def _png_profile(body: bytes) -> bytes:
    """Returns the profile of an iCCP chunk: a name, 0, a method of compression, which must be 0, and it."""
    compressed = body.partition(b"\0")[2]
    if compressed[:1] != b"\0":
        return b""
    try:
        return zlib.decompressobj().decompress(compressed[1:], MAX_PROFILE + 1)
    except zlib.error:
        return b""


def mend_png(image: Image.Image, data: bytes) -> None:
    """Scales a transparent grey or colour to the 8 bits at which Pillow compares it with the pixels."""
    depth, transparent = data[24], image.info.get("transparency")
    if image.mode == "L" and depth < 8 and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in transparent)


# ---- BMP


def mend_bmp(image: ImageFile.ImageFile, data: bytes) -> None:
    """Puts right what Pillow makes of palettes that are greys or too long, and adds the embedded profile.

    Pillow takes a palette of black and white for pixels of 1 bit, and one of the first greys for pixels of
    8 bits, however many bits there are.
    """
    header_size = int.from_bytes(data[14:18], "little")
    bits = int.from_bytes(data[24:26] if header_size == 12 else data[28:30], "little")
    if image.mode in ("1", "L") and image.mode != {1: "1", 8: "L"}.get(bits):
        levels = (0, 255) if image.mode == "1" else range(256)
        image.palette = ImagePalette.raw("RGB", bytes(level for level in levels for _ in "RGB"))
        image._mode = "P"
        raw_mode = BmpImagePlugin.BIT2MODE[bits][1]
        image.tile = [tile._replace(args=(raw_mode, *(tile.args or ())[1:])) for tile in image.tile]
    if image.palette is not None and image.palette.rawmode in ("BGR", "BGRX"):
        image.palette.palette = image.palette.palette[: 256 * len(image.palette.rawmode)]
    if header_size == 124 and data[70:74] == b"DEBM":  # "embedded", in little-endian order
        offset, length = struct.unpack_from("<2I", data, 126)
        image.info["icc_profile"] = data[14 + offset : 14 + offset + length]


# ---- TIFF

_TIFF_STARTS = (b"II*\0", b"MM\0*")
_BIG_ENDIAN_BIGTIFF = b"MM\0+"


def _silent_libtiff() -> Any:
    """Returns libtiff, stopped from writing each fault to stderr, of which a fax has one a row.

    None where Pillow has it inside of its own library, where nobody else finds it.
    """
    with suppress(AttributeError, OSError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
        return libtiff
    return None


_LIBTIFF = _silent_libtiff()
_UNCOMPRESSED = 1
_WHITE_IS_ZERO = 0
_SEPARATE_PLANES = 2
_STRIP_AND_TILE_TAGS = {
    TiffImagePlugin.STRIPOFFSETS,
    TiffImagePlugin.STRIPBYTECOUNTS,
    TiffImagePlugin.TILEOFFSETS,
    TiffImagePlugin.TILEBYTECOUNTS,
}

# What Pillow has for the other order of bytes.
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", _WHITE_IS_ZERO, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF whose separate planes, palette and orientation are read as libtiff reads them."""

    def _open(self) -> None:
        assert isinstance(self.fp, io.BytesIO)
        if self.fp.getvalue().startswith(_BIG_ENDIAN_BIGTIFF):
            self.fp = _classic_tiff(self.fp)
        super()._open()
        # Pillow would turn the photo by its XMP, which browsers do not do.
        self.info.pop("xmp", None)
        # Turned by this one while it is loaded: Pillow knows only an orientation of the usual type.
        self.getexif()[ExifTags.Base.Orientation] = exif_orientation(
            self.tag_v2.get(ExifTags.Base.Orientation)
        )
        deep = max(self.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
        if self._separate() and deep and not self.use_load_libtiff:
            # Pillow itself would read each byte as a level.
            size = (self.tag_v2[TiffImagePlugin.IMAGEWIDTH], self.tag_v2[TiffImagePlugin.IMAGELENGTH])
            args = (f"{self.mode};16N", False, self.tag_v2.offset)
            self.tile = [
                self.tile[0]._replace(codec_name="libtiff", extents=(0, 0, *size), offset=0, args=args)
            ]
            self.use_load_libtiff = True
        if self.mode in ("P", "PA") and max(self.tag_v2[TiffImagePlugin.COLORMAP]) < 256:
            # Its entries have 16 bits, but some programs write 8; libtiff tells them apart in the same way.
            self.palette = ImagePalette.raw("RGB;L", self.tag_v2[TiffImagePlugin.COLORMAP])

    def _setup(self) -> None:
        compression = self.tag_v2.get(TiffImagePlugin.COMPRESSION, _UNCOMPRESSED)
        known = compression in TiffImagePlugin.COMPRESSION_INFO
        if not known or (_LIBTIFF is not None and not _LIBTIFF.TIFFIsCODECConfigured(compression)):
            raise OSError("unsupported compression")
        super()._setup()

    def load(self) -> Any:
        if self.tile and self._separate() and self.mode in ("LA", "La"):
            # Pillow puts the second plane where a colour has its green.
            planes = [self._plane(number) for number in range(2)]
            self.im = Image.merge(self.mode, planes).im
            self.tile = []
            self.load_end()
        return super().load()

    def _separate(self) -> bool:
        separate = self.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _SEPARATE_PLANES
        return separate and len(self.getbands()) > 1

    def _plane(self, number: int) -> Image.Image:
        """Returns one of two planes, read as if it were all of the file."""
        assert isinstance(self.fp, io.BytesIO)
        tags = dict(self.tag_v2)
        for tag in _STRIP_AND_TILE_TAGS & tags.keys():
            half = len(tags[tag]) // 2
            tags[tag] = tags[tag][number * half : (number + 1) * half]
        for tag in (TiffImagePlugin.EXTRASAMPLES, ExifTags.Base.Orientation):
            tags.pop(tag, None)
        tags |= {TiffImagePlugin.SAMPLESPERPIXEL: 1, TiffImagePlugin.BITSPERSAMPLE: 8}
        tags |= {TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 1, TiffImagePlugin.SAMPLEFORMAT: 1}
        plane = TiffImagePlugin.TiffImageFile(_with_directory(self.fp.getvalue(), tags), "")
        plane.load()
        return plane


def _classic_tiff(file: io.BytesIO) -> io.BytesIO:
    """Returns a big-endian BigTIFF as a plain TIFF. Pillow looks for the mark of BigTIFF where it is only in
    little-endian files."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(_TIFF_STARTS[1] + bytes(4))
    directory._bigtiff = True
    data = file.getvalue()
    file.seek(int.from_bytes(data[8:16], "big"))
    directory.load(file)
    return _with_directory(data, dict(directory))


def _with_directory(data: bytes, tags: dict[int, Any]) -> io.BytesIO:
    """Returns a TIFF whose directory has these tags instead, as far as they are whole numbers or bytes."""
    order = ">" if data.startswith(b"M") else "<"
    fields = []
    for tag, value in sorted(tags.items()):
        numbers = (value,) if isinstance(value, int) else value
        if isinstance(value, bytes):
            fields.append((tag, 7, len(value), value + bytes(-len(value) % 4)))
        elif isinstance(numbers, tuple) and all(isinstance(number, int) for number in numbers):
            fields.append((tag, 4, len(numbers), struct.pack(f"{order}{len(numbers)}L", *numbers)))
    entries, bodies = struct.pack(f"{order}H", len(fields)), b""
    at = len(data) + 2 + 12 * len(fields) + 4
    for tag, kind, count, body in fields:
        inline = body if len(body) == 4 else struct.pack(f"{order}L", at + len(bodies))
        entries += struct.pack(f"{order}HHL", tag, kind, count) + inline
        bodies += body if len(body) != 4 else b""
    head = _TIFF_STARTS[order == ">"] + struct.pack(f"{order}L", len(data))
    return io.BytesIO(b"".join([head, memoryview(data)[8:], entries, bytes(4), bodies]))


def is_white_zero(image: Image.Image) -> bool:
    """Returns whether black and white are swapped in a TIFF of grey levels."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO)


# ---- all


def exif_orientation(value: Any) -> int:
    """Returns an EXIF orientation, 1 to 8, whatever type of number it is stored as; 1 if it is no such."""
    first = value[0] if isinstance(value, bytes | tuple) and value else value
    return first if isinstance(first, int) and 1 <= first <= 8 else 1


def is_truncated(data: bytes) -> bool:
    """Returns whether the end is missing of a file that says how long it is: WebP, AVIF, HEIF, TIFF."""
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith(_TIFF_STARTS):
        return int.from_bytes(data[4:8], "little" if data.startswith(b"I") else "big") >= len(data)
    return data[4:8] == b"ftyp" and any(end > len(data) for _, _, end in _boxes(data, 0, len(data)))


def has_end(data: bytes) -> bool:
    """Returns whether a JPEG, PNG or GIF ends as such a file does."""
    if data.startswith(b"\xff\xd8"):
        return data.rstrip(b"\0").endswith(b"\xff\xd9")
    if data.startswith(b"\x89PNG"):
        return data.endswith(_PNG_END)
    return data.startswith(b"GIF8") and data.endswith(b"\0;")


def greatest_size(data: bytes) -> tuple[int, int]:
    """Returns the width and height of the largest image in an AVIF or HEIF file, as its header says."""
    sizes = [(0, 0)]
    if data[4:8] != b"ftyp":
        return sizes[0]
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for properties, first, last in _boxes(data, start + 4, end):
            if properties != b"iprp":
                continue
            for container, begin, stop in _boxes(data, first, last):
                if container == b"ipco":
                    for name, at, _ in _boxes(data, begin, stop):
                        if name == b"ispe" and at + 12 <= len(data):
                            sizes.append(struct.unpack_from(">2I", data, at + 4))
    return max(sizes, key=lambda size: size[0] * size[1])


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each box, the start of its contents and its end."""
    while at + 8 <= min(end, len(data)):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1 and at + 16 <= len(data):
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if length == 0:  # to the end of the file
            length = end - at
        if length < header:
            return
        yield kind, at + header, at + length
        at += length
