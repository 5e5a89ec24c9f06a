"""cli.run_list: the runs below a folder or URL, with their facts."""

import json
import shutil

import pytest
import s3fs

from fovsfe.cli.run_list import list_runs
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.recipe import load_recipe, to_toml
from fovsfe.run import Run


def test_the_facts_of_a_complete_run(run):
    (facts,) = list_runs(str(run))
    metrics = read_json(Run(run).metrics_file)
    assert (facts.run, facts.state, facts.recipe, facts.photos) == (str(run), "complete", "custom", 8)
    assert facts.accuracy == metrics["selected"]["accuracy"]
    assert facts.interval == tuple(metrics["selected"]["interval"])
    assert facts.minutes == pytest.approx(Run(run).stopwatch.seconds / 60, abs=0.01)
    started = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["time"]
    assert facts.date is not None and facts.date.isoformat(timespec="milliseconds") == started


def test_runs_are_found_at_any_depth_the_latest_first(run, tmp_path):
    for name, time in [("a/b/old", "2026-01-01"), ("new", "2026-03-01"), (".hidden", "2026-02-01")]:
        copy = shutil.copytree(run, tmp_path / name)
        (copy / "log.jsonl").write_text(json.dumps({"time": f"{time}T00:00:00+00:00"}) + "\n")
    (tmp_path / "photos").mkdir()
    assert [facts.run for facts in list_runs(str(tmp_path))] == [f"{tmp_path}/new", f"{tmp_path}/a/b/old"]


def test_a_builtin_recipe_is_named(run, tmp_path):
    copy = Run(shutil.copytree(run, tmp_path / "copy"))
    copy.recipe_file.write_text(to_toml(load_recipe("quick")), encoding="utf-8")
    assert [facts.recipe for facts in list_runs(str(copy.root))] == ["quick"]


def test_an_unfinished_and_a_damaged_run(run, tmp_path):
    begun = Run(tmp_path / "begun")
    begun.root.mkdir()
    shutil.copy(run / "arguments.json", begun.arguments_file)
    shutil.copy(run / "recipe.toml", begun.recipe_file)
    (facts,) = list_runs(str(tmp_path))
    assert (facts.state, facts.photos, facts.accuracy, facts.date, facts.minutes) == (
        "unfinished",
        0,
        None,
        None,
        0,
    )
    begun.metrics_file.write_text("{")
    (facts,) = list_runs(str(tmp_path))
    assert facts.state == "damaged"


def test_runs_in_a_bucket(run, bucket):
    s3fs.S3FileSystem().put(str(run), f"{bucket}/runs/one", recursive=True)
    (there,), (here,) = list_runs(bucket), list_runs(str(run))
    assert there == here.model_copy(update={"run": f"{bucket}/runs/one"})


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FovsfeError, match="nowhere is not a folder"):
        list_runs(str(tmp_path / "nowhere"))
