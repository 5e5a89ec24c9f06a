"""arguments: what a person asks of a training."""

from pathlib import Path

import pytest

from fovsfe.arguments import default_location, run_arguments


def test_paths_stay_right_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = run_arguments("photos", "weights", 1.5)
    assert (arguments.photos, arguments.weights) == (str(tmp_path / "photos"), str(tmp_path / "weights"))
    assert arguments.minutes == 1.5
    for weights in ("hub", "none"):
        assert run_arguments("memory://photos", weights, None).weights == weights
    assert run_arguments("memory://photos", "hub", None).photos == "memory://photos"


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
