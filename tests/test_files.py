"""files: local files are whole or not there, and one line says why one cannot be written."""

import errno
import os
from pathlib import Path

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, open_regular, read_json, write_json, write_text

FULL = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes the first three characters of a text and no more."""
    real = Path.write_text

    def write_some(path, text, **options):
        real(path, text[:3], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_some)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="a device, a pipe or a socket"):
            open_regular(file)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="no name of a file"):
        open_regular(tmp_path / "a\0b")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.csv", "id,Жигули\n1,2\r\n")
    assert (tmp_path / "a" / "b" / "file.csv").read_bytes() == "id,Жигули\n1,2\r\n".encode()
    assert names(tmp_path / "a" / "b") == ["file.csv"]


def test_json_comes_back(tmp_path):
    value = {"Приора": [1, 0.1, None, True], "x": {"y": "z"}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert "Приора" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_until_the_end_the_old_file_stands(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    with atomic_path(file) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path  # a rename between disks would not be atomic
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, FovsfeError])
def test_an_interruption_passes_through_and_leaves_the_old_file(tmp_path, interruption):
    file = tmp_path / "file.txt"
    file.write_text("old")
    with pytest.raises(interruption), atomic_path(file) as temporary:
        temporary.write_text("ne")
        raise interruption
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "file.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {1, 2})
    assert read_json(tmp_path / "file.json") == 1


@needs_full_device
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    refused = pytest.raises(FovsfeError, match="No space left on device; free some space")
    with refused as caught, atomic_path(file) as temporary:
        temporary.symlink_to(FULL)
        temporary.write_text("new")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("write", [write_text, write_json])
def test_a_disk_that_fills_up_in_mid_file_leaves_no_half_file(tmp_path, full_disk, write):
    (tmp_path / "old.json").write_bytes(b"old")
    for name in ("old.json", "new.json"):
        with pytest.raises(FovsfeError, match="No space left on device"):
            write(tmp_path / name, "something long")
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_bytes() == b"old"


def test_a_disk_that_refuses_the_tidying_too_tells_of_the_first_trouble(tmp_path, full_disk, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FovsfeError, match="No space left on device"):
        write_text(tmp_path / "file.txt", "something long")


def test_an_error_without_an_errno_is_told_too(tmp_path):
    with pytest.raises(FovsfeError, match="5 requested and 0 written"), atomic_path(tmp_path / "features"):
        raise OSError("5 requested and 0 written")  # how numpy says that the disk is full


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FovsfeError, match="choose another folder"):
        write_text(tmp_path / "taken" / "file.txt", "new")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_where_the_file_should_be_is_told(tmp_path):
    (tmp_path / "file.txt" / "inner").mkdir(parents=True)
    with pytest.raises(FovsfeError, match=r"cannot write .*file\.txt"):
        write_text(tmp_path / "file.txt", "new")
    assert names(tmp_path) == ["file.txt"]


@needs_permissions
def test_an_unwritable_folder_is_told_and_left_as_it_is(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file.txt").write_text("old")
    folder.chmod(0o500)
    try:
        with pytest.raises(FovsfeError, match=r"cannot write .*Permission denied; .*another folder"):
            write_text(folder / "file.txt", "new")
        assert (folder / "file.txt").read_text() == "old"
        assert names(folder) == ["file.txt"]
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe"])
def test_json_that_is_missing_or_damaged_is_told(tmp_path, content):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FovsfeError, match=r"cannot read .*file\.json"):
        read_json(file)
