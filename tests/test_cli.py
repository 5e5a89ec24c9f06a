"""cli: exit codes, one line where something fails, and what each command prints."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe import pipeline
from fovsfe import recipe as recipes
from fovsfe.bundle.predictor import Predictor
from fovsfe.cli import app
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import load_photo

COMMANDS = sorted(
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback
)


def photo(path, seed):
    """Coloured clouds, unlike those of any other seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path):
    """Class folders without a fault."""
    for number in range(8):
        photo(tmp_path / "photos" / ("Приора", "Нива")[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


# ---- help and wrong usage


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(fovsfe, command):
    ended = fovsfe(command, "--help")
    assert ended.code == 0
    assert f"fovsfe {command}" in ended.out.split("Example")[1]


def test_help_names_every_command(fovsfe):
    ended = fovsfe("--help")
    assert ended.code == 0
    assert {"train", "resume", "check", "export", "predict", "recipes", "demo"} <= set(COMMANDS)
    assert all(command in ended.out for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["resume"],
        ["check"],
        ["train", "photos", "--epochs", "3"],
        ["train", "photos", "--minutes", "0"],
        ["train", "photos", "--minutes", "many"],
        ["train", "photos", "--devices", "0"],
        ["recipes", "quick", "twas"],
        ["export", "run"],
        ["predict", "bundle"],
        ["predict", "bundle", "photos", "--top", "0"],
    ],
)
def test_wrong_usage(fovsfe, arguments):
    ended = fovsfe(*arguments)
    assert ended.code == 2
    assert "Usage" in ended.err
    assert "Traceback" not in ended.err


# ---- what fails


def test_failures_are_one_line(fovsfe, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    run = tmp_path / "run"
    for arguments, told in [
        (["train", tmp_path / "nowhere", "--out", run], "nowhere"),
        (["train", tmp_path / "empty", "--out", run.with_name("run2")], "empty"),
        (["train", photos, "--out", tmp_path / "full"], "is not empty"),
        (["train", photos, "--recipe", "quik", "--out", run], "quik"),
        (["train", photos, "--out", photos / "Нива" / "1.png"], "1.png"),
        (["train", photos, "--out", photos / "Нива" / "1.png" / "run"], "1.png"),
        (["resume", tmp_path / "nowhere"], "is not a run"),
        (["resume", tmp_path / "full"], "is not a run"),
        (["check", tmp_path / "nowhere"], "nowhere"),
        (["check", tmp_path / "empty"], "empty"),
        (["check", photos, "--out", photos / "Нива" / "1.png"], "1.png"),
        (["recipes", "quik"], "quik"),
        (["export", tmp_path / "nowhere", "--out", run], "is no finished run"),
        (["predict", tmp_path / "nowhere", photos], "no bundle at"),
    ]:
        ended = fovsfe(*arguments)
        assert ended.code == (2 if told == "quik" else 1), arguments
        assert told in ended.line
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_missing_weights_are_one_line(fovsfe, photos, tmp_path):
    ended = fovsfe(
        "train", photos, "--recipe", "demo", "--weights", tmp_path / "w", "--out", tmp_path / "run"
    )
    assert ended.code == 1
    assert str(tmp_path / "w") in ended.line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("trainig.epochs=3", ['"trainig"', '"training"']),
        ("training.epoch=3", ['"training.epoch"', '"epochs"', "layer_decay"]),
        ("epochs=3", ['"epochs"', '"training.epochs"']),
        ("training.epochs=0", ["training.epochs", "1", "given: 0"]),
        ("training.optimizer=adam", ["training.optimizer", "adamw", "sgd", "adam"]),
        ("members.0.size=[10,10]", ["members.0.size", "32"]),
        ("members.9.seed=1", ["members.9.seed", "0 to 2"]),
        ("training.epochs", ["training.epochs", "key=value"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(fovsfe, photos, tmp_path, change, told):
    ended = fovsfe("train", photos, "--set", change, "--out", tmp_path / "run")
    assert ended.code == 2
    for words in told:
        assert words in ended.line
    assert not (tmp_path / "run").exists()


def test_debug_shows_where(fovsfe, tmp_path):
    with pytest.raises(FovsfeError, match="nowhere"):
        fovsfe("--debug", "check", tmp_path / "nowhere")


def test_ctrl_c_says_how_to_go_on(fovsfe, photos, tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "start", stopped)
    ended = fovsfe("train", photos, "--out", tmp_path / "run")
    assert ended.code == 1
    assert f"fovsfe resume {tmp_path / 'run'}" in ended.line


def test_what_train_asks_for(fovsfe, photos, tmp_path, monkeypatch):
    asked = []

    def start(command, settings, folder, screen, machines):
        asked.append((command, settings, folder))
        raise FovsfeError("enough")

    monkeypatch.setattr(pipeline, "start", start)
    monkeypatch.chdir(tmp_path)
    ended = fovsfe(
        "train", "photos", "--set", "training.epochs=3", "--set", "seed=4", "--weights", "w",
        "--minutes", "1.5", "--devices", "2",
    )  # fmt: skip
    assert ended.line == "enough"
    (command, settings, folder), *_ = asked
    assert command.photos == str(photos.resolve())
    assert command.weights == str(tmp_path.resolve() / "w")
    assert (command.minutes, command.devices) == (1.5, 2)
    assert settings == recipes.load_recipe("quick", ["training.epochs=3", "seed=4"])
    assert folder.as_posix() == "runs/photos-quick"


# ---- check


def findings(folder):
    """kind -> the photos of each finding."""
    every: dict[str, list[set[str]]] = {}
    for finding in json.loads((folder / "audit.json").read_text()):
        every.setdefault(finding["kind"], []).append(set(finding["ids"]))
    return every


def test_check_of_photos_without_a_fault(fovsfe, photos, tmp_path):
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    assert ended.code == 0
    assert "class folders, 8 labelled photos of 2 labels, 0 test photos" in ended.out
    table = pd.read_csv(tmp_path / "audit" / "photos.csv", keep_default_na=False)
    assert len(table) == 8
    assert (table["fault"] == "").all()
    assert set(findings(tmp_path / "audit")) == {"class balance"}


def test_check_names_one_photo_under_two_labels(fovsfe, photos, tmp_path):
    shutil.copy(photos / "Приора" / "0.png", photos / "Нива" / "копия.png")
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    assert ended.code == 1
    assert "two labels" in ended.out
    assert ended.err == ""
    lines = [line.strip() for line in ended.out.splitlines()]
    assert "Приора/0.png" in lines
    assert "Нива/копия.png" in lines
    assert findings(tmp_path / "audit")["two labels"] == [{"Приора/0.png", "Нива/копия.png"}]


def test_check_names_a_labelled_photo_in_the_test_part(fovsfe, tmp_path):
    root = tmp_path / "photos"
    for number in range(6):
        photo(root / "train" / str(number % 2) / f"{number}.png", number)
    photo(root / "test_upload" / "20.png", 20)
    shutil.copy(root / "train" / "1" / "3.png", root / "test_upload" / "21.png")
    (root / "sample-submission.csv").write_text("Id,Category\n20.png,0\n21.png,0\n")
    ended = fovsfe("check", root, "--out", tmp_path / "audit")
    assert ended.code == 1
    assert findings(tmp_path / "audit")["in both parts"] == [{"1/3.png", "21.png"}]


def test_check_names_each_broken_photo_with_its_reason(fovsfe, photos, tmp_path):
    good = (photos / "Нива" / "1.png").read_bytes()
    (photos / "Нива" / "empty.jpg").write_bytes(b"")
    (photos / "Нива" / "text.jpg").write_text("just words, and more words")
    (photos / "Нива" / "short.png").write_bytes(good[: len(good) // 2])
    (photos / "Нива" / "[bold] :car: é.png").write_bytes(good[:100])
    ended = fovsfe("check", photos, "--out", tmp_path / "audit")
    table = pd.read_csv(tmp_path / "audit" / "photos.csv", keep_default_na=False).set_index("id")
    assert {photo for photo in table.index if table["fault"][photo]} == {
        "Нива/empty.jpg",
        "Нива/text.jpg",
        "Нива/short.png",
        "Нива/[bold] :car: é.png",
    }
    assert table["fault"]["Нива/short.png"] == "truncated"
    lines = [line.strip() for line in ended.out.splitlines()]
    for photo_id, reason in table["fault"][table["fault"] != ""].items():
        assert photo_id in lines
        assert any(line.startswith("error: unreadable: ") and reason in line for line in lines)
    assert ended.code == 1


def test_a_copy_under_the_same_label_is_no_error(fovsfe, photos):
    shutil.copy(photos / "Нива" / "1.png", photos / "Нива" / "copy.png")
    ended = fovsfe("check", photos)
    assert ended.code == 0
    assert "exact duplicates" in ended.out


# ---- export and predict


TINY = """
[training]
stages = [0]
head_epochs = 1
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [48, 64]
"""


@pytest.fixture
def run(fovsfe, photos, tmp_path):
    """The folder of a run, hardly trained."""
    (tmp_path / "tiny.toml").write_text(TINY)
    folder = tmp_path / "run"
    ended = fovsfe("train", photos, "--recipe", tmp_path / "tiny.toml", "--weights", "none", "--out", folder)
    assert ended.code == 0, ended.err
    return folder


def test_export_prints_its_proof(fovsfe, run, tmp_path):
    (tmp_path / "names.toml").write_text('[en]\n"Нива" = "Niva"\n', encoding="utf-8")
    ended = fovsfe(
        "export", run, "--out", tmp_path / "bundle", "--member", "test_resnet",
        "--translations", tmp_path / "names.toml",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    first, second = ended.out.splitlines()
    assert first.startswith(f"bundle {tmp_path / 'bundle'}: test_resnet, networks: 1, ")
    assert re.fullmatch(
        r"proved on 2 held-out photos: .* at most \d.\de-\d\d, the same label for 100.0%", second
    )
    assert Predictor(tmp_path / "bundle").bundle.translations == {"en": {"Нива": "Niva"}}


def test_predict_says_what_the_bundle_says(fovsfe, run, photos, tmp_path, monkeypatch):
    fovsfe("export", run, "--out", tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    names = sorted(f"photos/{p.relative_to(photos)}" for p in photos.rglob("*.png"))
    ended = fovsfe("predict", "bundle", "photos", "--top", 2)
    assert ended.code == 0 and ended.err == ""
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["photo"] for row in rows] == names
    predictor = Predictor(tmp_path / "bundle")
    for row, answer in zip(rows, predictor.predict([Path(n).read_bytes() for n in names]), strict=True):
        likeliest = int(answer.probabilities.argmax())
        assert row["label"] == predictor.bundle.class_names[likeliest]
        assert float(row["probability"]) == pytest.approx(answer.probabilities[likeliest], abs=1e-5)
        assert float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1, abs=1e-5)


def test_predict_goes_past_bad_files_and_on_where_it_stopped(fovsfe, run, photos, tmp_path, monkeypatch):
    fovsfe("export", run, "--out", tmp_path / "bundle")
    (photos / "Нива" / "[red]bad.jpg").write_text("no photo")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos / 'nowhere.png'}\n"))
    command = ["predict", tmp_path / "bundle", f"{photos}/*/*.*", "-", "--out", tmp_path / "a.jsonl"]
    ended = fovsfe(*command)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.splitlines() == [
        f"{photos / 'Нива' / '[red]bad.jpg'}: not an image",
        f"{photos / 'nowhere.png'}: No such file or directory",
    ]
    rows = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 8
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:5]) + "\n" + rows[5][:10], encoding="utf-8")
    asked = []
    monkeypatch.setattr(Predictor, "pixels", lambda self, data, most: asked.append(data) or (
        load_photo(data, (48, 64), "pad", most),))  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    (photos / "Нива" / "[red]bad.jpg").unlink()
    assert fovsfe(*command).code == 0
    assert len(asked) == 3
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines() == rows


def test_predict_says_that_it_can_go_on(fovsfe, run, photos, tmp_path, monkeypatch):
    fovsfe("export", run, "--out", tmp_path / "bundle")

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "answers", stopped)
    ended = fovsfe("predict", tmp_path / "bundle", photos, "--out", tmp_path / "a.csv")
    assert ended.code == 1
    assert ended.line == "stopped; the same command goes on where it was"


# ---- recipes


def test_recipes_are_listed(fovsfe):
    ended = fovsfe("recipes")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.builtin_recipes())
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", recipes.builtin_recipes())
def test_a_printed_recipe_is_the_same_recipe(fovsfe, tmp_path, name):
    ended = fovsfe("recipes", name)
    assert ended.code == 0
    assert ended.out == recipes.recipe_text(name)
    (tmp_path / "mine.toml").write_text(ended.out, encoding="utf-8")
    assert recipes.load_recipe(str(tmp_path / "mine.toml")) == recipes.load_recipe(name)
