"""fovsfe distil: what it asks the pipeline for, and how it fails."""

import json
import shutil

import pytest

from fovsfe import pipeline
from fovsfe.files import read_json
from fovsfe.run import Run


@pytest.fixture
def asked(monkeypatch, run):
    """What the pipeline is asked to train, instead of training it."""
    calls = []

    def train(recipe, arguments, location, screen, process_group):
        calls.append((recipe, arguments, location))
        return Run(run)

    monkeypatch.setattr(pipeline, "train", train)
    return calls


def test_a_student_of_a_run(fovsfe, run, asked, tmp_path):
    out = tmp_path / "student"
    ended = fovsfe(
        *("distil", run, "--student", "test_efficientnet", "--out", out, "--minutes", "3", "--json"),
        *("--set", "training.epochs=7", "--unlabelled", tmp_path, "--alone", run),
    )
    assert ended.code == 0
    ((recipe, arguments, location),) = asked
    assert (recipe.members[0].backbone, recipe.training.epochs) == ("test_efficientnet", 7)
    assert (arguments.teacher, arguments.alone) == (str(run), str(run))
    assert (arguments.minutes, arguments.unlabelled) == (3.0, str(tmp_path))
    assert arguments.photos == read_json(Run(run).arguments_file)["photos"]
    assert location == str(out)
    assert json.loads(ended.out)["run"] == str(out)


def test_the_bundle_in_a_run_stands_for_it(fovsfe, run, asked, tmp_path):
    fovsfe("distil", run / "bundle", "--student", "test_efficientnet", "--out", tmp_path / "student")
    assert asked[0][1].teacher == str(run)


def test_failures_are_one_line(fovsfe, run, tmp_path):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "metrics.json").unlink()
    name = ["--student", "test_efficientnet"]
    for arguments, code, words in [
        ([tmp_path / "nowhere", *name], 1, "nowhere"),
        ([unfinished, *name], 1, "not a complete run"),
        ([run, "--student", "no_such_network"], 1, "no_such_network"),
        ([run, *name, "--recipe", "quick"], 2, "one network"),
        ([run, *name, "--set", "trainig.epochs=3"], 2, '"training"'),
        ([run, *name, "--unlabelled", tmp_path / "gone"], 1, "gone"),
        ([run, *name, "--alone", tmp_path / "gone"], 1, "gone"),
        ([run, *name, "--minutes", "0"], 2, "--minutes 0"),
        ([run, *name, "--weights", tmp_path], 1, "test_efficientnet.safetensors"),
    ]:
        ended = fovsfe("distil", *arguments, "--out", tmp_path / "student")
        assert (ended.code, words in ended.line) == (code, True), ended.err
        assert not (tmp_path / "student").exists()


def test_ctrl_c_says_how_to_resume(fovsfe, run, monkeypatch, tmp_path):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train", interrupt)
    ended = fovsfe("distil", run, "--student", "test_efficientnet", "--out", tmp_path / "student")
    assert f"fovsfe resume {tmp_path / 'student'}" in ended.line
