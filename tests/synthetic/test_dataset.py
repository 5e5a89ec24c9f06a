import csv
import hashlib
import io
import os
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from fovsfe.errors import FovsfeError
from fovsfe.synthetic import cars, dataset


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


Drawing = tuple[Path, dict[str, str], list[tuple[int, int]]]


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    progress: list[tuple[int, int]] = []
    labels = dataset.draw_dataset(
        folder, per_label=4, test=15, seed=7, progress=lambda done, total: progress.append((done, total))
    )
    return folder, labels, progress


def test_every_label_has_an_english_name() -> None:
    english = dataset.TRANSLATIONS["en"]
    assert tuple(english) == dataset.CLASS_NAMES
    assert all(name.isascii() for name in english.values())
    assert len(set(english.values())) == len(english)


def test_layout_is_the_competitions(drawing: Drawing) -> None:
    folder, labels, progress = drawing
    assert sorted(path.name for path in folder.iterdir()) == [
        "classes.csv", "sample-submission.csv", "test_upload", "train", "train.csv",
    ]  # fmt: skip
    assert rows(folder / "classes.csv") == [
        ["Category", "Name"],
        *([str(i), name] for i, name in enumerate(dataset.CLASS_NAMES)),
    ]
    train = {path.name: path.parent.name for path in folder.glob("train/*/*.jpg")}
    assert {path.parent.name for path in folder.glob("train/*/*.jpg")} == {str(label) for label in range(10)}
    header, *labelled = rows(folder / "train.csv")
    assert header == ["Id", "Category"] and dict(labelled) == train and len(train) == 40
    header, *sample = rows(folder / "sample-submission.csv")
    assert header == ["Id", "Category"] and {category for _, category in sample} == {"0"}
    assert [name for name, _ in sample] == list(labels)
    assert {path.name for path in folder.glob("test_upload/*.jpg")} == set(labels) and len(labels) == 15
    assert not set(labels) & set(train)
    assert progress[-1] == (55, 55)


def test_models_are_the_competitions() -> None:
    assert dataset.CLASS_NAMES == (
        "Приора", "Ford Focus", "Самара", "ВАЗ-2110", "Жигули", "Нива", "Калина", "ВАЗ-2109",
        "Volkswagen Passat", "ВАЗ-21099",
    )  # fmt: skip


def test_test_labels_are_balanced_and_not_in_the_order_of_the_ids(drawing: Drawing) -> None:
    _, labels, _ = drawing
    assert set(labels.values()) == set(dataset.CLASS_NAMES)
    assert list(labels.values()) != sorted(labels.values(), key=dataset.CLASS_NAMES.index)


def test_same_seed_same_bytes_on_any_number_of_processes(
    drawing: Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, labels, _ = drawing
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert dataset.draw_dataset(tmp_path / "again", per_label=4, test=15, seed=7) == labels
    assert hashes(tmp_path / "again") == hashes(folder)
    dataset.draw_dataset(tmp_path / "other", per_label=1, test=0, seed=8)
    assert not set(hashes(tmp_path / "other").values()) & {
        value for name, value in hashes(folder).items() if "/" in name
    }


def test_photos_are_all_different(drawing: Drawing) -> None:
    folder, _, _ = drawing
    photos = [value for name, value in hashes(folder).items() if name.endswith(".jpg")]
    assert len(set(photos)) == len(photos) == 55


@pytest.mark.parametrize("model", cars.MODELS, ids=lambda model: model.name)
def test_photos_open_at_the_sizes_of_a_camera(model: cars.CarModel) -> None:
    for key in range(12):
        image = Image.open(io.BytesIO(dataset.draw_photo(model, Random(key))))
        image.load()
        assert image.format == "JPEG" and image.mode == "RGB" and image.size in dataset.PHOTO_SIZES


@pytest.mark.parametrize("view", dataset.CAMERA_YAWS, ids=str)
def test_2109_and_21099_are_one_car_from_the_front_only(
    view: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "CAMERA_YAWS", (view,))
    models = {model.name: model for model in cars.MODELS}
    hatchback, saloon = models["ВАЗ-2109"], models["ВАЗ-21099"]
    same = [
        dataset.draw_photo(hatchback, Random(key)) == dataset.draw_photo(saloon, Random(key))
        for key in range(30)
    ]
    assert all(same) if view[0] == 0 else not any(same)


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FovsfeError, match="new or empty folder"):
        dataset.draw_dataset(tmp_path, per_label=1, test=0, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    dataset.draw_dataset(tmp_path / "photos", per_label=1, test=1, seed=0)
    assert len(list(tmp_path.glob("photos/*/*.jpg")) + list(tmp_path.glob("photos/*/*/*.jpg"))) == 11


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.draw_dataset(tmp_path / "photos", per_label=10, test=0, seed=0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
