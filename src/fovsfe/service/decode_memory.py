"""How much memory decoding takes, and how several threads share what there is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fovsfe import machine
from fovsfe.photos.containers import jpeg_scale, read_jpeg_frame
from fovsfe.photos.decode import ImageHeader
from fovsfe.service.problems import Problem

LARGE = 16 * 1024 * 1024  # bytes

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")  # a file with another one may be AVIF


class DecodeMemory:
    """Memory that several threads may take together. A thread that needs more than is free waits for it."""

    def __init__(self, size: int) -> None:
        """`size`: bytes for all threads together."""
        self._size = size
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Reserves `size` bytes until the context ends. Raises Problem if there are not as many at all."""
        if size > self._size:
            raise Problem(
                "too-many-pixels", "Decoding the photo takes more memory than is available; make it smaller."
            )
        with self._freed:
            self._freed.wait_for(lambda: self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            if size > LARGE:
                machine.release_free_memory()  # or the heap would keep it, and others run short
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


def memory_needed(data: bytes, header: ImageHeader, side: int) -> int:
    """Returns the bytes that decoding the photo `data` takes at its peak.

    `side` is the longest side in pixels that is wanted of it. The figures are rounded up from what Pillow 13
    took for photos of 12 and 24 megapixels of each format. A JPEG is decoded at the scale that is wanted, but
    for one in several scans libjpeg keeps the coefficients of every pixel meanwhile, of 2 bytes each.
    """
    return _decoding_needs(data, header, side) + 13 * side * side  # the latter for the resized photo


def _decoding_needs(data: bytes, header: ImageHeader, side: int) -> int:
    pixels, notes = header.width * header.height, set(header.notes) - {"first of several frames"}
    if data.startswith(b"\xff\xd8"):
        frame = read_jpeg_frame(data)
        scale = 1 if frame.lossless else jpeg_scale((header.height, header.width), (side, side))
        decoded = -(-header.width // scale) * -(-header.height // scale)
        # Blocks are whole, of up to 32 pixels, and a row of them is held in any case.
        blocks = (header.width + 31) * (header.height + 31) if frame.several_scans else 32 * header.width
        return 13 * decoded + 2 * frame.components * blocks
    if data.startswith(b"RIFF"):
        return (24 if "transparent" in notes else 17) * pixels
    if {"transparent", "16-bit", "32-bit", "floating point"} & notes:
        return 22 * pixels + len(data)
    if data[4:8] == b"ftyp":
        return (16 if data[8:12] in _HEIC_BRANDS else 22) * pixels // 2
    if data.startswith(b"P"):
        return 16 * pixels
    if notes or data.startswith((b"II", b"MM", b"GIF", b"BM")):
        return 10 * pixels + len(data)
    return 6 * pixels + len(data)  # of a PNG, there is a copy without its metadata
