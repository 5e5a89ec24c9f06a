"""fovsfe train and fovsfe resume: what they ask the pipeline for, and how they fail."""

import json
import os
import shutil
import subprocess
import sys
import webbrowser

import pandas as pd
import pytest

from fovsfe import pipeline
from fovsfe import recipe as recipes
from fovsfe.arguments import run_arguments
from fovsfe.errors import FovsfeError
from fovsfe.files import write_json, write_text
from fovsfe.networks import at_hand
from fovsfe.networks.backbones import light_backbones
from fovsfe.run import Run


def test_failures_are_one_line(fovsfe, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    run, plain = tmp_path / "run", ["--recipe", "demo", "--weights", "none"]
    for arguments, words in [
        (["train", tmp_path / "nowhere", *plain, "--out", run], "nowhere"),
        (["train", tmp_path / "empty", *plain, "--out", run.with_name("run2")], "empty"),
        (["train", photos, "--out", tmp_path / "full", *plain], "is not empty"),
        (["train", photos, "--recipe", "quik", "--out", run], "quik"),
        (["train", photos, "--out", photos / "Нива" / "1.png", *plain], "1.png"),
        (["train", photos, "--out", photos / "Нива" / "1.png" / "run", *plain], "1.png"),
        (["resume", tmp_path / "nowhere"], "is not a run"),
        (["resume", tmp_path / "full"], "is not a run"),
        (["finish", tmp_path / "nowhere"], "is not a run"),
        (["finish", tmp_path / "full"], "is not a run"),
        (["check", tmp_path / "nowhere"], "nowhere"),
        (["check", tmp_path / "empty"], "empty"),
        (["check", photos, "--out", photos / "Нива" / "1.png"], "1.png"),
        (["recipes", "quik"], "quik"),
        (["export", tmp_path / "nowhere", "--out", run], "nowhere"),
        (["predict", tmp_path / "nowhere", photos], "no bundle at"),
        (["serve", tmp_path / "nowhere"], "no bundle at"),
        (["report", tmp_path / "full"], "is not a run"),
        (["runs", tmp_path / "nowhere"], "nowhere"),
        (["compare", tmp_path / "full", tmp_path / "full"], "is not a run"),
    ]:
        ended = fovsfe(*arguments)
        assert ended.code == (2 if words == "quik" else 1), arguments
        assert words in ended.line
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_missing_weights_are_one_line(fovsfe, photos, tmp_path):
    ended = fovsfe(
        "train", photos, "--recipe", "demo", "--weights", tmp_path / "w", "--out", tmp_path / "run"
    )
    assert ended.code == 1
    assert str(tmp_path / "w") in ended.line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "none", "--set", "members.0.backbone=inception_v3"], "it takes size = [299, 299]"),
        (["--weights", "missing"], "missing/test_resnet.safetensors"),
        (["--weights", "hub"], "fovsfe weights test_resnet test_efficientnet --out FOLDER"),
    ],
)
def test_what_cannot_be_trained_leaves_no_run(fovsfe, photos, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(at_hand, "is_reachable", lambda address: False)
    monkeypatch.setattr(at_hand.constants, "HF_HUB_CACHE", str(tmp_path))
    ended = fovsfe("train", photos, "--recipe", "demo", *options, "--out", tmp_path / "run")
    assert ended.code == 1
    assert words in ended.line
    assert not (tmp_path / "run").exists()


@pytest.fixture
def offline(tmp_path):
    """Runs a command without the hub; gives its line, and whether torch was loaded for it."""
    program = (
        "import sys\n"
        "from fovsfe.cli import app\n"
        "from fovsfe.errors import FovsfeError\n"
        "try:\n"
        "    app(sys.argv[1:], standalone_mode=False)\n"
        "except FovsfeError as error:\n"
        "    print(error)\n"
        "print('torch' in sys.modules)\n"
    )

    def run(*arguments):
        ended = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
            check=True,
        )
        return tuple(ended.stdout.splitlines()[-2:])

    return run


@pytest.mark.parametrize(
    ("recipe", "needed"),
    [("auto", light_backbones("permissive")), ("demo", ["test_resnet", "test_efficientnet"])],
)
def test_without_network_a_line_comes_before_torch_is_loaded(photos, tmp_path, offline, recipe, needed):
    line, is_slow = offline("train", photos, "--recipe", recipe, "--out", tmp_path / "run")
    assert line.startswith(f"cannot reach huggingface.co, which has the weights of {', '.join(needed)};")
    assert f"fovsfe weights {' '.join(needed)} --out FOLDER; then here: --weights FOLDER" in line
    assert is_slow == "False"
    assert not (tmp_path / "run").exists()


def begun_run(folder, recipe, trained=()):
    """What a run of the hub's weights has when it is killed."""
    run = Run(folder)
    write_text(run.recipe_file, recipes.to_toml(recipes.load_recipe(recipe)))
    write_json(run.arguments_file, run_arguments("photos", "hub", None).model_dump(mode="json"))
    for name in trained:
        run.fold_folder(1, name, 0).mkdir(parents=True)
    return run.root


@pytest.mark.parametrize(
    ("recipe", "trained", "needed"),
    [
        ("auto", (), light_backbones("permissive")),
        ("demo", (), ["test_resnet", "test_efficientnet"]),
        ("demo", ("test_resnet",), ["test_efficientnet"]),
    ],
)
def test_resume_without_network_says_what_to_do_before_torch_is_loaded(
    tmp_path, offline, recipe, trained, needed
):
    run = begun_run(tmp_path / "run", recipe, trained)
    line, is_slow = offline("resume", run)
    assert f"fovsfe weights {' '.join(needed)} --out FOLDER" in line
    assert is_slow == "False"
    line, is_slow = offline("resume", run, "--weights", tmp_path / "packed")
    assert is_slow == ("True" if recipe == "auto" else "False")
    assert str(tmp_path / "packed") in line or recipe == "auto"


def test_resume_leaves_the_rest_to_the_pipeline(tmp_path, fovsfe, monkeypatch):
    def resume(*_):
        raise FovsfeError("the pipeline")

    monkeypatch.setattr(pipeline, "resume", resume)
    monkeypatch.setattr(at_hand, "is_reachable", lambda address: pytest.fail("asked"))
    monkeypatch.setattr(at_hand.constants, "HF_HUB_CACHE", str(tmp_path))
    all_begun = begun_run(tmp_path / "run", "demo", ("test_resnet", "test_efficientnet"))
    complete = begun_run(tmp_path / "complete", "demo")
    write_json(Run(complete).metrics_file, {})
    for run in (all_begun, complete, tmp_path / "nowhere"):
        assert fovsfe("resume", run).line == "the pipeline"
    assert fovsfe("resume", begun_run(tmp_path / "third", "demo"), "--weights", "none").line == "the pipeline"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("trainig.epochs=3", ['"trainig"', '"training"']),
        ("training.epoch=3", ['"training.epoch"', '"epochs"', "layer_decay"]),
        ("epochs=3", ['"epochs"', '"training.epochs"']),
        ("training.epochs=0", ["training.epochs", "1", "0"]),
        ("training.optimizer=adam", ["training.optimizer", "adamw", "sgd", "adam"]),
        ("members.0.size=[10,10]", ["members.0.size", "32"]),
        ("members.9.seed=1", ["members.9.seed", "0 to 2"]),
        ("ensemble.metric=acc", ["ensemble.metric", "accuracy", "balanced", "logloss"]),
        ("training.epochs", ["training.epochs", "key=value"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(fovsfe, photos, tmp_path, change, words):
    ended = fovsfe("train", photos, "--recipe", "quick", "--set", change, "--out", tmp_path / "run")
    assert ended.code == 2
    for each in words:
        assert each in ended.line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "resume"])
def test_ctrl_c_says_how_to_resume(fovsfe, photos, tmp_path, monkeypatch, command):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, command, interrupt)
    run = tmp_path / "run"
    ended = fovsfe(
        *(["train", photos, "--weights", "none", "--out", run] if command == "train" else ["resume", run])
    )
    assert ended.code == 1
    assert f"fovsfe resume {run}" in ended.line


def test_what_train_asks_the_pipeline_for(fovsfe, photos, tmp_path, monkeypatch):
    calls = []

    def train(settings, arguments, location, screen, cluster, group):
        calls.append((settings, arguments, location, cluster, group))
        raise FovsfeError("enough")

    monkeypatch.setattr(pipeline, "train", train)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    ended = fovsfe(
        "train", "photos", "--set", "training.epochs=3", "--set", "seed=4", "--weights", "w",
        "--minutes", "1.5", "--cluster", "local", "--licence", "any", "--negatives", "other",
        "--fixes", "anna.csv", "--fixes", "boris.csv",
    )  # fmt: skip
    assert ended.line == "enough"
    ((settings, arguments, location, cluster, group),) = calls
    assert arguments.photos == str(photos.resolve())
    assert arguments.weights == str(tmp_path.resolve() / "w")
    assert arguments.minutes == 1.5
    assert arguments.negatives == str(tmp_path.resolve() / "other")
    assert arguments.fixes == tuple(str(tmp_path.resolve() / name) for name in ("anna.csv", "boris.csv"))
    assert settings == recipes.load_recipe("auto", {"training.epochs": 3, "seed": 4, "licence": "any"})
    assert location == "runs/photos-auto"
    assert cluster == "local"
    assert group is None  # no launcher has started this process


def test_what_resume_asks_the_pipeline_for(fovsfe, tmp_path, monkeypatch):
    calls = []

    def resume(location, screen, cluster, group, weights):
        calls.append((location, cluster, group, weights))
        raise FovsfeError("enough")

    monkeypatch.setattr(pipeline, "resume", resume)
    monkeypatch.chdir(tmp_path)
    ended = fovsfe("resume", "s3://bucket/run", "--cluster", "auto")
    assert (ended.code, ended.line) == (1, "enough")
    assert fovsfe("resume", "run", "--weights", "w").code == 1
    assert calls == [
        ("s3://bucket/run", "auto", None, None),
        ("run", None, None, str(tmp_path.resolve() / "w")),
    ]


def test_what_finish_asks_the_pipeline_for(fovsfe, monkeypatch):
    def finish(location, screen):
        assert location == "s3://bucket/run"
        raise FovsfeError("enough")

    monkeypatch.setattr(pipeline, "finish", finish)
    ended = fovsfe("finish", "s3://bucket/run")
    assert (ended.code, ended.line) == (1, "enough")


def test_a_member_whose_weights_may_not_be_sold_is_refused(fovsfe, photos, tmp_path):
    """Before anything is downloaded, and with a line that says how to use it all the same."""
    backbone = "convnextv2_atto.fcmae"
    for suffix in ("safetensors", "json"):
        (tmp_path / f"{backbone}.{suffix}").touch()
    where = ["--weights", tmp_path, "--out", tmp_path / "run"]
    given = ["train", photos, "--recipe", "demo", "--set", f"members.1.backbone={backbone}", *where]
    shutil.copy(tmp_path / f"{backbone}.json", tmp_path / "test_resnet.json")
    shutil.copy(tmp_path / f"{backbone}.json", tmp_path / "test_resnet.safetensors")
    ended = fovsfe(*given)
    assert ended.code == 1
    assert f"{backbone} (cc-by-nc-4.0); to use them all the same: --licence any" in ended.line
    assert not (tmp_path / "run").exists()
    allowed = fovsfe(*given, "--licence", "any")
    assert "no licence" not in allowed.line  # but the files are none
    assert fovsfe(*given, "--licence", "gpl").line == "--licence gpl: it can be permissive, any"


@pytest.mark.parametrize("arguments", [("train", "photos", "--out"), ("resume",), ("finish",), ("report",)])
def test_a_report_that_could_not_be_opened_is_refused_at_the_start(fovsfe, arguments):
    ended = fovsfe(*arguments, "s3://bucket/run", "--open")
    assert ended.code == 2
    assert "s3://bucket/run/report.html" in ended.line


def test_train_ends_with_figures_and_the_next_steps(fovsfe, photos, tiny, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    run = tmp_path / "run"
    ended = fovsfe("train", photos, "--recipe", tiny, "--weights", "none", "--out", run, "--open")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == f"training on {photos} with recipe {tiny}"
    assert "round 1" in ended.out and "test_resnet" in ended.out
    assert any(line.startswith("selected: test_resnet of round 1, accuracy ") for line in lines)
    assert lines[-3:] == [f"run folder: {run}", f"report: {run}/report.html", f"serve it: fovsfe serve {run}"]
    assert opened == [(run.resolve() / "report.html").as_uri()]


def test_resume_of_a_complete_run_as_json(fovsfe, run):
    ended = fovsfe("resume", run, "--json")
    assert ended.code == 0
    outcome = json.loads(ended.out)
    assert outcome["run"] == str(run)
    assert outcome["report"] == f"{run}/report.html"
    assert outcome["bundle"] == f"{run}/bundle"
    assert "submission" not in outcome
    assert outcome["metrics"] == json.loads(Run(run).metrics_file.read_text(encoding="utf-8"))
    assert "run is complete" in ended.err


def test_what_comes_with_the_photos_is_kept(fovsfe, draw, tiny, tmp_path):
    root, seed = tmp_path / "photos", 0
    for part, count in (("Train", 4), ("Valid", 2)):
        for label in "ab":
            for _ in range(count):
                draw(root / part / label / f"{seed}.png", seed)
                seed += 1
    draw(root / "test1" / "1.png", 99)
    (root / "sampleSubmission.csv").write_text("id,b,a\n1,0.5,0.5\n1.png,0.5,0.5\n")
    ended = fovsfe(
        "train",
        root,
        "--recipe",
        tiny,
        "--weights",
        "none",
        "--out",
        tmp_path / "run",
        "--set",
        "split.folds=3",
    )
    assert ended.code == 0, ended.err
    assert "photos: 12 labelled photos of 2 labels, 1 test photo; layout: parts (Train/ is train" in ended.out
    run = Run(tmp_path / "run")
    assert recipes.load_recipe(str(run.recipe_file)).split.folds == 0
    table = pd.read_csv(run.manifest_file)
    held = table["path"][table["fold"] == 0]
    assert len(held) == 4 and all(path.startswith("Valid/") for path in held)
    submission = pd.read_csv(run.submission_file, dtype={"id": str})
    assert list(submission.columns) == ["id", "b", "a"] and submission["id"].tolist() == ["1", "1.png"]
    assert (submission["a"] + submission["b"] - 1).abs().max() < 1e-6
    assert submission["a"].nunique() == 1


def test_the_metric_is_that_of_the_recipe_or_of_the_option(fovsfe, photos, tmp_path, monkeypatch):
    asked = []

    def train(recipe, *_):
        asked.append(recipe.ensemble.metric)
        raise FovsfeError("enough")

    monkeypatch.setattr(pipeline, "train", train)
    for options in ([], ["--metric", "balanced"], ["--set", "ensemble.metric=f1"]):
        fovsfe("train", photos, "--weights", "none", *options, "--out", tmp_path / "run")
    assert asked == ["accuracy", "balanced", "f1"]
    ended = fovsfe("train", photos, "--metric", "mean", "--out", tmp_path / "run")
    assert ended.code == 2
    assert "ensemble.metric" in ended.line and "logloss" in ended.line
