"""fovsfe report, fovsfe export and fovsfe runs."""

import json
import re
import shutil
import webbrowser
from datetime import datetime

from fovsfe.bundle import format
from fovsfe.bundle.predictor import Predictor
from fovsfe.cli import runs as cli_runs


def test_export_prints_the_parity(fovsfe, run, tmp_path):
    (tmp_path / "names.toml").write_text('[en]\n"Нива" = "Niva"\n', encoding="utf-8")
    ended = fovsfe(
        "export", run, "--out", tmp_path / "bundle", "--member", "test_resnet",
        "--translations", tmp_path / "names.toml",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    first, second = ended.out.splitlines()
    assert first.startswith(f"bundle {tmp_path / 'bundle'}: test_resnet, networks: 1, ")
    assert re.fullmatch(
        r"parity on 2 held-out photos: .* at most \d.\de-\d\d, the same label for 100.0%", second
    )
    assert Predictor(tmp_path / "bundle").bundle.translations == {"en": {"Нива": "Niva"}}


def test_exported_photos_are_said_to_be_public(fovsfe, run, tmp_path):
    ended = fovsfe("export", run, "--out", tmp_path / "bundle", "--examples", "1")
    assert ended.code == 0, ended.err
    paths = Predictor(tmp_path / "bundle").bundle.example_paths
    photos = f"{len(paths)} held-out photo{'s' if len(paths) > 1 else ''}"
    assert paths and f"{photos} in it: public as soon as the page is" in ended.out
    for count in ("11", "-1", "many"):
        refused = fovsfe("export", run, "--out", tmp_path / "bundle", "--examples", count)
        assert refused.code == 2 and "--examples" in refused.line
    assert cli_runs.MAX_EXAMPLES == format.MAX_EXAMPLES


def test_export_takes_the_bundle_in_a_run_for_the_run(fovsfe, run, tmp_path):
    ended = fovsfe("export", run / "bundle", "--out", tmp_path / "bundle")
    assert ended.code == 0, ended.err
    assert Predictor(tmp_path / "bundle").bundle.class_names == ("Нива", "Приора")
    ended = fovsfe("export", tmp_path / "bundle", "--out", tmp_path / "other")
    assert ended.code == 1
    assert "name the run" in ended.line


def test_report_is_written_and_opened(fovsfe, run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "report.html").unlink()
    ended = fovsfe("report", copy, "--open")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"report: {copy}/report.html\n"
    assert "<html" in (copy / "report.html").read_text(encoding="utf-8")
    assert opened == [(copy / "report.html").as_uri()]


def test_runs_are_listed_with_their_figures(fovsfe, run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "runs" / "complete")
    shutil.copytree(run, tmp_path / "runs" / "stopped", ignore=shutil.ignore_patterns("metrics.json"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")  # no figure is cut off
    ended = fovsfe("runs")
    assert (ended.code, ended.err) == (0, "")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    low, high = metrics["selected"]["interval"]
    (complete,) = [line for line in ended.out.splitlines() if "runs/complete" in line]
    assert f"{metrics['selected']['accuracy']:.3f}" in complete
    assert f"({low:.3f} - {high:.3f})" in complete
    (stopped,) = [line for line in ended.out.splitlines() if "runs/stopped" in line]
    assert "unfinished" in stopped
    rows = json.loads(fovsfe("runs", "runs", "--json").out)
    assert {row["run"]: row["accuracy"] for row in rows} == {
        "runs/complete": metrics["selected"]["accuracy"],
        "runs/stopped": None,
    }
    assert all(datetime.fromisoformat(row["date"]) for row in rows)


def test_no_runs(fovsfe, tmp_path):
    assert fovsfe("runs", tmp_path).out == f"no runs in {tmp_path}; start one with fovsfe train\n"
    assert json.loads(fovsfe("runs", tmp_path, "--json").out) == []
