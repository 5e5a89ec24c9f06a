from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.ensemble import submission

LABELS = ["Нива", "Приора"]
LABEL_IDS = {"Нива": "7", "Приора": "0"}


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_the_sample_gives_rows_order_and_column_names(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    sample = pd.DataFrame({"File": ["2.jpg", "9.jpg", "1.jpg"], "Class": ["0", "0", "0"]}, dtype=object)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    filled = submission.write_submission(
        path, sample, ["1.jpg", "2.jpg", "extra.jpg"], probabilities, LABELS, LABEL_IDS, "Нива"
    )
    assert path.read_text() == "File,Class\n2.jpg,0\n9.jpg,7\n1.jpg,7\n"
    assert filled == ["9.jpg"]
    assert sample["Class"].tolist() == ["0", "0", "0"]


def test_a_row_of_nan_is_a_photo_without_a_prediction(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    probabilities = np.array([[0.9, 0.1], [np.nan, np.nan]])
    filled = submission.write_submission(
        path, None, ["1.jpg", "2.jpg"], probabilities, LABELS, LABEL_IDS, "Приора"
    )
    assert path.read_text() == "Id,Category\n1.jpg,7\n2.jpg,0\n"
    assert filled == ["2.jpg"]


def test_other_columns_of_the_sample_stay(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    sample = pd.DataFrame({"Id": ["1"], "Category": ["0"], "Usage": ["Public"]}, dtype=object)
    submission.write_submission(path, sample, ["1"], np.array([[1.0, 0.0]]), LABELS, LABEL_IDS, "Приора")
    assert path.read_text() == "Id,Category,Usage\n1,7,Public\n"


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        submission.write_submission(
            tmp_path / "s.csv", None, ["1"], np.ones((2, 2)), LABELS, LABEL_IDS, "Нива"
        )


@settings(deadline=None)
@given(
    asked=st.lists(st.integers(0, 20), max_size=15),
    predicted=st.lists(st.integers(0, 20), max_size=15, unique=True),
    seed=st.integers(0, 99),
)
def test_every_row_is_there_once_and_filled(
    tmp_path_factory: pytest.TempPathFactory, asked: list[int], predicted: list[int], seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "submission.csv"
    ids = [f"{i}.jpg" for i in predicted]
    probabilities = np.random.default_rng(seed).dirichlet([1, 1], size=len(ids))
    sample = pd.DataFrame({"Id": [f"{i}.jpg" for i in asked], "Category": "0"}, dtype=object)
    filled = submission.write_submission(path, sample, ids, probabilities, LABELS, LABEL_IDS, "Нива")
    written = read(path)
    assert written["Id"].tolist() == sample["Id"].tolist()
    assert set(filled) == set(sample["Id"]) - set(ids)
    for photo, category in zip(written["Id"], written["Category"], strict=True):
        known = photo in ids
        answer = LABELS[int(probabilities[ids.index(photo)].argmax())] if known else "Нива"
        assert category == LABEL_IDS[answer]


def test_a_column_for_each_label_gets_its_probability(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    sample = pd.DataFrame(
        {"img": ["2.jpg", "9.jpg", "1"], "0": ["0.1"] * 3, "7": ["0.1"] * 3, "other": ["0.1"] * 3},
        dtype=object,
    )
    probabilities = np.array([[0.75, 0.25], [0.125, 0.875]])
    filled = submission.write_submission(
        path, sample, ["1.jpg", "2.jpg"], probabilities, LABELS, LABEL_IDS, "Нива"
    )
    assert path.read_text() == "img,0,7,other\n2.jpg,0.875,0.125,0.0\n9.jpg,0.5,0.5,0.0\n1,0.25,0.75,0.0\n"
    assert filled == ["9.jpg"]


def test_every_spelling_of_a_photo_gets_its_row(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    names = ["1", "1.jpg", "test/1.JPG", "2.jpg"]
    sample = pd.DataFrame({"Id": names, "Category": "x"}, dtype=object)
    filled = submission.write_submission(
        path, sample, ["1", "2.jpg"], np.array([[0.9, 0.1], [0.1, 0.9]]), LABELS, LABEL_IDS, "Приора"
    )
    assert read(path)["Category"].tolist() == ["7", "7", "7", "0"]
    assert filled == []
