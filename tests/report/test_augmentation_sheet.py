"""report.augmentation_sheet: photos as training augments them, as pictures."""

import base64
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from fovsfe.recipe import Recipe
from fovsfe.report.augmentation_sheet import augmentation_sheet


@pytest.fixture
def photos(tmp_path):
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / f"{index}.png")
    return tmp_path


def sheet(root, paths, settings, draws=5):
    """The sheet of photos whose content is that of the manifest."""
    contents = [(root / path).read_bytes() if (root / path).exists() else b"" for path in paths]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return augmentation_sheet(root, paths, digests, settings, draws)


def test_a_photo_with_another_content_has_no_row(photos):
    assert augmentation_sheet(photos, ["0.png"], ["0" * 64], recipe()) == []


def recipe(**augment):
    members = [
        {"backbone": "test_resnet", "size": [48, 64]},
        {"backbone": "test_vit", "size": [96, 128], "name": "large"},
    ]
    return Recipe.model_validate({"augment": augment, "members": members})


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)


def test_each_row_is_one_photo_drawn_several_times(photos):
    rows = sheet(photos, ["0.png", "1.png", "2.png"], recipe(strength="strong"), draws=4)
    assert [len(row) for row in rows] == [5, 5, 5]
    assert len({uri for row in rows for uri in row}) == 15
    original = np.asarray(Image.open(photos / "1.png").convert("RGB").resize((128, 96)))
    assert pixels(rows[1][0]).shape == (96, 128, 3)  # as the largest member takes it
    assert np.abs(pixels(rows[1][0]) - original).mean() < 12
    assert rows == sheet(photos, ["0.png", "1.png", "2.png"], recipe(strength="strong"), draws=4)


def test_no_augmentation_changes_nothing(photos):
    ((first, *drawn),) = sheet(photos, ["0.png"], recipe(strength="none"), draws=3)
    assert drawn == [first] * 3


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_photos_are_mixed_where_the_recipe_says_so(photos, kind):
    rows = sheet(photos, ["0.png", "1.png"], recipe(strength="none", **{kind: 1.0}), draws=6)
    assert all(len(set(row)) > 2 for row in rows)
    # Whatever the share, both pictures together hold what both photos hold.
    before = pixels(rows[0][0]) + pixels(rows[1][0])
    for first, second in zip(rows[0][1:], rows[1][1:], strict=True):
        assert np.abs(pixels(first) + pixels(second) - before).mean() < 12


def test_what_cannot_be_read_has_no_row(photos):
    (photos / "1.png").write_bytes(b"")
    assert len(sheet(photos, ["0.png", "1.png", "gone.png"], recipe())) == 1
    assert sheet(photos, ["gone.png"], recipe()) == []
