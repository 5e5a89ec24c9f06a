"""photos.names: which photo a name means, and which part a folder is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.photos.names import PhotoNames, is_generic_folder, part_of

PATHS = ["a/1.jpg", "b/1.jpg", "c/2.JPG", "Йод.jpg", "x/3.jpg", "x/3.png", "img.1.jpg", "deep/in/it/4.jpg"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a/1.jpg", ["a/1.jpg"]),
        ("a/1", ["a/1.jpg"]),
        ("A/1.JPEG", ["a/1.jpg"]),
        ("photos/b/1.jpg", ["b/1.jpg"]),
        ("it/4", ["deep/in/it/4.jpg"]),
        ("2", ["c/2.JPG"]),
        ("elsewhere/2.png", ["c/2.JPG"]),
        (unicodedata.normalize("NFD", "йод"), ["Йод.jpg"]),
        ("3.png", ["x/3.png"]),
        ("3.PNG", ["x/3.png"]),
        ("img.1", ["img.1.jpg"]),
        (" .\\c\\2.jpg ", ["c/2.JPG"]),
        ("https://host/x/2.jpg?size=1", ["c/2.JPG"]),
        ("/data/upload/1/0123abcd-2.jpg", ["c/2.JPG"]),
        ("1", ["a/1.jpg", "b/1.jpg"]),
        ("3", ["x/3.jpg", "x/3.png"]),
        ("3.gif", ["x/3.jpg", "x/3.png"]),
        ("none.jpg", []),
        ("", []),
    ],
)
def test_the_nearest_photo_is_meant(written, found):
    assert list(PhotoNames(PATHS).find_all([written])[written]) == found


def test_a_photo_of_another_folder_is_not_meant_if_a_name_has_its_own():
    names = PhotoNames(["lada/1.jpg"])
    assert names.find_all(["ford/1.jpg"])["ford/1.jpg"] == ("lada/1.jpg",)
    assert names.find_all(["ford/1.jpg", "lada/1.jpg"])["ford/1.jpg"] == ()
    assert names.find_all(["1", "lada/1.jpg", "1.jpg"])["1"] == ("lada/1.jpg",)


@given(st.lists(st.text("aAй1/.\\ -", min_size=1, max_size=8), max_size=6), st.text("aAй1/.\\ -", max_size=8))
def test_a_path_means_itself_and_nothing_that_is_not_there(paths, written):
    names = PhotoNames(paths)
    assert set(names.find_all([written])[written]) <= set(paths)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("train", ["train", "Training", "TRAIN", "train_images", "stage1_train", "train2014", "trainImages"]),
        ("val", ["val", "Valid", "validation", "valid_set", "dev", "VALIDATION"]),
        ("test", ["test", "Testing", "test1", "test_upload", "PublicTest", "images_test", "stage2_test"]),
        (None, ["bus", "Trainer", "testarossa", "train_test", "trained", "contest", "", "train bus"]),
    ],
)
def test_parts(part, names):
    assert {name: part_of(name) for name in names} == dict.fromkeys(names, part)


def test_storage():
    assert all(map(is_generic_folder, ("images", "train_images", "Photos", "img")))
    assert not any(map(is_generic_folder, ("cats", "2109", "images of cats")))
