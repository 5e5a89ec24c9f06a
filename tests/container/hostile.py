"""Photos of a few kilobytes that ask for far more memory or time than they look like."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, features

SIDE = 9000  # of what the headers claim: 81 megapixels, which are within the pixel limit
SCENE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def encode(kind: str, image: Any = SCENE, **options: Any) -> bytes:
    """Returns an encoded photo, by default of noise, 400x300."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def hostile_photos() -> dict[str, bytes]:
    """Returns photos by what is wrong with them."""
    plain, progressive = encode("JPEG"), encode("JPEG", progressive=True)
    last_scan = progressive.rindex(b"\xff\xda")
    photos = {
        "progressive JPEG": _jpeg_that_claims(progressive, SIDE, SIDE),
        "arithmetic JPEG": _jpeg_that_claims(progressive, SIDE, SIDE).replace(b"\xff\xc2", b"\xff\xca", 1),
        "JPEG with one component a scan": _jpeg_that_claims(_one_component_a_scan(plain), SIDE, SIDE),
        "JPEG of thousands of scans": progressive[:last_scan]
        + 20_000 * progressive[last_scan:-2]
        + progressive[-2:],
        "JPEG of padding": b"\xff\xd8" + 2**23 * b"\xff",
        "PNG": encode("PNG", Image.new("L", (SIDE, SIDE))),
        "BMP of one row": _rle_bmp(50_000_000),
        "TIFF with a huge tile": _tiff_with_a_tile(16_384),
        "GIF": encode("GIF", Image.new("L", (SIDE, SIDE))),
    }
    if features.check("avif"):
        photos["AVIF that claims to be small"] = _avif_that_claims(64, 64)
    return photos


def _jpeg_that_claims(data: bytes, width: int, height: int) -> bytes:
    """Returns a JPEG with another size in the header of its frame."""
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def _one_component_a_scan(data: bytes) -> bytes:
    """Returns a JPEG whose first scan is of one component, so that the others have to follow."""
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x3f\x00" + data[scan + 14 :]


def _tiff_with_a_tile(side: int) -> bytes:
    """Returns a grey TIFF of 64x64 pixels in one compressed tile of side x side."""
    tile = zlib.compress(bytes(1000))
    entries = [
        (256, 3, 1, 64),
        (257, 3, 1, 64),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, 1, 8),
        (325, 4, 1, len(tile)),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(tile))
    return head + tile + struct.pack("<H", len(entries)) + directory + bytes(4)


def png_with_texts(count: int = 64) -> bytes:
    """Returns a PNG with texts that are a megabyte each when decompressed."""
    text, chunks = zlib.compress(bytes(1000 * 1000)), b""
    for number in range(count):
        body = b"Comment %d\0\0" % number + text
        chunks += (
            struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
        )
    data = encode("PNG")
    return data[:33] + chunks + data[33:]


def _rle_bmp(width: int) -> bytes:
    """Returns a run-length encoded BMP of one row."""
    head = struct.pack("<IiiHHIIiiII", 40, width, 1, 1, 8, 1, 1000, 2835, 2835, 1, 0) + bytes(4)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + 1000, 0, 0, 14 + len(head)) + head + 500 * b"\xff\0"


def _avif_that_claims(width: int, height: int) -> bytes:
    data = encode("AVIF", Image.new("RGB", (4000, 4000)), speed=10)
    size = data.index(b"ispe") + 8
    return data[:size] + struct.pack(">II", width, height) + data[size + 8 :]
