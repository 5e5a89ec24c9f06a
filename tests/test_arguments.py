"""arguments: what a person asks of a training."""

from pathlib import Path

import pytest

from fovsfe.arguments import default_location, run_arguments, student_arguments
from fovsfe.errors import UsageError


def test_paths_stay_right_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = run_arguments("photos", "weights", 1.5)
    assert (arguments.photos, arguments.weights) == (str(tmp_path / "photos"), str(tmp_path / "weights"))
    assert arguments.minutes == 1.5
    for weights in ("hub", "none"):
        assert run_arguments("memory://photos", weights, None).weights == weights
    assert run_arguments("memory://photos", "hub", None).photos == "memory://photos"


def test_negatives_are_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    assert run_arguments("photos", "hub", None, negatives="other").negatives == str(tmp_path / "other")
    assert run_arguments("photos", "hub", None).negatives is None
    for wrong in ("gone", "memory://other"):
        with pytest.raises(UsageError, match=f"--negatives {wrong}: there is no such folder"):
            run_arguments("photos", "hub", None, negatives=wrong)


@pytest.mark.parametrize(
    ("photos", "recipe", "location"),
    [
        ("cars/", "quick", "runs/cars-quick"),
        ("cars.csv", "my/own.toml", "runs/cars.csv-own"),
        ("memory://bucket/cars", "best", "runs/cars-best"),
    ],
)
def test_where_a_run_goes(photos: str, recipe: str, location: str) -> None:
    assert default_location(photos, recipe) == location


def test_a_student_is_asked_for_as_its_teacher_but_for_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    of_teacher = run_arguments("photos", "weights", 9.0, layout="folders", encoding="cp1251")
    student = student_arguments(of_teacher, "run", None, None, unlabelled="more", alone="memory://alone")
    assert (student.photos, student.layout, student.encoding) == (of_teacher.photos, "folders", "cp1251")
    assert (student.weights, student.minutes) == (str(tmp_path / "weights"), None)
    assert (student.teacher, student.unlabelled) == (str(tmp_path / "run"), str(tmp_path / "more"))
    assert student.alone == "memory://alone"
    assert student_arguments(of_teacher, "run", "none", 2.0).weights == "none"
    assert student_arguments(of_teacher, "run", None, 2.0).unlabelled is None
