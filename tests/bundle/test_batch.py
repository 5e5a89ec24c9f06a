from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovsfe.bundle.batch import expand_paths, predict_files
from fovsfe.bundle.predictor import Prediction, Predictor


@pytest.fixture(scope="module")
def predictor(made: Any) -> Predictor:
    return Predictor(made.folder, threads=1)


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


def test_answers_in_order_past_bad_files(predictor: Predictor, photos: Path, made: Any) -> None:
    (photos / "cut.jpg").write_bytes(made.photos[0][:300])
    names = ["1.jpg", "notes.txt", "0.jpg", "nowhere.jpg", "cut.jpg", "deep", "deep/5.jpg", "nul\0.jpg"]
    files = [str(photos / name) for name in names]
    told = dict(predict_files(predictor, files))
    assert list(told) == files
    reasons = {Path(file).name: said for file, said in told.items() if isinstance(said, str)}
    assert reasons["notes.txt"] == "not an image"
    assert reasons["nowhere.jpg"] == "No such file or directory"
    assert reasons["cut.jpg"] == "truncated"
    assert set(reasons) == {"notes.txt", "nowhere.jpg", "cut.jpg", "deep", "nul\0.jpg"}
    wanted = predictor.predict([made.photos[i] for i in (1, 0, 5)])
    given = [said for said in told.values() if isinstance(said, Prediction)]
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_takes_only_a_few_files_ahead(predictor: Predictor, photos: Path) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield str(photos / "0.jpg")

    answers = predict_files(predictor, endless())
    for _ in range(50):
        next(answers)
    ahead = taken - 50
    for _ in range(150):
        next(answers)
    answers.close()
    assert taken - 200 <= ahead + 8


def test_nothing(predictor: Predictor) -> None:
    assert list(predict_files(predictor, [])) == []
