"""arguments: what a person asks of a training."""

from pathlib import Path

import pytest

from fovsfe.arguments import default_location, run_arguments
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
