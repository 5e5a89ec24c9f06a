from pathlib import Path
from typing import Any

import pytest

from fovsfe.bundle.photo_paths import expand_paths


@pytest.fixture
def photos(made: Any, tmp_path: Path) -> Path:
    """A folder with six photos, two of them in a folder in it, and a text."""
    (tmp_path / "deep").mkdir()
    for number, data in enumerate(made.photos):
        (tmp_path / ("deep" if number > 3 else "") / f"{number}.jpg").write_bytes(data)
    (tmp_path / "notes.txt").write_text("none of a photo")
    return tmp_path


def test_what_paths_stand_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert list(expand_paths(["deep"], [])) == ["deep/4.jpg", "deep/5.jpg"]
    assert list(expand_paths(["*.jpg"], [])) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert list(expand_paths([f"{photos}/**/5.*"], [])) == [f"{photos}/deep/5.jpg"]
    assert list(expand_paths(["notes.txt", "-", "0.jpg"], ["a b.jpg\n", "\n", "c.jpg"])) == [
        "notes.txt",
        "a b.jpg",
        "c.jpg",
        "0.jpg",
    ]
    assert list(expand_paths(["nowhere.jpg", "no*thing"], [])) == ["nowhere.jpg", "no*thing"]
    assert len(list(expand_paths([str(photos)], []))) == 6


def test_a_name_that_looks_like_a_pattern(photos: Path) -> None:
    (photos / "car[1].jpg").write_bytes(b"")
    assert list(expand_paths([f"{photos}/car[1].jpg"], [])) == [f"{photos}/car[1].jpg"]
