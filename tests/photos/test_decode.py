"""photos.decode: every kind of file comes out as the right uint8 RGB, or as a BadPhoto with its reason."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from tests.photos.images import encoded, turned

from fovsfe.photos.decode import (
    FORMATS,
    PAD_COLOUR,
    BadPhoto,
    decode,
    decode_to_size,
    decode_to_sizes,
    image_pixels,
    read_header,
    resize_photo,
)

HEIGHT, WIDTH = 96, 128
DOWN, ACROSS = np.mgrid[0:HEIGHT, 0:WIDTH]
SCENE = np.stack([ACROSS * 2, DOWN * 2, ACROSS + DOWN], -1).astype(np.uint8)  # no two corners are alike
GREY = (ACROSS * 2).astype(np.uint8)


def difference(pixels, expected):
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    return np.abs(pixels.astype(int) - expected).mean()


def png_header(width, height):
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


PICTURE = Image.fromarray(SCENE)
FAITHFUL = {
    "jpeg": encoded(SCENE, "JPEG", quality=95),
    "progressive": encoded(SCENE, "JPEG", progressive=True, quality=95),
    "CMYK jpeg": encoded(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "png": encoded(SCENE, "PNG"),
    "webp": encoded(SCENE, "WEBP", lossless=True),
    "gif": encoded(SCENE, "GIF"),
    "bmp": encoded(SCENE, "BMP"),
    "tiff": encoded(SCENE, "TIFF"),
    "tiff lzw": encoded(SCENE, "TIFF", compression="tiff_lzw"),
    "CMYK tiff": encoded(PICTURE.convert("CMYK"), "TIFF"),
    "avif": encoded(SCENE, "AVIF", quality=95),
    "heic": encoded(SCENE, "HEIF", quality=95),
    "palette": encoded(PICTURE.quantize(256), "PNG"),
    "animated gif": encoded(SCENE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "animated png": encoded(SCENE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)]),
    "animated webp": encoded(
        SCENE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)], lossless=True
    ),
    "two-page tiff": encoded(SCENE, "TIFF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "ppm": encoded(SCENE, "PPM"),
    "mpo": encoded(SCENE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)], quality=95),
}


@pytest.mark.parametrize("name", FAITHFUL)
def test_colour_comes_out_right(name):
    assert difference(decode(FAITHFUL[name]), SCENE) < 8
    assert read_header(FAITHFUL[name]).width == WIDTH and read_header(FAITHFUL[name]).height == HEIGHT


def test_all_formats_are_there():
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    stored = {
        1: SCENE,
        2: SCENE[:, ::-1],
        3: SCENE[::-1, ::-1],
        4: SCENE[::-1],
        5: SCENE.transpose(1, 0, 2),
        6: np.rot90(SCENE),
        7: SCENE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(SCENE, -1),
    }[orientation]
    data = encoded(np.ascontiguousarray(stored), kind, exif=turned(orientation))
    assert difference(decode(data), SCENE) < 4
    assert (read_header(data).height, read_header(data).width) == (HEIGHT, WIDTH)


def test_a_broken_exif_block_does_not_spoil_the_photo():
    data = encoded(SCENE, "JPEG", exif=b"Exif\0\0MM\0*garbage and more of it")
    assert decode(data).shape == SCENE.shape


def test_transparency_is_white():
    alpha = np.where(ACROSS < WIDTH // 2, 0, 255).astype(np.uint8)
    expected = np.where(alpha[..., None] == 0, 255, SCENE)
    for kind in ("PNG", "WEBP"):
        data = encoded(np.dstack([SCENE, alpha]), kind, lossless=True)
        assert difference(decode(data), expected) < 1
    half = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    assert difference(decode(encoded(np.dstack([SCENE * 0, half]), "PNG")), SCENE * 0 + 127) <= 1
    grey = np.dstack([GREY, alpha])
    assert (decode(encoded(grey, "PNG"))[:, 0] == 255).all()


def test_palette_with_transparency():
    image = Image.fromarray((ACROSS // 64).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        pixels = decode(encoded(image, kind, transparency=0))
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels[0, -1].tolist() == [40, 50, 60]


def test_transparent_colour_without_alpha():
    assert decode(encoded(GREY, "PNG", transparency=20))[0, 10].tolist() == [255] * 3
    assert decode(encoded(SCENE, "PNG", transparency=(0, 0, 0)))[0, 0].tolist() == [255] * 3
    deep = encoded((GREY * np.uint16(257)).astype(np.uint16), "PNG", transparency=20 * 257)
    assert decode(deep)[0, 10].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    data = encoded(GREY.astype(np.uint16) * 257, kind)
    assert (decode(data) == GREY[..., None]).all()
    assert "16-bit" in read_header(data).notes


def test_32_bit_and_floating_point_tiff():
    levels = np.repeat(GREY[..., None], 3, -1)
    assert (decode(encoded(GREY.astype(np.int32), "TIFF")) == levels).all()
    assert (decode(encoded(GREY.astype(np.int32) * 257, "TIFF")) == levels).all()
    assert (decode(encoded(GREY.astype(np.float32) / 255, "TIFF")) == levels).all()
    assert (decode(encoded(GREY.astype(np.float32), "TIFF")) == levels).all()
    holed = GREY.astype(np.float32) / 255
    holed[0, :3] = [np.nan, np.inf, -np.inf]
    assert decode(encoded(holed, "TIFF"))[0, :3].max() == 0


def test_one_bit_lab_and_grey():
    checks = (ACROSS // 16 + DOWN // 16) % 2 == 1
    assert (decode(encoded(Image.fromarray(checks), "PNG"))[..., 0] == checks * 255).all()
    assert (decode(encoded(GREY, "PNG")) == GREY[..., None]).all()
    lab = Image.merge("LAB", [Image.new("L", (8, 8), level) for level in (255, 128, 128)])
    assert decode(encoded(lab, "TIFF")).min() > 245


def test_ycck_jpeg():
    inks = PICTURE.convert("CMYK").split()
    luma = Image.merge("RGB", inks[:3]).convert("YCbCr").split()
    inverted = [Image.fromarray(255 - np.asarray(channel)) for channel in luma]  # Pillow inverts on writing
    data = bytearray(encoded(Image.merge("CMYK", [*inverted, inks[3]]), "JPEG", quality=95))
    data[data.find(b"Adobe") + 11] = 2  # the marker's transform: YCCK
    assert read_header(bytes(data)).notes == ("CMYK",)
    assert difference(decode(bytes(data)), SCENE) < 6


@pytest.mark.parametrize(
    ("start", "stored"),
    [
        (b"P3 128 96 255\n", " ".join(map(str, SCENE.ravel())).encode()),
        (b"P6\n# a comment\n128 96\n255\n", SCENE.tobytes()),
        (b"P6 128 96 65535 ", (SCENE.astype(">u2") * 257).tobytes()),
        (b"P6 128 96 127 ", (SCENE // 2).tobytes()),
    ],
)
def test_pixmaps(start, stored):
    assert difference(decode(start + stored), SCENE) < 1
    assert read_header(start + stored).width == WIDTH


@pytest.mark.parametrize(
    ("start", "stored", "least"),
    [
        (b"P2 128 96 255\n", " ".join(map(str, GREY.ravel())).encode(), 0),
        (b"P5 128 96 255\n", GREY.tobytes(), 0),
        (b"P5 128 96 65535\n", (GREY.astype(">u2") * 257).tobytes(), 0),
        (b"P5 128 96 4095\n", (GREY * np.uint16(16)).astype(">u2").tobytes(), 0.8),
        (b"P5 128 96 65535\n", GREY.astype(">u2").tobytes(), 1),  # dark, but of 16 bits
    ],
)
def test_greymaps(start, stored, least):
    expected = np.repeat((GREY if least < 1 else GREY * 0)[..., None], 3, -1)
    assert difference(decode(start + stored), expected) <= least
    assert ("16-bit" in read_header(start + stored).notes) == (b"255\n" not in start or b"65535" in start)


def test_bitmaps_of_one_bit():
    black = (ACROSS // 16 + DOWN // 16) % 2 == 1
    for start, stored in [
        (b"P1\n128 96\n", "\n".join("".join(map(str, row)) for row in black.astype(int)).encode()),
        (b"P4\n128 96\n", np.packbits(black, axis=1).tobytes()),
    ]:
        assert (decode(start + stored)[..., 0] == ~black * 255).all()


def test_white_lies_beside_a_frame_that_is_smaller_than_its_canvas():
    frame = encoded(np.full((10, 20), 40, np.uint8), "GIF")
    at = frame.index(b",\0\0\0\0")
    data = (
        frame[:6]
        + struct.pack("<HH", 50, 30)
        + frame[10:at]
        + b","
        + struct.pack("<HH", 5, 6)
        + frame[at + 5 :]
    )
    expected = np.full((30, 50, 3), 255, np.uint8)
    expected[6:16, 5:25] = 40
    assert np.array_equal(decode(data), expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_an_open_image_of_any_mode(mode):
    steps = {"La": ["LA"], "LA": ["L"], "1": ["L"], "RGBa": ["RGBA"], "PA": ["P"]}.get(mode, [])
    image = PICTURE
    for step in [*steps, mode]:
        image = image.convert(step)
    pixels = image_pixels(image)
    grey = np.repeat(np.asarray(PICTURE.convert("L"))[..., None], 3, -1)
    expected = grey if mode in ("1", "L", "LA", "La") else SCENE
    assert difference(pixels, expected) < {"1": 128, "P": 40, "PA": 40}.get(mode, 4)


def test_notes():
    assert read_header(FAITHFUL["jpeg"]).notes == ()
    assert read_header(FAITHFUL["mpo"]).notes == ("first of several frames",)
    gain_map = (
        FAITHFUL["mpo"][:2]
        + b"\xff\xe1\0\x3bhttp://ns.adobe.com/xap/1.0/\0"
        + b' hdrgm:Version="1.0" '.ljust(28)
    )
    assert read_header(gain_map + FAITHFUL["mpo"][2:]).notes == ()
    assert read_header(FAITHFUL["animated gif"]).notes == ("first of several frames",)
    assert read_header(encoded(SCENE, "JPEG", exif=turned(6))).notes == ("rotated by EXIF",)


# ---- reduced scale and resizing


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_are_decoded_at_reduced_scale(orientation):
    big = np.kron(SCENE, np.ones((8, 8, 1), np.uint8))  # 768 x 1024
    data = encoded(big, "JPEG", exif=turned(orientation))
    upright = (1024, 768) if orientation == 6 else (768, 1024)
    assert decode(data).shape[:2] == upright
    for asked in [(96, 96), (100, 300), (300, 100), (384, 512), (500, 20), (769, 4)]:
        sides = decode(data, asked).shape
        scale = min(upright[0] // asked[0], upright[1] // asked[1])
        step = max(s for s in (1, 2, 4, 8) if s <= max(scale, 1))
        assert sides[:2] == (upright[0] // step, upright[1] // step)


@pytest.mark.parametrize("how", ["pad", "squash", "crop"])
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (299, 299), (1, 1)])
def test_load_is_decode_and_resize(how, size):
    for data in FAITHFUL.values():
        pixels = decode_to_size(data, size, how)
        assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8
        assert np.array_equal(pixels, resize_photo(decode(data, size), size, how))


def test_several_sizes_are_each_as_if_alone():
    big = encoded(np.kron(SCENE, np.ones((8, 8, 1), np.uint8)), "JPEG", exif=turned(6))
    wanted = [((48, 48), "pad"), ((299, 299), "pad"), ((300, 300), "crop"), ((48, 48), "squash")]
    for data in (big, *FAITHFUL.values()):
        for pixels, (size, how) in zip(decode_to_sizes(data, wanted), wanted, strict=True):
            assert np.array_equal(pixels, resize_photo(decode(data, size), size, how))


def test_several_sizes_of_one_scale_are_decoded_once(monkeypatch):
    decoded = []
    load_pixels = JpegImagePlugin.JpegImageFile.load
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "load", lambda image: decoded.append(image) or load_pixels(image)
    )
    big = encoded(np.kron(SCENE, np.ones((8, 8, 1), np.uint8)), "JPEG")
    decode_to_sizes(big, [((90, 90), "pad"), ((95, 120), "pad"), ((299, 299), "pad")])
    images = {id(image): image for image in decoded}  # one is asked several times
    assert [image.size for image in images.values()] == [(128, 96), (512, 384)]


def test_pad_keeps_the_aspect():
    white = np.full((50, 100, 3), 255, np.uint8)
    pixels = resize_photo(white, (64, 64), "pad")
    assert (pixels[:16] == PAD_COLOUR).all() and (pixels[48:] == PAD_COLOUR).all()
    assert (pixels[16:48] == 255).all()
    pixels = resize_photo(white.transpose(1, 0, 2), (64, 64), "pad")
    assert (pixels[:, :16] == PAD_COLOUR).all() and (pixels[:, 16:48] == 255).all()


def test_crop_keeps_the_aspect_and_the_middle():
    bands = np.zeros((60, 180, 3), np.uint8)
    bands[:, 60:120] = 255
    assert (resize_photo(bands, (60, 60), "crop") == 255).all()
    assert difference(resize_photo(SCENE, (HEIGHT, WIDTH), "crop"), SCENE) == 0


def test_squash_uses_all():
    halves = np.zeros((40, 200, 3), np.uint8)
    halves[:, 100:] = 200
    pixels = resize_photo(halves, (40, 40), "squash")
    assert pixels[0, 5, 0] == 0 and pixels[0, -5, 0] == 200


@pytest.mark.parametrize("how", ["pad", "squash", "crop"])
@pytest.mark.parametrize("sides", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_extreme_shapes(how, sides):
    assert resize_photo(np.zeros((*sides, 3), np.uint8), (33, 65), how).shape == (33, 65, 3)


def test_another_resize_mode():
    with pytest.raises(ValueError, match='"pad", "squash" or "crop"'):
        resize_photo(SCENE, (8, 8), "stretch")


# ---- bad photos


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is a text and no photo", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (FAITHFUL["jpeg"][:-300], "truncated"),
        (FAITHFUL["jpeg"][:15], "truncated"),
        (FAITHFUL["png"][:-60], "truncated"),
        (FAITHFUL["webp"][:-20], "truncated"),
        (FAITHFUL["gif"][: len(FAITHFUL["gif"]) // 2], "truncated"),
        (FAITHFUL["bmp"][:9000], "truncated"),
        (FAITHFUL["tiff"][:9000], "truncated"),
        (FAITHFUL["tiff lzw"][:900], "truncated"),
        (FAITHFUL["avif"][:-100], "truncated"),
        (FAITHFUL["heic"][:-100], "truncated"),
        (png_header(50_000, 50_000), "50000x50000 pixels is over the limit of 100 million"),
        (png_header(500, 500), "damaged: its pixels cannot be read"),
        (b"\xff\xd8\xff\xe0" + bytes(50) + b"\xff\xd9", "damaged: its header cannot be read"),
        (FAITHFUL["ppm"][:900], "truncated"),
        (b"P2 9 9 255 1 2 3", "truncated"),
        (b"P2 2 1 255 truncated 9", "damaged: its pixels cannot be read"),
        (b"P6 2 truncated 9", "damaged: its header cannot be read"),
        (b"P6 0 9 255 ", "damaged: its header cannot be read"),
        (b"PyRGBA 1 1 255 1234", "not an image"),
        (
            FAITHFUL["jpeg"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
            "a kind of image that is not supported",
        ),
        (FAITHFUL["bmp"][:28] + b"\x02" + FAITHFUL["bmp"][29:], "a kind of image that is not supported"),
        (
            FAITHFUL["tiff"].replace(b"\6\1\3\0\1\0\0\0\2", b"\6\1\3\0\1\0\0\0\x63"),
            "a kind of image that is not supported",
        ),
        (FAITHFUL["gif"][:-1].replace(b"GIF87a", b"GIF truncated"), "not an image"),
    ],
)
def test_reasons(data, reason):
    for look in (decode, lambda data: decode_to_size(data, (8, 8), "pad")):
        with pytest.raises(BadPhoto) as refused:
            look(data)
        assert str(refused.value) == reason


@pytest.mark.parametrize("name", sorted(FAITHFUL))
def test_a_reason_is_a_few_plain_words(name):
    """No names of exceptions, no numbers of errors, no words of a library."""
    photo, seen = FAITHFUL[name], set()
    for at in range(2, len(photo), len(photo) // 150 + 1):
        for broken in (
            photo[:at],
            photo[:at] + bytes(40) + photo[at + 40 :],
            photo[:at] + b"\xff" * 9 + photo[at + 9 :],
        ):
            try:
                decode(broken, max_pixels=1_000_000)
            except BadPhoto as error:
                seen.add(str(error))
    known = {
        "truncated",
        "not an image",
        "a kind of image that is not supported",
        "damaged: its header cannot be read",
        "damaged: its pixels cannot be read",
    }
    assert "truncated" in seen
    assert {reason for reason in seen if not reason.endswith("the limit of 1 million")} <= known


def test_memory_that_runs_out_is_told(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(BadPhoto, match="needs more memory than there is"):
        decode(FAITHFUL["png"])


def test_the_limit_is_checked_before_decoding(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for name in ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heic"):
        with pytest.raises(BadPhoto, match=f"{WIDTH}x{HEIGHT} pixels is over the limit of 5,000"):
            decode(FAITHFUL[name], max_pixels=5000)


BIG = np.kron(SCENE, np.ones((8, 8, 1), np.uint8))  # 768 x 1024


def test_of_a_jpeg_the_pixels_that_are_decoded_count():
    data = encoded(BIG, "JPEG")
    assert read_header(data, max_pixels=HEIGHT * WIDTH).width == 1024
    with pytest.raises(BadPhoto, match="1024x768 pixels is over the limit of 12,287"):
        read_header(data, max_pixels=HEIGHT * WIDTH - 1)
    assert decode(data, (96, 96), max_pixels=HEIGHT * WIDTH).shape == SCENE.shape
    with pytest.raises(BadPhoto, match="1024x768 pixels is over the limit"):
        decode(data, max_pixels=768 * 1024 - 1)


def test_a_jpeg_over_the_limit_is_decoded_smaller_than_asked_for():
    """So that what the audit lets pass is read at every size."""
    data = encoded(BIG, "JPEG")
    for size in [(8, 8), (96, 96), (384, 512), (768, 1024), (900, 900)]:
        assert decode_to_size(data, size, "pad", max_pixels=20_000).shape == (*size, 3)
        assert decode(data, size, max_pixels=20_000).shape == SCENE.shape
    assert decode(data, (768, 1024), max_pixels=768 * 1024 // 4).shape == (384, 512, 3)


def test_a_jpeg_that_is_held_as_a_whole_counts_as_a_whole():
    data = encoded(BIG, "JPEG", progressive=True)
    assert decode_to_size(data, (96, 96), "pad", max_pixels=768 * 1024).shape == (96, 96, 3)
    for look in (read_header, lambda *arguments: decode_to_size(arguments[0], (96, 96), "pad", arguments[1])):
        with pytest.raises(BadPhoto, match="1024x768 pixels is over the limit"):
            look(data, 768 * 1024 - 1)


def test_a_gif_that_is_a_bomb_by_its_frame():
    bomb = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    bomb += (
        b"\x21\xf9\x04\x09\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x01\0\0;"
    )
    with pytest.raises(BadPhoto, match="limit of 100 million"):
        decode(bomb)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_the_bytes_are(data):
    photo = bytearray(FAITHFUL[data.draw(st.sampled_from(sorted(FAITHFUL)))])
    reach = data.draw(st.sampled_from([200, len(photo)]))
    for _ in range(data.draw(st.integers(1, 6))):
        photo[data.draw(st.integers(0, min(reach, len(photo)) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(photo) // 4))
    try:
        pixels = decode_to_size(bytes(photo[: len(photo) - cut]), (24, 32), "pad", max_pixels=1_000_000)
    except BadPhoto as reason:
        assert 0 < len(str(reason)) < 100 and "\n" not in str(reason)
    else:
        assert pixels.shape == (24, 32, 3) and pixels.dtype == np.uint8


@given(st.binary(max_size=200))
def test_any_bytes(data):
    with pytest.raises(BadPhoto):
        decode(data)


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
@pytest.mark.parametrize("size", [(1200, 900), (1203, 899)])
def test_a_heic_is_made_smaller_while_it_is_decoded(size):
    picture = Image.fromarray(SCENE).resize(size, Image.Resampling.BICUBIC)
    data = encoded(picture, "HEIF", quality=90)
    whole = decode(data)
    assert whole.shape == (size[1], size[0], 3)
    assert decode(data, (100, 100)).shape == (-(-size[1] // 2), -(-size[0] // 2), 3)
    for resize_mode in ("pad", "squash", "crop"):
        small = decode_to_size(data, (75, 100), resize_mode)
        assert difference(small, resize_photo(whole, (75, 100), resize_mode)) < 1


@pytest.mark.skipif("HEIF" not in FORMATS, reason="pillow-heif is not installed")
def test_a_transparent_heic_is_on_white_at_any_scale():
    picture = Image.fromarray(SCENE).convert("RGBA").resize((1200, 900))
    picture.putalpha(Image.new("L", picture.size, 0))
    data = encoded(picture, "HEIF", quality=90)
    assert (decode_to_size(data, (75, 100), "squash") == 255).all()
