"""run: every path of a run is its own, and the log grows line by line."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.run import Run

FULL = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def test_every_path_of_a_run_is_its_own_and_inside(tmp_path):
    here = Run(tmp_path)
    properties = [
        name for name, kind in vars(Run).items() if isinstance(kind, property) and name != "stopwatch"
    ]
    paths = [getattr(here, name) for name in properties]
    paths += [here.named_submission_file("mean-a+b"), here.stopwatch.path]
    paths += [
        here.fold_folder(round_index, name, fold)
        for round_index in (1, 2)
        for name in "ab"
        for fold in (0, 1)
    ]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert path.is_relative_to(tmp_path)
        assert path != tmp_path


def test_a_fold_lies_in_its_member_and_the_member_in_its_round(tmp_path):
    here = Run(tmp_path)
    assert here.fold_folder(2, "a", 3).parent == here.member_folder(2, "a")
    assert here.member_folder(2, "a").parent == here.round_folder(2)


def test_the_log_grows_by_a_line_an_event(tmp_path):
    here = Run(tmp_path)
    here.log("start", photos=3)
    here.log("label", name="Жигули\nнива")
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, lines)
    assert (first["event"], first["photos"]) == ("start", 3)
    assert second["name"] == "Жигули\nнива"
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


def test_a_log_without_a_folder_is_told(tmp_path):
    with pytest.raises(FovsfeError, match=r"cannot write .*log\.jsonl"):
        Run(tmp_path / "missing").log("start")


@needs_full_device
def test_a_log_on_a_full_disk_is_told(tmp_path):
    (tmp_path / "log.jsonl").symlink_to(FULL)
    with pytest.raises(FovsfeError, match="No space left on device"):
        Run(tmp_path).log("start")


def test_before_the_first_step_there_are_no_seconds(tmp_path):
    assert Run(tmp_path).stopwatch.read() == {}
