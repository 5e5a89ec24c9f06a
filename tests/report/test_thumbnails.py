"""report.thumbnails: small, upright, without metadata, from folders and zips, whatever the bytes are."""

import base64
import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fovsfe.errors import FovsfeError
from fovsfe.photos.reader import read_bytes
from fovsfe.report import thumbnails
from fovsfe.report.thumbnails import PLACEHOLDER, data_uri


def thumbnail(root, path, *size, **limit):
    """The thumbnail of a photo whose content is that of the manifest."""
    try:
        digest = hashlib.sha256(read_bytes(root, path)).hexdigest()
    except (OSError, FovsfeError):
        digest = ""
    return thumbnails.thumbnail(root, path, digest, *size, **limit)


def opened(uri):
    assert uri.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def halves(width, height):
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def test_upright_small_and_without_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    exif[0x010F] = "the maker of the camera"
    halves(800, 600).save(tmp_path / "a.jpg", exif=exif)
    small = opened(thumbnail(tmp_path, "a.jpg"))
    assert small.size == (120, 160)
    assert not small.getexif()
    assert b"maker" not in base64.b64decode(thumbnail(tmp_path, "a.jpg").partition(",")[2])
    pixels = np.asarray(small).astype(int)
    assert pixels[10, 60, 0] > 200 > 60 > pixels[10, 60, 2]  # what was on the left is on top
    assert pixels[150, 60, 2] > 200 > 60 > pixels[150, 60, 0]


def test_side(tmp_path):
    halves(300, 100).save(tmp_path / "a.png")
    assert opened(thumbnail(tmp_path, "a.png", 90)).size == (90, 30)
    assert opened(thumbnail(tmp_path, "a.png", 900)).size == (300, 100)  # never enlarged


def test_photo_in_a_zip(tmp_path):
    stream = io.BytesIO()
    halves(64, 64).save(stream, "PNG")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("train/7/1.png", stream.getvalue())
    assert opened(thumbnail(tmp_path, "train.zip/train/7/1.png")).size == (64, 64)
    assert thumbnail(tmp_path, "train.zip/train/7/2.png") == PLACEHOLDER


def test_long_and_thin(tmp_path):
    halves(4000, 3).save(tmp_path / "a.png")
    assert opened(thumbnail(tmp_path, "a.png")).size == (160, 1)


@pytest.mark.parametrize("path", ["", "gone.jpg", "folder.jpg", "text.jpg"])
def test_unreadable_photos_have_a_placeholder(tmp_path, path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("no photo")
    assert thumbnail(tmp_path, path) == PLACEHOLDER


def test_a_photo_over_the_limit_of_pixels_has_a_placeholder(tmp_path):
    halves(100, 50).save(tmp_path / "a.png")
    assert thumbnail(tmp_path, "a.png", max_pixels=4_999) == PLACEHOLDER
    assert opened(thumbnail(tmp_path, "a.png", max_pixels=5_000)).size == (100, 50)


def test_placeholder_is_an_svg():
    assert base64.b64decode(PLACEHOLDER.partition(",")[2]).startswith(b"<svg xmlns=")


def test_a_thumbnail_is_a_few_kilobytes(tmp_path):
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (120, 160, 3), np.uint8))
    noise.resize((1600, 1200)).save(tmp_path / "a.jpg")
    assert len(thumbnail(tmp_path, "a.jpg")) < 20_000  # even of noise


@given(data=st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    assert thumbnail(tmp_path, "a.jpg").startswith("data:image/")


def test_data_uri_keeps_colours():
    pixels = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    assert np.abs(np.asarray(opened(data_uri(pixels))).astype(int) - (200, 100, 50)).max() < 6


def test_a_manifest_shows_nothing_outside_of_the_folder_of_its_photos(tmp_path):
    (tmp_path / "photos").mkdir()
    halves(80, 60).save(tmp_path / "private.jpg")
    digest = hashlib.sha256((tmp_path / "private.jpg").read_bytes()).hexdigest()
    for path in ("../private.jpg", f"{tmp_path}/private.jpg", "a/../../private.jpg"):
        assert thumbnails.thumbnail(tmp_path / "photos", path, digest) == PLACEHOLDER
    assert thumbnails.thumbnail(tmp_path, "private.jpg", digest) != PLACEHOLDER


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_manifest_shows_no_photo_whose_content_it_does_not_know(tmp_path, digest):
    """The root of a run from elsewhere may be any folder of this machine."""
    halves(80, 60).save(tmp_path / "private.jpg")
    assert thumbnails.thumbnail(tmp_path, "private.jpg", digest) == PLACEHOLDER
