"""fovsfe compare."""

import json
import shutil

import numpy as np
import pytest

from fovsfe.ensemble.predictions import predictions_frame, read_predictions, write_predictions
from fovsfe.run import Run


@pytest.fixture
def other(run, tmp_path):
    """A copy of the run that gets one more of the two held-out photos right, or one fewer."""
    copy = Run(shutil.copytree(run, tmp_path / "other"))
    frame = read_predictions(copy.held_out_file)
    probabilities = frame.to_numpy(np.float64, copy=True)
    probabilities[0] = probabilities[0, ::-1]
    write_predictions(
        copy.held_out_file,
        predictions_frame(list(frame.index), list(frame), probabilities),
    )
    return copy.root


def test_two_runs_side_by_side(fovsfe, run, other):
    ended = fovsfe("compare", run, other)
    assert (ended.code, ended.err) == (0, "")
    assert "on 2 photos that both held out" in ended.out
    assert f"first: {run}\nsecond: {other}\n" in ended.out
    assert "McNemar's p 1: could be chance" in ended.out
    comparison = json.loads(fovsfe("compare", run, other, "--json").out)
    assert (comparison["first"], comparison["second"]) == (str(run), str(other))
    assert (comparison["photos"], comparison["p_value"]) == (2, 1.0)
    assert abs(comparison["difference"]) == 0.5
    changed = comparison["wrong_to_right"] + comparison["right_to_wrong"]
    assert [set(change) for change in changed] == [{"id", "label", "first", "second"}]
    (change,) = changed
    assert (
        f"    {change['id']}: {change['label']}; first {change['first']}, second {change['second']}"
        in ended.out
    )


def test_a_bundle_stands_for_the_run_that_it_is_in(fovsfe, run, other):
    assert json.loads(fovsfe("compare", run / "bundle", other / "bundle", "--json").out)["photos"] == 2


def test_what_cannot_be_compared(fovsfe, run, tmp_path):
    ended = fovsfe("compare", run, shutil.copytree(run / "bundle", tmp_path / "bundle"))
    assert ended.code == 1
    assert "name the run" in ended.line
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("arguments.json", "recipe.toml"):
        shutil.copy(run / name, begun)
    ended = fovsfe("compare", run, begun)
    assert ended.code == 1
    assert f"fovsfe resume {begun}" in ended.line
