from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovsfe.bundle.batch import predict_files, predict_stream
from fovsfe.bundle.predictor import ModelInputs, Prediction, Predictor
from fovsfe.photos.decode import BadPhoto, decode


@pytest.fixture(scope="module")
def predictor(made: Any) -> Predictor:
    return Predictor(made.folder, threads=1)


@pytest.fixture
def photos(made: Any, tmp_path: Path) -> Path:
    """A folder with six photos, two of them in a folder in it, and a text."""
    (tmp_path / "deep").mkdir()
    for index, data in enumerate(made.photos):
        (tmp_path / ("deep" if index > 3 else "") / f"{index}.jpg").write_bytes(data)
    (tmp_path / "notes.txt").write_text("none of a photo")
    return tmp_path


def test_predictions_come_in_order_past_bad_files(predictor: Predictor, photos: Path, made: Any) -> None:
    (photos / "cut.jpg").write_bytes(made.photos[0][:300])
    names = ["1.jpg", "notes.txt", "0.jpg", "nowhere.jpg", "cut.jpg", "deep", "deep/5.jpg", "nul\0.jpg"]
    files = [str(photos / name) for name in names]
    results = dict(predict_files(predictor, files))
    assert list(results) == files
    reasons = {Path(file).name: reason for file, reason in results.items() if isinstance(reason, str)}
    assert reasons["notes.txt"] == "not an image"
    assert reasons["nowhere.jpg"] == "No such file or directory"
    assert reasons["cut.jpg"] == "truncated"
    assert set(reasons) == {"notes.txt", "nowhere.jpg", "cut.jpg", "deep", "nul\0.jpg"}
    wanted = predictor.predict([made.photos[i] for i in (1, 0, 5)])
    given = [prediction for prediction in results.values() if isinstance(prediction, Prediction)]
    for one, other in zip(given, wanted, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_takes_only_a_few_files_ahead(predictor: Predictor, photos: Path) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield str(photos / "0.jpg")

    predictions = predict_files(predictor, endless())
    for _ in range(50):
        next(predictions)
    ahead = taken - 50
    for _ in range(150):
        next(predictions)
    predictions.close()
    assert taken - 200 <= ahead + 8


def test_nothing(predictor: Predictor) -> None:
    assert list(predict_files(predictor, [])) == []
    assert list(predict_stream(predictor, [], predictor.prepare)) == []


def test_encoded_photos_and_arrays(predictor: Predictor, made: Any) -> None:
    wanted = predictor.predict(made.photos)
    mixed = [decode(photo) if index % 2 else photo for index, photo in enumerate(made.photos)]
    predictions = [prediction for _, prediction in predict_stream(predictor, mixed, predictor.prepare)]
    for index, (one, other) in enumerate(zip(predictions, wanted, strict=True)):
        assert isinstance(one, Prediction)
        # JPEGs may be decoded at a reduced scale, arrays are not
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.1 if index % 2 else 1e-6)


def test_a_bad_photo_among_good_ones_is_raised(predictor: Predictor, made: Any) -> None:
    with pytest.raises(BadPhoto, match="not an image"):
        list(predict_stream(predictor, [*made.photos, b"text"], predictor.prepare))


def test_photos_may_be_prepared_by_the_caller(predictor: Predictor, made: Any) -> None:
    def prepare(index: int) -> ModelInputs | str:
        return "skipped" if index == 1 else predictor.prepare(made.photos[index])

    results = list(predict_stream(predictor, range(4), prepare))
    assert [index for index, _ in results] == [0, 1, 2, 3]
    assert results[1][1] == "skipped"
    wanted = predictor.predict([made.photos[3]])[0]
    assert isinstance(results[3][1], Prediction)
    np.testing.assert_allclose(results[3][1].probabilities, wanted.probabilities, atol=1e-6)
