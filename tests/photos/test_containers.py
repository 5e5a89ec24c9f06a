"""photos.containers: what Pillow refuses or misreads, although every browser shows it, comes out right."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.photos.images import encoded, turned

from fovsfe.photos import containers
from fovsfe.photos.decode import BadPhoto, decode, decode_to_size, image_pixels, read_header

HEIGHT, WIDTH = 48, 64
DOWN, ACROSS = np.mgrid[0:HEIGHT, 0:WIDTH]
SCENE = np.stack([ACROSS * 4, DOWN * 5, ACROSS + DOWN], -1).astype(np.uint8)
GREY = (ACROSS * 4).astype(np.uint8)


# ---- JPEG

JPEG = encoded(SCENE, "JPEG", quality=95, exif=turned(6))


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xE0, b"JFIF"),
        segment(0xEE, b"Adobe"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\0\x02\0\0"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0MM\0*"),
        segment(0xE2, b"MPF\0" + bytes(40)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/"),
        segment(0xFE, b""),
        segment(0xFE, b"\xff\xd9"),
    ],
)
def test_an_odd_segment_costs_nothing(odd):
    whole = decode(JPEG)
    assert whole.shape == (WIDTH, HEIGHT, 3)
    for data in (JPEG[:2] + odd + JPEG[2:], sof_after(JPEG, odd)):
        assert np.array_equal(decode(data), whole)
        assert read_header(data).height == WIDTH


def sof_after(data, odd):
    at = data.index(b"\xff\xc0")
    return data[:at] + odd + data[at:]


def lossless_jpeg(pixels):
    """Every difference from the pixel to the left, or above in the first column, in a Huffman code of 17
    categories of 5 bits each."""
    values = pixels.astype(int)
    predicted = np.empty_like(values)
    predicted[0, 0], predicted[0, 1:], predicted[1:, 0] = 128, values[0, :-1], values[:-1, 0]
    predicted[1:, 1:] = values[1:, :-1]
    bits = []
    for step in (values - predicted).ravel():
        size = int(abs(step)).bit_length()
        bits.append(f"{size:05b}" + (f"{step if step > 0 else step + 2**size - 1:0{size}b}" if size else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    height, width, channels = pixels.shape
    ids = b"RGB"[:channels]
    return b"".join(
        [
            b"\xff\xd8",
            segment(
                0xC3,
                struct.pack(">BHHB", 8, height, width, channels) + b"".join(b"%c\x11\0" % i for i in ids),
            ),
            segment(0xC4, b"\0" + bytes([0] * 4 + [17] + [0] * 11) + bytes(range(17))),
            segment(0xDA, bytes([channels]) + b"".join(b"%c\0" % i for i in ids) + b"\x01\0\0"),
            body,
            b"\xff\xd9",
        ]
    )


def test_a_lossless_jpeg_is_never_decoded_at_reduced_scale():
    data = lossless_jpeg(SCENE)
    assert np.array_equal(decode(data), SCENE)
    assert np.array_equal(decode(data, (6, 8)), SCENE)
    assert np.array_equal(
        decode_to_size(data, (6, 8), "squash"), decode_to_size(encoded(SCENE, "PNG"), (6, 8), "squash")
    )
    with pytest.raises(BadPhoto, match="64x48 pixels is over the limit"):
        decode_to_size(data, (6, 8), "squash", max_pixels=1000)


def test_which_jpegs_are_held_as_a_whole():
    assert not containers.read_jpeg_frame(JPEG).several_scans
    assert containers.read_jpeg_frame(encoded(SCENE, "JPEG", progressive=True)).several_scans
    scans = JPEG.index(b"\xff\xda")
    one_of_three = JPEG[:scans] + segment(0xDA, b"\1\1\0\0\x3f\0")
    assert containers.read_jpeg_frame(one_of_three) == containers.JpegFrame(3, False, True)
    assert containers.read_jpeg_frame(JPEG.replace(b"\xff\xc0", b"\xff\xca")).several_scans
    thumbnail = JPEG[:2] + segment(0xE1, encoded(SCENE, "JPEG", progressive=True)) + JPEG[2:]
    assert not containers.read_jpeg_frame(thumbnail).several_scans


@given(st.binary(max_size=300))
def test_any_bytes_after_the_start_of_a_jpeg(data):
    containers.read_jpeg_frame(b"\xff\xd8" + data)
    containers.stripped_jpeg(b"\xff\xd8" + data)


# ---- PNG


def chunk(name, body, good=True):
    return (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ (not good))
    )


def png(*extra, pixels=SCENE, depth=8, colour_type=2, after=()):
    """`extra` are chunks before the pixels, `after` behind them; `pixels` has whole bytes per row."""
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in pixels)
    body = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(rows)), *after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


LARGE = zlib.compress(bytes(3_000_000))
ODD_CHUNKS = {
    "text": chunk(b"tEXt", b"Comment\0hello", good=False),
    "no text": chunk(b"tEXt", b""),
    "large zTXt": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "zTXt of an unknown method": chunk(b"zTXt", b"Comment\0\7" + LARGE),
    "large iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "much text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000))) * 70,
    "large profile": chunk(b"iCCP", b"name\0\0" + LARGE),
    "profile of an unknown method": chunk(b"iCCP", b"name\0\1" + LARGE),
    "profile without a name": chunk(b"iCCP", b""),
    "profile that is not compressed": chunk(b"iCCP", b"name\0\0rubbish"),
    "profile": chunk(b"iCCP", b"name\0\0" + LARGE, good=False),
    "EXIF": chunk(b"eXIf", turned(6)[6:], good=False),
    "EXIF of rubbish": chunk(b"eXIf", b"MM\0*rubbish"),
    "short cHRM": chunk(b"cHRM", bytes(31)),
    "short gAMA": chunk(b"gAMA", b""),
    "short sRGB": chunk(b"sRGB", b""),
    "short pHYs": chunk(b"pHYs", bytes(3)),
    "short tRNS": chunk(b"tRNS", b"\0"),
    "tRNS": chunk(b"tRNS", bytes(6), good=False),
    "sRGB": chunk(b"sRGB", b"\0", good=False),
    "unknown": chunk(b"abCd", b"12345", good=False),
    "animation without frames": chunk(b"acTL", struct.pack(">II", 2, 0)),
    "short animation": chunk(b"acTL", b"\0"),
    "frame out of order": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0\0\0\7" + bytes(22)),
    "short frame": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0"),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_a_fault_in_an_ancillary_chunk_costs_nothing(name):
    assert np.array_equal(decode(png(ODD_CHUNKS[name])), SCENE)
    assert np.array_equal(decode(png(after=[ODD_CHUNKS[name]])), SCENE)
    assert read_header(png(ODD_CHUNKS[name])).width == WIDTH


@pytest.mark.parametrize("where", ["before", "after"])
def test_exif_before_and_after_the_pixels(where):
    exif = chunk(b"eXIf", turned(6)[6:])
    data = png(exif) if where == "before" else png(after=[exif])
    assert np.array_equal(decode(data), np.rot90(SCENE, -1))
    header = read_header(data)
    assert (header.width, header.height, header.notes) == (HEIGHT, WIDTH, ("rotated by EXIF",))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_grey_of_few_bits(depth):
    levels = np.arange(2**depth, dtype=np.uint8)
    packed = np.packbits(np.unpackbits(levels[:, None], axis=1)[:, 8 - depth :].ravel())
    rows = np.repeat(packed[None], 2, 0)
    data = png(chunk(b"tRNS", b"\0\0"), pixels=rows, depth=depth, colour_type=0)
    data = data.replace(struct.pack(">II", len(packed), 2), struct.pack(">II", 2**depth, 2))
    at = data.index(b"IHDR")
    head = data[at : at + 17]
    data = data[: at + 17] + struct.pack(">I", zlib.crc32(head)) + data[at + 21 :]
    expected = levels * (255 // (2**depth - 1))
    expected[0] = 255
    assert decode(data)[0, :, 0].tolist() == expected.tolist()


def test_a_transparent_colour_of_16_bits():
    deep = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1234, 0x5678, 0]]], np.uint16)
    clear = chunk(b"tRNS", deep[0, 0].astype(">u2").tobytes())
    pixels = decode(png(clear, pixels=deep.astype(">u2"), depth=16))
    assert pixels[0].tolist() == [[255, 255, 255], [0x12, 0x56, 0]]


def test_a_transparent_palette_longer_than_256():
    palette = chunk(b"PLTE", bytes(range(9))) + chunk(b"tRNS", bytes(300))
    pixels = decode(png(palette, pixels=np.array([[0, 1, 2]], np.uint8), colour_type=3))
    assert pixels[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_an_animation_stays_one():
    later = Image.fromarray(SCENE[::-1])
    data = encoded(SCENE, "PNG", save_all=True, append_images=[later])
    assert read_header(data).notes == ("first of several frames",)
    assert np.array_equal(decode(data), SCENE)


def test_what_decides_the_pixels_must_be_right():
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in SCENE))
    apart = [chunk(b"IDAT", rows[:90]), chunk(b"tIME", bytes(7)), chunk(b"IDAT", rows[90:])]
    together = png().replace(chunk(b"IDAT", rows), apart[0] + apart[2])
    assert np.array_equal(decode(together), SCENE)
    torn = together.replace(apart[0], apart[0] + apart[1])
    for data in (png().replace(b"IDAT", b"ID\0T"), png().replace(b"IDAT", b"XDAT"), torn):
        with pytest.raises(BadPhoto, match="damaged"):
            decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_after_the_start_of_a_png(data):
    containers.stripped_png(b"\x89PNG\r\n\x1a\n" + data)


# ---- BMP


def bmp(bits, palette, rows, width):
    colours = b"".join(bytes(colour) + b"\0" for colour in palette)
    stored = b"".join(row + bytes(-len(row) % 4) for row in reversed(rows))
    start = 54 + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, width, len(rows), 1, bits, 0, 0, 0, 0, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", start + len(stored), 0, 0, start) + head + colours + stored


@pytest.mark.parametrize(
    "palette",
    [
        [(0, 0, 0), (255, 255, 255)],
        [(255, 255, 255), (0, 0, 0)],
        [(level, level, level) for level in range(16)],
        [(level, level, level) for level in range(0, 256, 17)],
        [(level, 0, 9) for level in range(16)],
    ],
)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes_of_greys(bits, palette):
    if len(palette) > 2**bits:
        palette = palette[: 2**bits]
    indices = np.random.default_rng(0).integers(0, len(palette), (5, 16)).astype(np.uint8)
    digits = np.unpackbits(indices[..., None], axis=-1)[..., 8 - bits :]
    rows = [np.packbits(row.ravel()).tobytes() for row in digits]
    expected = np.array(palette, np.uint8)[indices][..., ::-1]
    assert np.array_equal(decode(bmp(bits, palette, rows, 16)), expected)


def test_a_palette_may_be_longer_than_256():
    palette = [(level % 256, 0, 9) for level in range(300)]
    rows = [bytes(range(i, i + 16)) for i in range(4)]
    assert decode(bmp(8, palette, rows, 16))[1, :, 2].tolist() == list(range(1, 17))


@pytest.mark.parametrize(
    "masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)]
)
def test_a_bitmap_without_any_opacity_is_opaque(masks):
    order = [2, 1, 0] if masks[0] == 0xFF0000 else [0, 1, 2]
    for alpha, expected in [(0, SCENE), (255, SCENE), (None, None)]:
        opacity = np.full((HEIGHT, WIDTH), alpha or 0, np.uint8)
        if alpha is None:  # opaque in one place: all others are transparent
            opacity[0, 0] = 255
            expected = np.full_like(SCENE, 255)
            expected[0, 0] = SCENE[0, 0]
        pixels = np.dstack([SCENE[..., order], opacity])[::-1].tobytes()
        head = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0)
        head += struct.pack("<4I", *masks) + bytes(52)
        data = b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head + pixels
        assert np.array_equal(decode(data), expected)
        assert np.array_equal(image_pixels(Image.open(io.BytesIO(data))), expected)


# ---- TIFF

SHORT, LONG, BYTE, UNDEFINED = 3, 4, 1, 7
SIZES = {BYTE: "B", SHORT: "H", LONG: "L", UNDEFINED: "B"}


def tiff(order, tags, strips, kinds=None, big=False):
    """A TIFF, `order` "<" or ">", of these strips or planes; `tags` are numbers or sequences of them."""
    mark = b"II" if order == "<" else b"MM"
    start = 16 if big else 8
    offsets = [start + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {256: WIDTH, 257: HEIGHT, 259: 1, 278: HEIGHT, **tags, 273: offsets, 279: [len(s) for s in strips]}
    kinds = {273: LONG, 279: LONG, **(kinds or {})}
    pointer, count = ("Q", "Q") if big else ("L", "H")
    room, entry = (8, 20) if big else (4, 12)
    at = start + sum(map(len, strips))
    after = at + struct.calcsize(order + count) + entry * len(tags) + room
    entries, bodies = struct.pack(order + count, len(tags)), b""
    for tag, value in sorted(tags.items()):
        values, kind = (value if isinstance(value, list | tuple | bytes) else [value]), kinds.get(tag, SHORT)
        body = struct.pack(f"{order}{len(values)}{SIZES[kind]}", *values)
        entries += struct.pack(f"{order}HH{pointer}", tag, kind, len(values))
        if len(body) > room:
            body, bodies = struct.pack(order + pointer, after + len(bodies)), bodies + body
        entries += body + bytes(room - len(body))
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HL", 42, at))
    return head + b"".join(strips) + entries + bytes(room) + bodies


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("depth", [8, 16])
def test_separate_planes(order, channels, compression, depth):
    image = np.dstack([SCENE, DOWN * 3])[..., :channels]
    planes = [(image[..., i].astype(np.uint16) * 257).astype(f"{order}u2") for i in range(channels)]
    if depth == 8:
        planes = [image[..., i].astype(np.uint8) for i in range(channels)]
    strips = [plane.tobytes() if compression == 1 else zlib.compress(plane.tobytes()) for plane in planes]
    kind = 2 if channels == 3 else 5
    tags = {258: [depth] * channels, 259: compression, 262: kind, 277: channels, 284: 2}
    expected = (
        SCENE if channels == 3 else np.asarray(Image.fromarray(image.astype(np.uint8), "CMYK").convert("RGB"))
    )
    data = tiff(order, tags, strips)
    assert np.array_equal(decode(data), expected)
    assert ("16-bit" in read_header(data).notes) == (depth == 16)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("associated", [True, False])
def test_grey_with_opacity(planar, compression, associated):
    alpha = np.where(DOWN < 24, 0, 255).astype(np.uint8)
    grey = np.where(alpha, GREY, 0).astype(np.uint8)
    planes = [grey, alpha] if planar == 2 else [np.dstack([grey, alpha])]
    strips = [plane.tobytes() if compression == 1 else zlib.compress(plane.tobytes()) for plane in planes]
    tags = {258: [8, 8], 259: compression, 262: 1, 277: 2, 284: planar, 338: 1 if associated else 2}
    pixels = decode(tiff("<", tags, strips))
    assert (pixels[:24] == 255).all()
    assert np.array_equal(pixels[24:, :, 0], grey[24:])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
def test_white_is_zero_in_16_bits(order, compression):
    plane = (65535 - GREY.astype(np.uint16) * 257).astype(f"{order}u2").tobytes()
    plane = plane if compression == 1 else zlib.compress(plane)
    data = tiff(order, {258: 16, 259: compression, 262: 0, 277: 1}, [plane])
    assert np.array_equal(decode(data)[..., 0], GREY)


@pytest.mark.parametrize("levels", ["16 bits", "8 bits"])
@pytest.mark.parametrize("order", "<>")
def test_a_colour_map_of_8_or_16_bits(levels, order):
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 7)]).ravel()
    stored = colours * 257 if levels == "16 bits" else colours
    data = tiff(order, {258: 8, 262: 3, 277: 1, 320: stored.tolist()}, [GREY.tobytes()])
    assert np.array_equal(decode(data), colours.reshape(3, 256).T[GREY])


@pytest.mark.parametrize("kind", [BYTE, SHORT, LONG])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
def test_the_orientation_of_a_tiff_is_of_any_type(kind, order, compression, orientation):
    strip = SCENE.tobytes() if compression == 1 else zlib.compress(SCENE.tobytes())
    tags = {258: [8] * 3, 259: compression, 262: 2, 274: orientation, 277: 3}
    data = tiff(order, tags, [strip], {274: kind})
    expected = {
        2: SCENE[:, ::-1],
        3: SCENE[::-1, ::-1],
        4: SCENE[::-1],
        5: SCENE.transpose(1, 0, 2),
        6: np.rot90(SCENE, -1),
        7: SCENE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(SCENE),
    }.get(orientation, SCENE)
    assert np.array_equal(decode(data), expected)
    assert (read_header(data).height, read_header(data).width) == expected.shape[:2]


@pytest.mark.parametrize("kind", [BYTE, SHORT, LONG])
def test_the_orientation_of_a_jpeg_is_of_any_type(kind):
    exif = b"Exif\0\0" + struct.pack(">2sHLHHHL", b"MM", 42, 8, 1, 274, kind, 1)
    exif += struct.pack(f">{SIZES[kind]}", 6).ljust(4, b"\0") + bytes(4)
    data = encoded(SCENE, "JPEG", exif=exif)
    assert decode(data).shape == (WIDTH, HEIGHT, 3)
    assert read_header(data).height == WIDTH


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_alone_turns_nothing(kind):
    if kind == "PNG":
        data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP))
    elif kind == "TIFF":
        data = tiff("<", {258: [8] * 3, 262: 2, 277: 3, 700: XMP}, [SCENE.tobytes()], {700: BYTE})
    else:
        data = encoded(SCENE, kind, xmp=XMP)
    assert XMP in data
    assert decode(data).shape == SCENE.shape
    assert read_header(data).width == WIDTH and read_header(data).notes == ()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
def test_bigtiff(order, compression):
    strips = [SCENE[:24].tobytes(), SCENE[24:].tobytes()]
    strips = strips if compression == 1 else [zlib.compress(strip) for strip in strips]
    tags = {258: [8] * 3, 259: compression, 262: 2, 277: 3, 278: 24, 274: 3}
    assert np.array_equal(decode(tiff(order, tags, strips, big=True)), SCENE[::-1, ::-1])


@pytest.mark.parametrize("compression", [50001, 34712])
def test_a_compression_that_libtiff_lacks_is_told(compression):
    data = tiff("<", {258: [8] * 3, 259: compression, 262: 2, 277: 3}, [encoded(SCENE, "WEBP")])
    with pytest.raises(BadPhoto, match="a kind of image that is not supported"):
        decode(data)


def test_a_fax_with_bad_rows_is_read_in_silence(capfd):
    rows = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    data = tiff("<", {257: 2000, 258: 1, 259: 3, 262: 0, 277: 1, 278: 2000}, [rows])
    assert decode(data).shape == (2000, WIDTH, 3)
    assert capfd.readouterr().err == ""


# ---- AVIF and HEIF


def box(kind, *contents):
    body = b"".join(contents)
    return struct.pack(">I", len(body) + 8) + kind + body


@pytest.mark.parametrize("brand", [b"avif", b"heic"])
def test_one_that_is_too_large_for_its_decoder_is_over_the_limit(brand):
    size = box(b"ispe", bytes(4), struct.pack(">II", 70_000, 60_000))
    data = box(b"ftyp", brand, bytes(4), b"mif1") + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", size)))
    assert containers.greatest_size(data) == (70_000, 60_000)
    with pytest.raises(BadPhoto, match=r"^70000x60000 pixels is over the limit of 100 million$"):
        decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_after_the_start_of_an_avif(data):
    containers.greatest_size(b"\0\0\0\x10ftypavif\0\0\0\0" + data)
    containers.is_truncated(b"\0\0\0\x10ftypavif\0\0\0\0" + data)
