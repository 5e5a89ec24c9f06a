"""photos.listing: what every layout comes to."""

from pathlib import Path

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.listing import COLUMNS, FoundPhoto, PhotoListing, describe, listing_table


def photos(*labels, part="train"):
    return [FoundPhoto(f"{i}.jpg", part, f"{part}{i}", label) for i, label in enumerate(labels)]


def test_the_table_has_labelled_photos_first_in_natural_order():
    found = [FoundPhoto("", "test", "t"), *reversed(photos("a", "b", "a", "b")), *photos("a", part="val")]
    table, class_names, label_ids = listing_table(Path("x"), found, {})
    assert list(table.columns) == COLUMNS and class_names == ("a", "b") and label_ids == {"a": "a", "b": "b"}
    assert table["id"].tolist() == ["train0", "train1", "train2", "train3", "val0", "t"]
    assert table["given_fold"].tolist() == ["", "", "", "", "0", ""]
    listing = PhotoListing(
        Path("x"), "folders", table, class_names, label_ids, None, reading=("layout: folders",)
    )
    assert describe(listing) == "5 labelled photos of 2 labels, 1 test photo; layout: folders"


def test_a_single_photo_is_enough_if_a_validation_part_is_given():
    table, _, _ = listing_table(Path("x"), [*photos("a", "a", "b"), *photos("a", part="val")], {})
    assert len(table) == 4
    with pytest.raises(FovsfeError, match='a single photo of "b"'):
        listing_table(Path("x"), photos("a", "a", "b"), {})


def test_names_that_are_no_text_are_named():
    found = photos("a", "a", "b", "b")
    found[0].label = "\udcff"
    found[1].label = "\udcff"
    with pytest.raises(FovsfeError, match="has bytes that are no text"):
        listing_table(Path("x"), found, {})
