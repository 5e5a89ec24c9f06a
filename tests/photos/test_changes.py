"""photos.changes: what a run cannot do without is found, and what it does not need is said."""

import os
import shutil
import time
import zipfile

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe.callbacks import no_progress
from fovsfe.photos import changes
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.changes import find_changes
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.manifest import ListingFacts
from fovsfe.photos.packing import pack_shards
from fovsfe.storage.locations import as_path


@pytest.fixture
def photos(tmp_path, clouds):
    """Class folders of three photos each."""
    for seed in range(6):
        file = tmp_path / "photos" / "ab"[seed % 2] / f"{seed}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        clouds(seed, 60, 40).save(file)
    return tmp_path / "photos"


def remember(root):
    """What a run remembers of photos: facts, manifest, and the time."""
    listing = find_photos(root)
    return ListingFacts.of(listing), audit_photos(listing).table, time.time_ns()


def compare(root, memory):
    return find_changes(lambda: find_photos(root), *memory)


def later(file):
    """Dates a file after everything else, whatever the file system's clock."""
    os.utime(file, ns=(time.time_ns() + 10**10,) * 2)


def test_nothing_has_changed_and_nothing_is_read(photos, monkeypatch):
    memory = remember(photos)
    monkeypatch.setattr(changes, "read_unchanged", lambda *arguments: pytest.fail("read"))
    assert compare(photos, memory) == changes.PhotoChanges("", "")


def test_photos_that_are_only_dated_anew_are_as_they_were(photos):
    memory = remember(photos)
    later(photos / "a" / "0.jpg")
    assert compare(photos, memory) == changes.PhotoChanges("", "")


def test_a_photo_that_is_gone_is_lost(photos):
    memory = remember(photos)
    (photos / "a" / "2.jpg").unlink()
    assert compare(photos, memory).lost == "1 photo gone (a/2.jpg)"


def test_a_photo_in_another_class_is_lost_and_new(photos):
    memory = remember(photos)
    (photos / "a" / "2.jpg").rename(photos / "b" / "2.jpg")
    found = compare(photos, memory)
    assert found.lost == "1 photo gone (a/2.jpg)"
    assert found.other == "1 photo new (b/2.jpg)"


def test_many_photos_are_counted(photos):
    memory = remember(photos)
    for file in (photos / "a").iterdir():
        file.unlink()
    (photos / "b" / "1.jpg").unlink()
    assert compare(photos, memory).lost == "4 photos gone (a/0.jpg, a/2.jpg, a/4.jpg, ...)"


def test_a_folder_that_is_gone_is_all_lost(photos):
    memory = remember(photos)
    photos.rename(photos.with_name("elsewhere"))
    assert compare(photos, memory).lost.startswith("6 photos gone (")


def test_another_size_is_another_content(photos):
    memory = remember(photos)
    with (photos / "a" / "2.jpg").open("ab") as file:
        file.write(b"0")
    os.utime(photos / "a" / "2.jpg", ns=(0, 0))
    assert compare(photos, memory).lost == "1 photo changed (a/2.jpg)"


def test_another_content_of_the_same_size_is_found_by_its_date(photos):
    memory = remember(photos)
    data = bytearray((photos / "a" / "2.jpg").read_bytes())
    data[-10] ^= 1
    (photos / "a" / "2.jpg").write_bytes(data)
    later(photos / "a" / "2.jpg")
    assert compare(photos, memory).lost == "1 photo changed (a/2.jpg)"


def test_a_photo_that_could_not_be_read_before_is_no_loss(photos):
    (photos / "a" / "2.jpg").write_bytes(b"no photo")
    memory = remember(photos)
    (photos / "a" / "2.jpg").unlink()
    assert compare(photos, memory).lost == ""


def test_new_photos_and_labels_are_said(photos):
    memory = remember(photos)
    (photos / "c").mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (60, 40)).save(photos / "c" / name)
    found = compare(photos, memory)
    assert found.lost == ""
    assert found.other == "2 photos new (c/1.jpg, c/2.jpg); the labels are others (c)"


def test_the_order_of_the_labels_is_the_run_s(photos):
    (photos / "classes.csv").write_text("Category,Name\na,a\nb,b\n")
    memory = remember(photos)
    (photos / "classes.csv").write_text("Category,Name\nb,b\na,a\n")
    assert compare(photos, memory) == changes.PhotoChanges("", "the labels are in another order")
    (photos / "classes.csv").write_text("Category,Name\na,x\nb,b\n")
    found = compare(photos, memory)
    assert found.lost == ""
    assert "3 photos with another label (a/0.jpg: a -> x, " in found.other


def test_labels_of_a_list_are_compared(photos):
    rows = [{"path": f"{'ab'[i % 2]}/{i}.jpg", "label": "ab"[i % 2]} for i in range(6)]
    file = photos / "list.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    memory = remember(file)
    rows[0]["label"] = "b"
    pd.DataFrame(rows).to_csv(file, index=False)
    assert compare(file, memory) == changes.PhotoChanges("", "1 photo with another label (a/0.jpg: a -> b)")


def test_a_folder_that_would_be_refused_now_is_no_obstacle(photos):
    memory = remember(photos)
    (photos / "lonely").mkdir()
    shutil.copy(photos / "a" / "0.jpg", photos / "lonely" / "0.jpg")
    found = compare(photos, memory)
    assert found.lost == "" and "a single photo" in found.other


def test_a_test_photo_that_is_gone_is_not_new(photos):
    for part in ("train", "test"):
        (photos / part).mkdir()
    for label in "ab":
        (photos / label).rename(photos / "train" / label)
    for number in "79":
        Image.new("RGB", (60, 40)).save(photos / "test" / f"{number}.jpg")
    (photos / "sample_submission.csv").write_text("id,label\n7.jpg,a\n9.jpg,a\n")
    memory = remember(photos)
    (photos / "test" / "9.jpg").unlink()
    Image.new("RGB", (60, 40)).save(photos / "test" / "8.jpg")
    found = compare(photos, memory)
    assert found.lost == "1 photo gone (test/9.jpg)"
    assert found.other == "1 photo new (test/8.jpg)"


def test_photos_of_an_archive_are_compared_by_its_directory(photos, tmp_path, monkeypatch):
    def pack(names):
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name in names:
                archive.write(photos / name, name)

    names = [f"{'ab'[i % 2]}/{i}.jpg" for i in range(6)]
    pack(names)
    memory = remember(tmp_path / "photos.zip")
    assert compare(tmp_path / "photos.zip", memory) == changes.PhotoChanges("", "")
    pack(names[1:])
    assert compare(tmp_path / "photos.zip", memory).lost == "1 photo gone (photos.zip/a/0.jpg)"


def test_photos_of_shards_are_compared(photos, tmp_path):
    found = find_photos(photos)
    table = audit_photos(found).table
    pack_shards(found, table, [], np.zeros(6, np.int64), tmp_path / "shards", no_progress)
    memory = remember(tmp_path / "shards")
    assert compare(tmp_path / "shards", memory) == changes.PhotoChanges("", "")
    next((tmp_path / "shards").glob("*.tar")).unlink()
    assert compare(tmp_path / "shards", memory).lost.startswith("6 photos gone (")


def test_photos_at_a_url_are_compared_by_their_names(photos):
    bucket, url = fsspec.filesystem("memory"), as_path("memory://changes")
    for file in photos.rglob("*.jpg"):
        bucket.pipe_file(f"/changes/{file.relative_to(photos)}", file.read_bytes())
    memory = remember(url)
    assert compare(url, memory) == changes.PhotoChanges("", "")
    bucket.rm("/changes/a/2.jpg")
    assert compare(url, memory).lost == "1 photo gone (a/2.jpg)"
