"""cli.errors: exit codes, and one line in plain words for whatever fails."""

import subprocess
import sys

import pytest

from fovsfe.cli import recipes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ['no command "trian"', 'did you mean "train"?', "fovsfe --help"]),
        (["zzz"], ['no command "zzz"', "fovsfe --help"]),
        (["train"], ["train needs PHOTOS", "folder of photos", "fovsfe train --help"]),
        (["resume"], ["resume needs RUN"]),
        (["check"], ["check needs PHOTOS"]),
        (["train", "photos", "--epochs", "3"], ["train has no option --epochs", "fovsfe train --help"]),
        (["train", "photos", "--recip", "quick"], ["no option --recip", 'did you mean "--recipe"?']),
        (["train", "photos", "--minutes", "0"], ["--minutes 0", "number, 0.5 or more"]),
        (["train", "photos", "--minutes", "many"], ["--minutes many", "number, 0.5 or more"]),
        (["train", "photos", "--minutes", "nan"], ["--minutes nan", "number, 0.5 or more"]),
        (["train", "photos", "--minutes", "inf"], ["--minutes inf", "number, 0.5 or more"]),
        (["train", "photos", "--devices", "0"], ["no option --devices"]),
        (["train", "photos", "--out"], ["--out needs a value"]),
        (["train", "photos", "--open=yes"], ["--open takes no value"]),
        (["recipes", "quick", "twas"], ["recipes takes fewer arguments", "twas"]),
        (["recipes", "quik"], ['"quik"', "quick"]),
        (["export", "run"], ["export needs --out"]),
        (
            ["export", "run", "--out", "b", "--precision", "int9"],
            ["--precision int9", '"int8"', "fp32, fp16"],
        ),
        (["predict", "bundle"], ["predict needs PATHS"]),
        (["predict", "bundle", "photos", "--top", "0"], ["--top 0", "whole number, 1 or more"]),
        (["predict", "bundle", "photos", "--top", "1.5"], ["--top 1.5", "whole number, 1 or more"]),
        (["predict", "b", "p", "--json", "--out", "a.csv"], ["--json", "--out FILE.jsonl"]),
        (["shard", "photos", "--out", "s", "--photos-per-shard", "1"], ["--photos-per-shard 1", "2 or more"]),
        (["serve", "bundle", "--port", "http"], ["--port http", "whole number"]),
        (["compare", "run"], ["compare needs SECOND"]),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(fovsfe, arguments, words):
    ended = fovsfe(*arguments)
    assert ended.code == 2
    for each in words:
        assert each in ended.line
    assert not {"Traceback", "pydantic", "Usage", "Invalid value", "Missing"} & set(ended.err.split())


def test_a_missing_library_is_one_line_that_says_how_to_install_it(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from fovsfe.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(tmp_path), "--out", str(tmp_path / "run")]
    command += ["--recipe", "quick", "--weights", "none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "fovsfe: torch is not installed: pip install 'fovsfe[train]'\n"
    # what is done was on the screen before torch, which takes seconds, was loaded
    assert ended.stdout == f"training on {tmp_path} with recipe quick\n"


def test_ctrl_c_is_one_line(fovsfe, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "print_plain", interrupt)
    ended = fovsfe("recipes")
    assert ended.code == 1
    assert ended.line == "stopped"


@pytest.mark.parametrize(
    "command",
    [
        "predict {} a.jpg",
        "train photos --recipe quick --weights none --out {}",
        "report {}",
        "export {} --out b",
        "resume {}",
        "compare {} {}",
    ],
)
def test_an_argument_of_any_length_is_one_line(fovsfe, photos, monkeypatch, command):
    monkeypatch.chdir(photos.parent)
    long = "x" * 5000
    ended = fovsfe(*command.replace("{}", long).split())
    assert ended.code == 1
    assert ended.line.startswith(long) and ended.line.endswith("File name too long")


def test_an_error_of_the_system_without_a_file_is_not_explained_away(fovsfe, monkeypatch):
    def fail():
        raise OSError("something else")

    monkeypatch.setattr("fovsfe.recipe.builtin_recipes", fail)
    with pytest.raises(OSError, match="something else"):
        fovsfe("recipes")
