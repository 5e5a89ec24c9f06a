from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fovsfe.ensemble import predictions
from fovsfe.errors import FovsfeError

# names as folders and files have them: any printable character, also quotes, commas and numbers
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    ids=st.lists(names, min_size=1, max_size=6, unique=True),
    class_names=st.lists(names, min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_what_is_written_is_read_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], class_names: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    values = data.draw(arrays(np.float64, (len(ids), len(class_names)), elements=st.floats(0, 1)))
    predictions.write_predictions(path, predictions.predictions_frame(ids, class_names, values))
    again = predictions.read_predictions(path)
    assert again.index.tolist() == ids
    assert again.columns.tolist() == class_names
    assert (again.to_numpy() == values).all()


@pytest.mark.parametrize("name", ["NA", "null", "nan", "007", "1e5", "True", "id", "a,b", 'q"q', "Приора"])
def test_names_that_look_like_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "test.csv"
    predictions.write_predictions(
        path, predictions.predictions_frame([name, "x"], [name, "y"], np.full((2, 2), 0.5))
    )
    again = predictions.read_predictions(path)
    assert again.index.tolist() == [name, "x"]
    assert again.columns.tolist() == [name, "y"]


def test_the_file_is_columns_id_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    predictions.write_predictions(
        path, predictions.predictions_frame(["9/1.jpg"], ["Нива", "Приора"], np.array([[0.1, 0.9]]))
    )
    assert path.read_text(encoding="utf-8") == "id,Нива,Приора\n9/1.jpg,0.1,0.9\n"


def test_no_rows_is_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    predictions.write_predictions(path, predictions.predictions_frame([], ["a", "b"], np.empty((0, 2))))
    assert predictions.read_predictions(path).shape == (0, 2)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "photo,a\n1,0.5\n",
        "id\n1\n",
        "id,a\n1,much\n",
        "id,a\n1,\n",
        "id,a\n1,0.5\n1,0.5\n",
        "id,a,a\n1,0,1\n",
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(content)
    with pytest.raises(FovsfeError, match=r"test\.csv.*fovsfe resume"):
        predictions.read_predictions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FovsfeError, match=r"none\.csv"):
        predictions.read_predictions(tmp_path / "none.csv")


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        predictions.predictions_frame(["1"], ["a"], np.array([[np.nan]]))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "test.csv"
    predictions.write_predictions(path, predictions.predictions_frame(["1"], ["a"], np.array([[1.0]])))
    before = path.read_bytes()

    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(FovsfeError, match=r"test\.csv: No space left on device"):
        predictions.write_predictions(path, predictions.predictions_frame(["2"], ["a"], np.array([[1.0]])))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("")
    with pytest.raises(FovsfeError, match="cannot write"):
        predictions.write_predictions(
            tmp_path / "no" / "test.csv", predictions.predictions_frame(["2"], ["a"], np.array([[1.0]]))
        )


def test_side_by_side_stacks_members() -> None:
    first = predictions.predictions_frame(["1", "2"], ["a", "b"], np.array([[0.1, 0.9], [0.2, 0.8]]))
    second = predictions.predictions_frame(["1", "2"], ["a", "b"], np.array([[0.3, 0.7], [0.4, 0.6]]))
    stacked = predictions.stack_predictions([first, second])
    assert stacked.shape == (2, 2, 2)
    assert stacked[1, 0, 1] == 0.7


@pytest.mark.parametrize(
    "other",
    [
        predictions.predictions_frame(["2", "1"], ["a", "b"], np.full((2, 2), 0.5)),
        predictions.predictions_frame(["1", "3"], ["a", "b"], np.full((2, 2), 0.5)),
        predictions.predictions_frame(["1"], ["a", "b"], np.full((1, 2), 0.5)),
        predictions.predictions_frame(["1", "2"], ["b", "a"], np.full((2, 2), 0.5)),
        predictions.predictions_frame(["1", "2"], ["a"], np.full((2, 1), 0.5)),
    ],
)
def test_side_by_side_refuses_other_photos_or_labels(other: pd.DataFrame) -> None:
    first = predictions.predictions_frame(["1", "2"], ["a", "b"], np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="table 1"):
        predictions.stack_predictions([first, other])
