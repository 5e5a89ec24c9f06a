import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fovsfe.bundle import photo_paths
from fovsfe.photos.passed_over import EMPTY, PassedOver
from fovsfe.photos.reader import read_encoded


def expand_paths(paths: list[str], lines: list[str]) -> list[str]:
    return list(photo_paths.expand_paths(paths, lines, PassedOver()))


def pack(file: Path, entries: dict[str, bytes]) -> None:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as packed:
            for name, data in entries.items():
                packed.writestr(name, data)
        return
    with tarfile.open(file, "w:gz" if file.suffix.lower() in (".gz", ".tgz") else "w") as tar:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def photos(made: Any, tmp_path: Path) -> Path:
    """A folder with six photos, two of them in a folder in it, and a text."""
    (tmp_path / "deep").mkdir()
    for index, data in enumerate(made.photos):
        (tmp_path / ("deep" if index > 3 else "") / f"{index}.jpg").write_bytes(data)
    (tmp_path / "notes.txt").write_text("none of a photo")
    return tmp_path


def test_what_paths_stand_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert expand_paths(["deep"], []) == ["deep/4.jpg", "deep/5.jpg"]
    assert expand_paths(["*.jpg"], []) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert expand_paths([f"{photos}/**/5.*"], []) == [f"{photos}/deep/5.jpg"]
    assert expand_paths(["notes.txt", "-", "0.jpg"], ["a b.jpg\n", "\n", "c.jpg"]) == [
        "notes.txt",
        "a b.jpg",
        "c.jpg",
        "0.jpg",
    ]
    assert expand_paths(["nowhere.jpg", "no*thing"], []) == ["nowhere.jpg", "no*thing"]
    assert len(expand_paths([str(photos)], [])) == 6


def test_a_name_that_looks_like_a_pattern(photos: Path) -> None:
    (photos / "car[1].jpg").write_bytes(b"")
    assert expand_paths([f"{photos}/car[1].jpg"], []) == [f"{photos}/car[1].jpg"]


def test_a_pattern_and_a_line_stand_for_what_an_argument_would(photos: Path) -> None:
    pack(photos / "deep" / "z.zip", {"6.jpg": b""})
    wanted = [f"{photos}/deep/{name}" for name in ("4.jpg", "5.jpg", "z.zip/6.jpg")]
    assert expand_paths([f"{photos}/d*"], []) == wanted
    assert expand_paths(["-"], [f"{photos}/deep\n"]) == wanted
    assert expand_paths([f"{photos}/*/*.zip"], []) == wanted[-1:]


def test_a_byte_order_mark_and_line_ends_of_windows() -> None:
    assert expand_paths(["-"], ["\ufeff/one.jpg\r\n", "two \ufeff.jpg\r\n"]) == ["/one.jpg", "two \ufeff.jpg"]


@pytest.mark.parametrize("name", ["z.zip", "z.tar", "z.tar.gz", "Z.TGZ"])
def test_an_archive_stands_for_the_photos_in_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    pack(tmp_path / name, {"./a/1.jpg": b"1", "a/._1.jpg": b"", "notes.txt": b""})
    assert expand_paths([f"{tmp_path}/{name}"], []) == [f"{tmp_path}/{name}/a/1.jpg"]
    assert read_encoded(f"{tmp_path}/{name}/a/1.jpg") == b"1"


def test_what_has_no_photo_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    pack(tmp_path / "z.zip", {"notes.txt": b""})
    passed_over = PassedOver()
    paths = [f"{tmp_path}/empty", f"{tmp_path}/z.zip", "-"]
    assert list(photo_paths.expand_paths(paths, [], passed_over)) == []
    assert passed_over.examples[EMPTY] == [f"{tmp_path}/empty", f"{tmp_path}/z.zip"]
    assert passed_over.has_errors
    passed_over = PassedOver()
    assert list(photo_paths.expand_paths(["-"], ["\n"], passed_over)) == []
    assert passed_over.examples[EMPTY] == ["standard input"]


def test_names_of_any_length_stand_for_themselves() -> None:
    for name in ("x" * 5000, "x" * 5000 + ".zip", "?" * 5000, f"{'x/' * 5000}y"):
        assert expand_paths([name], []) == [name]
