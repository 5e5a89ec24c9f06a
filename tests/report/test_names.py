"""Names of labels go through a whole training as they are: every file, and the report, has them as text."""

import csv
import json

from fovsfe.bundle.format import load_bundle
from fovsfe.files import write_text
from fovsfe.report.report import render_report
from fovsfe.run import Run

RECIPE = """
[training]
stages = [0]
head_epochs = 2
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [48, 64]
"""


def header(file):
    with file.open(encoding="utf-8", newline="") as rows:
        return next(csv.reader(rows))


def column(file, name):
    with file.open(encoding="utf-8", newline="") as rows:
        return {row[name] for row in csv.DictReader(rows)}


def test_every_file_has_them_whole(fovsfe, wild, tmp_path):
    photos, names = wild[0].root.parent / "photos", list(wild[1])
    write_text(tmp_path / "recipe.toml", RECIPE)
    run = Run(tmp_path / "run")
    arguments = ("--recipe", tmp_path / "recipe.toml", "--weights", "none", "--out", run.root)
    assert fovsfe("train", photos, *arguments).code == 0
    metrics = json.loads(run.metrics_file.read_text("utf-8"))
    assert metrics["class_names"] == names and list(metrics["selected"]["recall"]) == names
    assert column(run.manifest_file, "label") == set(names)
    for file in (
        run.member_folder(1, "test_resnet") / "out_of_fold.csv",
        run.blend_predictions_file(1, "selected"),
    ):
        assert header(file) == ["id", *names]
    assert list(load_bundle(run.bundle_folder).class_names) == names
    predicted = fovsfe(
        "predict", run.bundle_folder, photos / "train" / "1", "--out", tmp_path / "predictions.csv"
    )
    assert predicted.code == 0 and column(tmp_path / "predictions.csv", "label") <= set(names)
    assert "<script>alert" not in render_report(run)
