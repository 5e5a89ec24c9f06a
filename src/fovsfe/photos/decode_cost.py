"""What decoding a photo takes by what its file says. That is a first answer, and no bound."""

from fovsfe.photos.containers import heif_scale, jpeg_scale, read_jpeg_frame
from fovsfe.photos.decode import ImageHeader

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")  # a file with another one may be AVIF
_HEIC_MEMORY = 10 * 1024 * 1024  # bytes that its decoder takes for any photo
_ROW_MEMORY = 24  # bytes for each row of a photo, however short: Pillow points to it in every step
_JPEG_START, _SCAN_START = b"\xff\xd8", b"\xff\xda"
_CPU_SECONDS_PER_SCANNED_PIXEL = 1.5e-9  # of each scan of a JPEG

# A core of 2020 takes up to 0.1 microseconds a pixel, for a PNG of 16 bits or a HEIC.
_CPU_SECONDS, _CPU_SECONDS_PER_BYTE, _CPU_SECONDS_PER_PIXEL = 0.5, 50e-9, 300e-9


def memory_needed(data: bytes, header: ImageHeader, side: int) -> int:
    """Returns the bytes that decoding the photo `data` takes at its peak, without what is made of it then.

    `side` is the longest side in pixels of what it becomes. The figures are rounded up from the address
    space that Pillow 13 took for photos of 1 to 27 megapixels of each format. A JPEG is decoded at the
    scale that this needs, but for one in several scans libjpeg keeps the coefficients of every pixel
    meanwhile, of 2 bytes each.
    """
    return _ROW_MEMORY * header.height + _pixel_memory(data, header, side)


def _pixel_memory(data: bytes, header: ImageHeader, side: int) -> int:
    pixels, notes = header.width * header.height, set(header.notes) - {"first of several frames"}
    if data.startswith(_JPEG_START):
        frame = read_jpeg_frame(data)
        scale = 1 if frame.lossless else jpeg_scale((header.height, header.width), (side, side))
        decoded = -(-header.width // scale) * -(-header.height // scale)
        # Blocks are whole, of up to 32 pixels, and a row of them is held in any case.
        blocks = (header.width + 31) * (header.height + 31) if frame.several_scans else 32 * header.width
        return 13 * decoded + 2 * frame.components * blocks
    if data.startswith(b"RIFF"):
        return 26 * pixels
    if {"transparent", "16-bit", "32-bit", "floating point"} & notes:
        return 22 * pixels + len(data)
    if data[4:8] == b"ftyp":
        if data[8:12] not in _HEIC_BRANDS:
            return 19 * pixels // 2
        is_scaled = heif_scale((header.height, header.width), (side, side)) > 1
        return _HEIC_MEMORY + (10 if is_scaled else 15) * pixels // 2
    if data.startswith(b"P"):
        return 16 * pixels
    if notes or data.startswith((b"II", b"MM", b"GIF", b"BM")):
        return 10 * pixels + len(data)
    return 6 * pixels + len(data)  # of a PNG, there is a copy without its metadata


def result_memory(data: bytes, header: ImageHeader, side: int, *, is_resized: bool) -> int:
    """Returns the bytes that are taken by what is made of the decoded photo, beside `memory_needed`.

    `side` is the longest side of what it becomes; without `is_resized`, the photo stays as it was decoded.
    """
    if is_resized:
        return 13 * side * side
    if data.startswith(_JPEG_START):  # whose pixels are counted in full by `memory_needed`
        return 0
    return 6 * header.width * header.height  # two copies of the pixels, as an array


def cpu_seconds_allowed(data: bytes, header: ImageHeader | None = None) -> float:
    """Returns the CPU seconds that reading the header of a photo may take or, with the header, decoding it.

    That is several times what an honest photo of so many bytes and pixels takes.
    """
    pixels = header.width * header.height if header else 0
    return _CPU_SECONDS + _CPU_SECONDS_PER_BYTE * len(data) + _CPU_SECONDS_PER_PIXEL * pixels


def cpu_seconds_needed(data: bytes, header: ImageHeader) -> float:
    """Returns a lower bound of the CPU seconds that the photo takes, where its file shows that they are many.

    Each scan of a JPEG goes over the whole photo, and a file has room for thousands of them.
    """
    if not data.startswith(_JPEG_START):
        return 0.0
    return _CPU_SECONDS_PER_SCANNED_PIXEL * header.width * header.height * data.count(_SCAN_START)
