"""photos.walk: what counts as a photo, here and in archives; everything else is counted with its reason."""

import os
import socket
import tarfile
import zipfile

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.photos.images import encoded

from fovsfe.errors import FovsfeError
from fovsfe.photos import passed_over as reasons
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import read_bytes
from fovsfe.photos.walk import walk_photos
from fovsfe.storage.locations import as_path

TINY = Image.new("RGB", (8, 8))
JPEG = encoded(TINY, "JPEG")


def write(root, *names, data=JPEG):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def walked(root):
    passed_over = PassedOver()
    return sorted(walk_photos(root, passed_over)), dict(passed_over.counts)


def test_hidden_files_and_those_of_the_system_are_counted_here_and_in_archives(tmp_path):
    odd = ["._1.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/._b.jpg", "@eaDir/1.jpg/SYNO.jpg"]
    odd += ["Thumbs.db", "desktop.ini", "a/.DS_Store"]
    write(tmp_path / "photos", "a/1.jpg", *odd)
    with zipfile.ZipFile(tmp_path / "photos" / "z.zip", "w") as archive:
        for name in ("a/2.jpg", *odd):
            archive.writestr(name, JPEG)
    photos, counts = walked(tmp_path / "photos")
    assert photos == ["a/1.jpg", "z.zip/a/2.jpg"]
    assert counts == {reasons.HIDDEN: 2 * len(odd)}


NAMES = [
    "a.jfif",
    "a.jpe",
    "a.mpo",
    "photo",
    "b.JPG_large",
    "c.jpeg~",
    "get.ashx",
    "img.php",
    "x.aspx",
    "y.img",
]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_photos_are_told_by_their_content(tmp_path, kind):
    write(tmp_path, *NAMES, data=encoded(TINY, kind))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in NAMES:
            archive.writestr(name, encoded(TINY, kind))
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name in NAMES:
            archive.add(tmp_path / name, name)
    photos, counts = walked(tmp_path)
    assert photos == sorted(
        [*NAMES, *(f"z.zip/{name}" for name in NAMES), *(f"t.tar/{name}" for name in NAMES)]
    )
    assert counts == {}


def test_what_is_no_photo_is_counted_with_its_reason(tmp_path):
    write(tmp_path, "notes.txt", "page.php", "BMW", "raw.dng", data=b"BMW is a maker of cars, and more words")
    write(tmp_path, "x.7z", "x.tar.bz2")
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.jpg"))
        photos, counts = walked(tmp_path)
    assert photos == []
    assert counts == {
        reasons.NOT_PHOTOS: 4,
        reasons.OTHER_ARCHIVES: 2,
        reasons.DANGLING: 1,
        reasons.SPECIAL: 2,
    }


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    write(tmp_path, "elsewhere/one.jpg", "photos/real/1.jpg", "other.jpg")
    root = tmp_path / "photos"
    (root / "cars").symlink_to("../elsewhere")
    (root / "around").symlink_to(root)
    (root / "again").symlink_to("real")
    (root / "2.jpg").symlink_to("../other.jpg")
    photos, counts = walked(root)
    assert photos == ["2.jpg", "cars/one.jpg", "real/1.jpg"]
    assert counts == {reasons.READ_ALREADY: 2}


def test_links_that_multiply_come_to_an_end(tmp_path):
    write(tmp_path, *(f"{level}/photo.jpg" for level in range(40)))
    for level in range(39):
        for name in "abc":
            (tmp_path / str(level) / name).symlink_to(f"../{level + 1}")
    photos, _ = walked(tmp_path)
    assert len(photos) == 40


def test_folders_may_be_deep(tmp_path):
    deep, levels = tmp_path, []
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()
        levels.append(deep)
    photo = deep / "1.jpg"
    photo.write_bytes(JPEG)
    try:
        assert len(walked(tmp_path)[0]) == 1
    finally:  # pytest cannot remove folders as deep as that
        photo.unlink()
        for level in reversed(levels):
            level.rmdir()


def test_an_archive_that_cannot_be_read_is_yielded_for_its_reader_to_say_why(tmp_path):
    write(tmp_path, "a/bad.zip", data=b"no zip")
    assert walked(tmp_path)[0] == ["a/bad.zip"]
    with pytest.raises(OSError, match="cannot be read as an archive"):
        read_bytes(tmp_path, "a/bad.zip")


def test_archives_in_archives_are_counted(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.zip", b"PK")
        archive.writestr("1.jpg", JPEG)
    assert walked(tmp_path) == (["a.zip/1.jpg"], {reasons.OTHER_ARCHIVES: 1})


def test_what_is_no_folder_is_said(tmp_path):
    write(tmp_path, "1.jpg")
    with pytest.raises(FovsfeError, match=r"1\.jpg: cannot be read"):
        walked(tmp_path / "1.jpg")


@pytest.mark.parametrize("scheme", ["s3", "file"])
def test_a_url_is_walked_as_a_folder_is(tmp_path, bucket, scheme):
    folder = tmp_path / "photos"
    write(folder, "a/1.jpg", "a/photo", ".hidden/2.jpg", "b/c/3.jfif")
    write(folder, "a/empty", data=b"")
    write(folder, "notes", data=b"words")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("4.jpg", JPEG)
    url = f"file://{folder}" if scheme == "file" else f"{bucket}/photos"
    if scheme == "s3":
        fsspec.filesystem("s3").put(str(folder), f"{bucket}/", recursive=True)
    assert walked(as_path(url)) == walked(folder)
    assert walked(folder)[0] == ["a/1.jpg", "a/photo", "b/c/3.jfif", "z.zip/4.jpg"]


NAME = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=40
)


@given(NAME.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_is_either_yielded_and_can_be_read_or_counted(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("wild")
    write(root, name)
    photos, counts = walked(root)
    assert len(photos) + sum(counts.values()) == 1
    for photo in photos:
        assert photo == name
        if not name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz")):
            assert read_bytes(root, photo) == JPEG


def test_few_names_are_kept_however_many_there_are():
    passed_over, others = PassedOver(), PassedOver()
    for number in range(1000):
        others.add(reasons.HIDDEN, f".{number}")
    passed_over.add_all(others, "a")
    assert passed_over.counts == {reasons.HIDDEN: 1000}
    assert list(passed_over.described()) == [
        (reasons.HIDDEN, f"1,000 {reasons.HIDDEN.many} (a/.0, a/.1, a/.2, a/.3, a/.4, ...)")
    ]
    assert not passed_over.has_errors
    passed_over.add(reasons.LEADS_OUT, "../1.jpg")
    assert passed_over.has_errors
