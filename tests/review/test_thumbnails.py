"""Photos made small."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from fovsfe.errors import UsageError
from fovsfe.review import thumbnails as module
from fovsfe.review.thumbnails import Thumbnails


def test_a_photo_is_a_jpeg_of_at_most_the_size(planted):
    thumbnails = Thumbnails(planted.photos)
    for size in ("small", "large"):
        with Image.open(io.BytesIO(thumbnails.jpeg(3, size))) as image:
            assert (image.format, image.size) == ("JPEG", (40, 30))


def test_only_so_many_bytes_are_kept(planted, monkeypatch):
    thumbnails = Thumbnails(planted.photos)
    one = len(thumbnails.jpeg(0, "small"))
    monkeypatch.setattr(module, "KEPT_BYTES", 5 * one)
    for row in range(30):
        thumbnails.jpeg(row, "small")
    assert sum(map(len, thumbnails._kept.values())) == thumbnails._bytes <= 5 * one
    assert (29, "small") in thumbnails._kept


@pytest.mark.parametrize(("row", "size"), [(-1, "small"), (10**6, "small"), (0, "huge")])
def test_what_is_no_photo_is_refused(planted, row, size):
    with pytest.raises(UsageError, match="there is no such photo"):
        Thumbnails(planted.photos).jpeg(row, size)


def test_a_photo_that_has_changed_is_not_shown(planted):
    table = planted.photos.table.assign(sha256="0" * 64)
    with pytest.raises(UsageError, match="its content has changed"):
        Thumbnails(replace(planted.photos, table=table)).jpeg(0, "small")
