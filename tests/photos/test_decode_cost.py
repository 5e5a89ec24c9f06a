import io
import struct
from typing import Any

import pytest
from PIL import Image

from fovsfe.photos.decode import ImageHeader, read_header
from fovsfe.photos.decode_cost import cpu_seconds_allowed, cpu_seconds_needed, memory_needed
from fovsfe.photos.decode_turns import SMALL
from fovsfe.service.settings import MIB, Settings


@pytest.mark.parametrize(
    ("kind", "options", "at_least"),
    [
        ("PNG", {}, 4.7),
        ("WEBP", {}, 25),
        ("JPEG", {}, 0.2),
        ("JPEG", {"progressive": True}, 6),
    ],
)
def test_how_much_memory_is_reckoned_with(kind: str, options: dict[str, Any], at_least: float) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(stream, kind, **options)
    data = stream.getvalue()
    needed = memory_needed(data, read_header(data), side=224)
    assert at_least * 6_000_000 <= needed <= (at_least + 4) * 6_000_000


def test_a_phones_heic_has_room_beside_the_networks_of_quick() -> None:
    """In 512 MiB, of which these and the processes take 367 with two threads: `make container` shows it."""
    settings = Settings().with_memory(512 * MIB, 367 * MIB)
    heic = memory_needed(b"\0\0\0\x18ftypheic", ImageHeader(4032, 3024, ()), 256)
    assert heic + SMALL <= settings.decode_memory


def test_a_heic_of_50_megapixels_is_accepted_where_there_is_memory() -> None:
    memory = Settings().with_memory(None, 0).decode_memory
    assert memory_needed(b"\0\0\0\x18ftypheic", ImageHeader(8160, 6120, ()), 256) <= memory


def jpeg(width: int, height: int, **options: Any) -> tuple[bytes, ImageHeader]:
    """A small JPEG whose header says that it is larger."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG", **options)
    data = stream.getvalue().replace(b"\0\x10\0\x10\3", struct.pack(">HHB", height, width, 3))
    return data, read_header(data)


def test_of_a_jpeg_what_is_decoded_counts() -> None:
    """A phone's 108 megapixels are decoded at an eighth; a strip, and one in several scans, are not."""
    phone = memory_needed(*jpeg(12_000, 9_000), side=480)
    assert phone < 30 * MIB
    assert memory_needed(*jpeg(12_000, 9_000), side=2000) > 3 * phone
    assert memory_needed(*jpeg(65_500, 127), side=224) > 4 * 65_500 * 127
    assert memory_needed(*jpeg(4_000, 3_000, progressive=True), side=224) > 6 * 4_000 * 3_000
    assert memory_needed(*jpeg(60_000, 1, progressive=True), side=224) > 6 * 60_000 * 16
    data, header = jpeg(4_000, 3_000)
    arithmetic = data.replace(b"\xff\xc0", b"\xff\xca")  # progressive, too
    assert memory_needed(arithmetic, header, side=224) > 6 * 4_000 * 3_000
    lossless = data.replace(b"\xff\xc0", b"\xff\xc3")
    assert memory_needed(lossless, header, side=224) > 8 * 4_000 * 3_000


def test_transparent_and_deep_photos_need_more() -> None:
    plain = memory_needed(b"", ImageHeader(1000, 1000, ()), 224)
    for note in ("transparent", "16-bit"):
        assert memory_needed(b"", ImageHeader(1000, 1000, (note,)), 224) > 2 * plain


def test_more_time_is_allowed_for_more_pixels_and_bytes() -> None:
    header = cpu_seconds_allowed(bytes(1000))
    assert header < cpu_seconds_allowed(bytes(1000), ImageHeader(4000, 3000, ())) < 5
    assert header < cpu_seconds_allowed(bytes(2**24)) < 2


def test_thousands_of_scans_take_too_long() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(stream, "JPEG", progressive=True)
    progressive = stream.getvalue()
    assert cpu_seconds_needed(progressive, read_header(progressive)) < 0.2
    last = progressive.rindex(b"\xff\xda")
    scans = progressive[:last] + 1000 * progressive[last:-2] + progressive[-2:]
    assert cpu_seconds_needed(scans, read_header(scans)) > 5
    assert cpu_seconds_needed(b"\x89PNG" + scans, ImageHeader(3000, 2000, ())) == 0
