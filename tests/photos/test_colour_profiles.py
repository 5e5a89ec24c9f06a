"""photos.colour_profiles: the colours that a file's profile means, in sRGB, for every kind of profile.

The profiles are made by hand, of the kinds that cameras, screens, scanners and presses put into photos.
"""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.photos.images import encoded

from fovsfe.photos import colour_profiles
from fovsfe.photos.colour_profiles import to_srgb
from fovsfe.photos.decode import decode, decode_to_size, image_pixels

DOWN, ACROSS = np.mgrid[0:96, 0:128]
SCENE = np.stack([ACROSS + 60, DOWN + 100, 240 - ACROSS], -1).astype(np.uint8)  # in the gamut of sRGB

D50, D65 = np.array([0.9642, 1.0, 0.8249]), (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
SWAPPED = ((0.15, 0.06), (0.30, 0.60), (0.64, 0.33))  # red is blue: who ignores it is seen at once
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(gamma):
    """A power, or the five parameters of a curve like that of sRGB."""
    if isinstance(gamma, tuple):
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(*gamma)
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def profile(space, pcs, tags, device=b"mntr"):
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"wtpt": xyz(D50),
        **tags,
    }
    at, directory, bodies = 132 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        directory += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(bodies), b"lcms", 0x02400000, device, space, pcs)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + directory + bodies


def xyz(values):
    return b"XYZ \0\0\0\0" + fixed(*values)


def matrix(primaries, white=D65):
    """From linear RGB to XYZ as seen under D50, (3, 3)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white_xyz = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    columns = columns * np.linalg.solve(columns, white_xyz)
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    return np.linalg.inv(cones) @ np.diag(cones @ D50 / (cones @ white_xyz)) @ cones @ columns


def matrix_profile(primaries, gamma, white=D65):
    """As of cameras and screens."""
    tags = {}
    for name, column in zip(b"rgb", matrix(primaries, white).T, strict=True):
        tags[bytes([name]) + b"XYZ"], tags[bytes([name]) + b"TRC"] = xyz(column), curve(gamma)
    return profile(b"RGB ", b"XYZ ", tags)


def grey_profile(gamma):
    return profile(b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def table_profile(space, to_lab, grid=9):
    """A table from colours, (n, channels) from 0 to 1, to Lab, as of scanners and presses."""
    channels = len(space.strip())
    axes = np.meshgrid(*[np.linspace(0, 1, grid)] * channels, indexing="ij")
    lab = to_lab(np.stack(axes, -1).reshape(-1, channels))
    levels = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
    body = b"mft2\0\0\0\0" + bytes([channels, 3, grid, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    body += struct.pack(">HH", 2, 2) + b"\0\0\xff\xff" * channels
    body += levels.round().clip(0, 65535).astype(">u2").tobytes() + b"\0\0\xff\xff" * 3
    return profile(space, b"Lab ", {b"A2B0": body}, b"prtr")


def press(inks):
    """Lab of inks whose black is not quite black, (n, 3)."""
    c, m, y, k = inks.T
    light = (1 - 0.30 * c - 0.45 * m - 0.08 * y) * (1 - 0.85 * k)
    return np.stack([100 * light, 40 * (m - c) * (1 - k), 40 * (y - c) * (1 - k)], -1)


def scanner(colours):
    """Lab of a device whose channels are about light, red minus green, and yellow minus blue, (n, 3)."""
    r, g, b = colours.T
    return np.stack([100 * (0.3 * r + 0.6 * g + 0.1 * b), 40 * (r - g), 40 * ((r + g) / 2 - b)], -1)


def linear(levels):
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def srgb(xyz_d50):
    """uint8 sRGB of XYZ as seen under D50, (..., 3)."""
    light = (xyz_d50 @ np.linalg.inv(matrix(SRGB)).T).clip(0, 1)
    return (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).round()


def srgb_of_lab(lab):
    f = (lab[..., 0] + 16) / 116
    f = np.stack([f + lab[..., 1] / 500, f, f - lab[..., 2] / 200], -1)
    return srgb(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


def difference(pixels, expected):
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    return np.abs(pixels.astype(int) - expected).mean()


SPACES = {
    "Display P3": (DISPLAY_P3, SRGB_CURVE, D65),
    "Adobe RGB": (ADOBE_RGB, 563 / 256, D65),
    "ProPhoto RGB": (PROPHOTO, 1.8, (0.3457, 0.3585)),
    "swapped": (SWAPPED, SRGB_CURVE, D65),
}


def scene_in(name):
    """The numbers that mean the scene in another space, and its profile."""
    primaries, gamma, white = SPACES[name]
    light = (linear(SCENE) @ matrix(SRGB).T @ np.linalg.inv(matrix(primaries, white)).T).clip(0, 1)
    if isinstance(gamma, tuple):
        share = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    else:
        share = light ** (1 / gamma)
    return (255 * share).round().astype(np.uint8), matrix_profile(primaries, gamma, white)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("HEIF", {"quality": 100, "chroma": 444}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_colours_mean_what_the_profile_says(name, kind, options):
    numbers, icc = scene_in(name)
    data = encoded(numbers, kind, icc_profile=icc, **options)
    assert difference(decode(data), SCENE) < 1.5
    assert difference(numbers, SCENE) > 4
    assert difference(decode_to_size(data, SCENE.shape[:2], "squash"), SCENE) < 1.5
    assert difference(image_pixels(Image.open(io.BytesIO(data))), SCENE) < 1.5


def test_an_image_of_the_caller_keeps_its_pixels():
    numbers, icc = scene_in("swapped")
    image = Image.open(io.BytesIO(encoded(numbers, "PNG", icc_profile=icc)))
    assert difference(image_pixels(image), SCENE) < 1.5
    assert difference(np.asarray(image), numbers) == 0


def test_a_profile_is_embedded_in_a_bmp():
    numbers, icc = scene_in("Adobe RGB")
    rows = numbers[::-1, :, ::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, 128, 96, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16) + b"DEBM"
    head += bytes(48) + struct.pack("<4I", 4, 124 + len(rows), len(icc), 0)
    data = b"BM" + struct.pack("<IHHI", 138 + len(rows) + len(icc), 0, 0, 138) + head + rows + icc
    assert difference(decode(data), SCENE) < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey(kind):
    grey = (ACROSS * 2).astype(np.uint8)
    expected = srgb((grey[..., None] / 255) ** 1.8 * D50)
    data = encoded(grey, kind, icc_profile=grey_profile(1.8), **({"quality": 100} if kind == "JPEG" else {}))
    assert difference(decode(data), expected) < 1
    assert difference(np.repeat(grey[..., None], 3, -1), expected) > 8


def test_grey_of_16_bits_and_with_opacity():
    grey = (ACROSS * 2).astype(np.uint8)
    expected = srgb((grey[..., None] / 255) ** 1.8 * D50)
    deep = encoded(grey.astype(np.uint16) * 257, "PNG", icc_profile=grey_profile(1.8))
    assert difference(decode(deep), expected) < 1
    clear = np.where(DOWN < 48, 0, 255).astype(np.uint8)
    pixels = decode(encoded(np.dstack([grey, clear]), "PNG", icc_profile=grey_profile(1.8)))
    assert (pixels[:48] == 255).all() and difference(pixels[48:], expected[48:]) < 1


def test_a_grey_photo_may_have_a_colour_profile():
    grey = (ACROSS * 2).astype(np.uint8)
    data = encoded(grey, "JPEG", quality=100, icc_profile=matrix_profile(SRGB, 1.8))
    assert difference(decode(data), srgb((grey[..., None] / 255) ** 1.8 * D50)) < 1


def test_tables_of_a_scanner():
    data = encoded(SCENE, "PNG", icc_profile=table_profile(b"RGB ", scanner))
    expected = srgb_of_lab(scanner(SCENE.reshape(-1, 3) / 255)).reshape(SCENE.shape)
    assert difference(decode(data), expected) < 2
    assert difference(SCENE, expected) > 20


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_tables_of_a_press(kind):
    inks = np.dstack([SCENE // 2, DOWN // 2]).astype(np.uint8)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(
        Image.fromarray(inks, "CMYK"), kind, icc_profile=table_profile(b"CMYK", press, 17), **options
    )
    expected = srgb_of_lab(press(inks.reshape(-1, 4) / 255)).reshape(SCENE.shape)
    assert difference(decode(data), expected) < 3
    without = decode(encoded(Image.fromarray(inks, "CMYK"), kind, **options))
    assert difference(without, expected) > 8


def test_palettes_and_opacity():
    numbers, icc = scene_in("swapped")
    few = Image.fromarray(numbers).quantize(256)
    expected = to_srgb(few.convert("RGB"), icc)
    assert difference(decode(encoded(few, "PNG", icc_profile=icc)), np.asarray(expected)) == 0
    half = encoded(np.dstack([numbers, np.full((96, 128), 128, np.uint8)]), "PNG", icc_profile=icc)
    assert difference(decode(half), SCENE * (128 / 255) + 127) < 1.5


# ---- what is ignored


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "icc",
    [
        b"rubbish" * 30,
        matrix_profile(SWAPPED, 2.2)[:200],
        table_profile(b"RGB ", scanner)[:900],
        grey_profile(1.8),
        table_profile(b"CMYK", press, 3),
        profile(b"XYZ ", b"XYZ ", {}),
        profile(b"RGB ", b"XYZ ", {}),
        matrix_profile(SWAPPED, 2.2).replace(b"mntr", b"nmcl"),
    ],
    ids=["rubbish", "cut", "cut table", "grey", "CMYK", "XYZ", "empty", "named"],
)
def test_a_profile_that_is_broken_or_of_another_kind_costs_nothing(kind, icc):
    plain, managed = encoded(SCENE, kind), encoded(SCENE, kind, icc_profile=icc)
    assert icc in managed or kind == "PNG"
    assert np.array_equal(decode(managed), decode(plain))


def test_what_is_no_profile_is_ignored():
    image = Image.fromarray(SCENE)
    for nonsense in (None, b"", (1, 2), "text", bytes(colour_profiles.MAX_PROFILE + 1)):
        assert np.array_equal(to_srgb(image, nonsense), SCENE)


# ---- what it costs


@pytest.mark.parametrize(
    "icc",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), matrix_profile(SRGB, SRGB_CURVE)],
)
def test_srgb_is_recognised_once_and_changes_nothing(icc, monkeypatch):
    image = Image.fromarray(SCENE)
    assert np.array_equal(to_srgb(image, icc), SCENE)
    monkeypatch.setattr(ImageCms, "ImageCmsTransform", lambda *arguments: pytest.fail("built again"))
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda *arguments: pytest.fail("read again"))
    assert to_srgb(image, bytes(bytearray(icc))) is image


def test_transforms_are_kept_but_not_without_bound():
    kept = colour_profiles._cached_transform
    image = Image.new("RGB", (2, 2))
    for number in range(50):
        to_srgb(image, matrix_profile(DISPLAY_P3, 1 + number / 20))
    assert kept.cache_info().currsize <= kept.cache_info().maxsize <= 16
    large = matrix_profile(DISPLAY_P3, 1.7) + bytes(2_000_000)
    before = kept.cache_info()
    to_srgb(image, large)
    assert kept.cache_info() == before
