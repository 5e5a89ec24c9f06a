"""photos.labels: lists and folders brought together."""

from pathlib import Path

import pandas as pd
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.labels import Lists, PhotoList, folders_are_labels
from fovsfe.photos.lists import Columns
from fovsfe.photos.passed_over import LEADS_OUT, PassedOver
from fovsfe.photos.places import place

COLUMNS = Columns("file", ("label",), None, None)


def apply(root, photos, *rows, part=None, follow_links=False):
    table = pd.DataFrame(rows, columns=["file", "label"], dtype=object)
    passed_over = PassedOver()
    lists = Lists(root, photos, follow_links, True, passed_over)
    lists.apply(PhotoList("cars.csv", table, COLUMNS, part))
    return lists, passed_over


def test_a_list_of_a_part_does_not_reach_into_another():
    photos = place(["train/1.jpg", "test/1.jpg", "test/2.jpg"], "", True)
    lists, _ = apply(Path("/nowhere"), photos, ("1", "a"), ("2", "b"), part="train")
    assert lists.found == 1
    assert [(photo.path, photo.row.label if photo.row else "") for photo in photos] == [
        ("train/1.jpg", "a"),
        ("test/1.jpg", ""),
        ("test/2.jpg", ""),
        ("2", "b"),
    ]


def test_a_file_elsewhere_is_not_taken_for_one_of_its_name(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("set/1.jpg", "1.jpg"):
        (tmp_path / name).write_bytes(b"")
    for follow_links in (False, True):
        photos = place(["1.jpg"], "", True)
        _, passed_over = apply(tmp_path / "set", photos, ("../1.jpg", "a"), follow_links=follow_links)
        assert photos[0].row is None
        assert passed_over.counts[LEADS_OUT] == (not follow_links)
        assert [photo.path for photo in photos[1:]] == [str(tmp_path / "1.jpg")] * follow_links


def test_a_path_of_another_machine_means_the_photo_here():
    photos = place(["images/1.jpg"], "", True)
    lists, passed_over = apply(Path("/nowhere"), photos, ("/home/else/images/1.jpg", "a"))
    assert lists.found == 1 and photos[0].row is not None and not passed_over.counts


def test_folders_that_say_the_same_something_else_or_both():
    names = {"0": "Нива"}
    for rows, are_labels in (([("1", "Нива"), ("2", "1")], True), ([("1", "x"), ("2", "y")], False)):
        photos = place(["0/1.jpg", "1/2.jpg"], "", True)
        apply(Path("/nowhere"), photos, *rows)
        assert folders_are_labels(Path("/nowhere"), photos, names) == are_labels
    photos = place(["0/1.jpg", "1/2.jpg"], "", True)
    apply(Path("/nowhere"), photos, ("1", "0"), ("2", "0"))
    with pytest.raises(FovsfeError, match=r'says "0" for 1/2.jpg, which is in "1"'):
        folders_are_labels(Path("/nowhere"), photos, names)
