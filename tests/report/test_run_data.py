"""report.reading: what is there of a run, whenever one looks."""

import json
import shutil

import numpy as np
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.report.run_data import read_run_data
from fovsfe.run import Run


@pytest.fixture
def folded(finish, tmp_path):
    return finish(tmp_path, ("a", "b", "c"), each=9, folds=3, rounds=1)


def test_members_are_put_together_from_the_folds_that_are_done(folded):
    whole = read_run_data(folded).rounds[0].members["second"]
    folded.metrics.unlink()
    (folded.member(1, "second") / "out_of_fold.csv").unlink()
    (folded.fold(1, "second", 1) / "result.json").unlink()  # as if it were still under way
    story = read_run_data(folded)
    part = story.rounds[0].members["second"]
    assert (story.table["fold"].iloc[part.rows] != 1).all() and len(part.rows) == 18
    here = np.isin(whole.rows, part.rows)
    np.testing.assert_allclose(part.probabilities, whole.probabilities[here], atol=1e-6)
    np.testing.assert_array_equal(part.y_true, whole.y_true[here])


def test_a_network_under_way_is_read_from_the_log(folded):
    history = folded.fold(1, "second", 2) / "history.csv"
    history.unlink()
    name = "second, round 1, fold 2"
    for epoch, loss in ((0, 3.0), (1, 2.0), (1, 1.5)):  # the last one again, after a crash
        folded.log("epoch", network=name, stage=0.0, epoch=epoch, loss=loss, log_loss=loss, accuracy=0.5)
    with (folded.root / "log.jsonl").open("a") as file:
        file.write('{"event": "epo')  # killed in mid-line
    curve = read_run_data(folded).rounds[0].curves["second"][2]
    assert curve.kept is None and curve.epochs["log_loss"].tolist() == [3.0, 1.5]
    assert read_run_data(folded).rounds[0].curves["second"][1].kept == 1


def test_no_run_is_told_so(tmp_path):
    with pytest.raises(FovsfeError, match="is not a run"):
        read_run_data(Run(tmp_path))


def test_answers_for_other_photos_are_refused(folded):
    lines = folded.photos.read_text("utf-8").splitlines()
    folded.photos.write_text("\n".join(lines[:-1]) + "\n", "utf-8")
    with pytest.raises(FovsfeError, match="photos"):
        read_run_data(folded)


def test_a_damaged_file_is_named(folded):
    folded.metrics.write_text(json.dumps({})[:1])
    with pytest.raises(FovsfeError, match=r"metrics\.json"):
        read_run_data(folded)


def test_photos_that_have_gone_leave_the_figures(folded):
    before = read_run_data(folded).rounds[0].members
    shutil.rmtree(read_run_data(folded).photos)
    assert list(read_run_data(folded).rounds[0].members) == list(before)
