"""Every benchmark can be imported, and its commands are those that README.md shows."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from benchmarks import (
    duplicates,
    estimates,
    estimates_folds,
    estimates_photos,
    figures,
    peers_environment,
    serving,
)
from benchmarks.__main__ import NAMES, QUICK, main

ROOT = Path(__file__).parent.parent
MODULES = sorted(file.stem for file in (ROOT / "benchmarks").glob("[!_]*.py"))
RUN_WITHOUT_FOVSFE = ("peers_fastai", "serving_peers")  # each in an environment of its own
README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
README_COMMANDS = re.findall(r"^\| `\w+` \| `[^`]*?python (-m benchmarks [^`]+)`", README, re.M)


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main(["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("module", [name for name in MODULES if name not in RUN_WITHOUT_FOVSFE])
def test_every_module_can_be_imported_and_says_what_it_is(module: str) -> None:
    assert import_module(f"benchmarks.{module}").__doc__


@pytest.mark.parametrize("module", RUN_WITHOUT_FOVSFE)
def test_what_runs_in_another_environment_is_valid_and_needs_no_fovsfe(module: str) -> None:
    text = (ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
    compile(text, module, "exec")
    assert not re.search(r"^\s*(from|import) fovsfe", text, re.M)


def test_the_readme_has_every_benchmark_and_nothing_else() -> None:
    assert {shlex.split(command)[2] for command in README_COMMANDS} == set(NAMES)
    assert set(re.findall(r"^\*\*(\w+)\*\*", README, re.M)) == set(NAMES)
    assert set(re.findall(r"^\| `(\w+)`", README, re.M)) == set(NAMES)


@pytest.mark.parametrize("command", README_COMMANDS)
def test_the_options_in_the_readme_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, name, *arguments = shlex.split(command)
    text = help_of(name, capsys)
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert re.search(rf"{option}\b", text), option


@pytest.mark.parametrize("name", QUICK)
def test_the_options_of_the_quick_ones_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(name, capsys)
    for option in (argument for argument in QUICK[name] if argument.startswith("--")):
        assert re.search(rf"{option}\b", text), option


def test_the_docstring_of_every_benchmark_shows_its_command() -> None:
    for name in NAMES:
        assert f"python -m benchmarks {name}" in (import_module(f"benchmarks.{name}").__doc__ or "")


def test_estimates_know_the_truth_of_what_they_simulate() -> None:
    setting = estimates.Setting(150, 3, (2.0, 1.5), rounds=2)
    random = np.random.default_rng(0)
    fresh = estimates.Photos.draw(random, setting, 4000)
    result = estimates.simulate(setting, random, fresh, 0)
    assert 0.6 < result["accuracy"] < 1
    assert abs(result["bias"]) < 0.2
    assert abs(result["default_bias"]) < 0.2
    assert result["coverage"] in (0.0, 1.0)
    assert estimates.wilson_coverage(150, 0.9) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("part", "table"),
    [("simulated", estimates.table), ("folds", estimates_folds.table), ("photos", estimates_photos.table)],
)
def test_the_page_has_the_estimates_that_were_found(part: str, table: Callable[..., str]) -> None:
    found = json.loads(estimates.FILE.read_text("utf-8"))[part]
    _, _, rest = estimates.PAGE.read_text("utf-8").partition(f"<!-- estimates: {part} -->")
    block, end, _ = rest.partition(f"<!-- /estimates: {part} -->")
    assert found and end
    assert block.strip() == table(found).strip()


def test_estimates_know_what_is_accepted_wrongly() -> None:
    setting = estimates.Setting(459, 6, (2.0, 2.0), tta_averages=False, metric="balanced", rarity=0.2)
    assert setting.frequencies == pytest.approx([5 / 18] * 3 + [1 / 18] * 3)
    random = np.random.default_rng(0)
    fresh = estimates.Photos.draw(random, setting, 4000)
    assert np.bincount(fresh.y_true) / 4000 == pytest.approx(setting.frequencies, abs=0.03)
    result = estimates.simulate(setting, random, fresh, 0)
    assert result["replaced"] == 1 and result["wrongly"] == 0  # rare labels are found by a correction
    assert "half the labels rare" in setting.in_words and "balanced" in setting.in_words


def test_estimates_know_what_averaging_folds_gains() -> None:
    setting = estimates_folds.FoldSetting(500, 10, 300, 2.0)
    result = estimates_folds.simulate(setting, 10, 0)
    assert result["gain"] > 0.03
    assert result["bias_alone"] == pytest.approx(-result["gain"], abs=0.03)
    assert abs(result["bias"]) < result["gain"] / 2
    assert "+" in estimates_folds.table([result])


def test_the_best_epoch_flatters_where_epochs_differ_by_noise_alone() -> None:
    random = np.random.default_rng(0)
    y_true = random.integers(0, 4, 200)
    noise = random.normal(size=(30, 200, 4))
    noise[:, np.arange(200), y_true] += 1
    accuracy_gain, loss_gain = estimates_photos.flattery_of_the_best_epoch(noise, y_true, 0)
    assert accuracy_gain > 0.01 and loss_gain > 0.05
    same = np.repeat(noise[:1], 30, axis=0)
    assert estimates_photos.flattery_of_the_best_epoch(same, y_true, 0) == pytest.approx((0, 0), abs=1e-9)


def test_an_unknown_benchmark_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith('no benchmark "nothing": there are ')


# ---- every command of the README, from a copy of what is checked out

TINY_RECIPE = """
rounds = 1

[split]
holdout = 0.3

[training]
stages = [0]
head_epochs = 1
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [32, 32]
"""
SMALLEST = {  # options that make a benchmark small; they come after those of the README and override them
    "peers": "--minutes 0.5 --seeds 0 --contenders 'fovsfe RECIPE' 'timm test_resnet'",
    "speed": "--photos-drawn 160 --backbones test_resnet --head-epochs 2 --steps 1 --repeats 1",
    "reading": "--photos PHOTOS --rounds 1",
    "predicting": "--photos PHOTOS --count 60",
    "memory": "--photos 200 300",
    "runtimes": "",
    "serving": "--seconds 1 --rounds 1",
    "xla": "",
    "cluster": "--photos-drawn 40 --backbone test_resnet --networks 2 --epochs 1",
    "decoder": "",
    "backbones": "--families mobilenetv3",
    "techniques": "--recipe RECIPE --only head",
    "estimates": "--seconds 1",
    "learning_curves": "--draws 1",
    "drift": "--recipe RECIPE",
    "label_errors": "--recipe RECIPE --minutes 1 --swapped 2",
    "duplicates": "--photos PHOTOS --counts 500 2000 --exact 2000",
    "figures": "",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, whose results and pages may be overwritten, with photos and a run."""
    from fovsfe.synthetic.dataset import draw_dataset

    folder = tmp_path_factory.mktemp("clone")
    for name in ("src", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    draw_dataset(folder / "photos", 8, 4, seed=0)
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    train = [sys.executable, "-m", "fovsfe", "train", "photos", "--recipe", "tiny.toml", "--weights", "none"]
    subprocess.run([*train, "--out", "run"], cwd=folder, check=True, env=environment_of(folder))
    return folder


def environment_of(clone: Path) -> dict[str, str]:
    """Nothing can be installed from where pip looks: contenders that need it are left out."""
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    own = {"PYTHONPATH": f"{clone / 'src'}:{clone}", "FOVSFE_CACHE": str(clone / "cache")}
    return {**os.environ, **nowhere, **own, "PJRT_DEVICE": "CPU"}


def test_every_benchmark_can_be_made_small() -> None:
    assert SMALLEST.keys() == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("command", README_COMMANDS)
def test_every_command_of_the_readme_runs(command: str, clone: Path) -> None:
    name = shlex.split(command)[2]
    smallest = "--overload 3" if "--overload" in command else SMALLEST[name]
    words = f"{command} {smallest}".replace(" ...", "")
    stand_ins = {"PHOTOS": "photos", "FOLDER": "photos", "WEIGHTS": "none", "RECIPE": "tiny.toml"}
    stand_ins |= {"INT8_BUNDLE": "", "BUNDLE": "run/bundle"}
    for word, stand_in in stand_ins.items():
        words = re.sub(rf"\b{word}\b", stand_in, words)
    done = subprocess.run(
        [sys.executable, *shlex.split(words)],
        cwd=clone,
        env=environment_of(clone),
        capture_output=True,
        text=True,
    )
    told = done.stdout + done.stderr
    assert "Traceback" not in told, told
    if name == "xla" and not peers_environment.find_spec("torch_xla"):
        assert done.returncode == 1 and "left out: XLA: cannot install xla-requirements.txt" in told
    else:
        assert done.returncode == 0, told
    if name in ("peers", "serving") and "--overload" not in command:
        assert f"cannot install {name}-requirements.txt" in told


def test_what_cannot_be_installed_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[object], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            command, int("pip" in command), stderr="Looking\nERROR: no network\n"
        )

    monkeypatch.setattr(peers_environment, "SCRATCH", tmp_path)
    monkeypatch.setattr(peers_environment.subprocess, "run", run)
    peers_environment.python_of.cache_clear()
    monkeypatch.setattr(peers_environment, "find_spec", lambda module: module != "openvino")
    assert serving.at_hand() == ["fovsfe", "fovsfe, int8"]
    lines = capsys.readouterr().out.splitlines()
    assert "left out: fovsfe, int8, openvino: it needs pip install 'fovsfe[openvino]'" in lines
    peers = "fastapi, litserve, litserve-batches, bentoml"
    assert f"left out: {peers}: cannot install serving-requirements.txt: ERROR: no network" in lines
    peers_environment.python_of.cache_clear()


def test_what_fails_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--photos", str(tmp_path / "nowhere"), "--weights", "none"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "label_errors", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value).startswith("benchmarks label_errors: ") and "nowhere" in str(ended.value)


# ---- figures and near-duplicates


def test_the_page_of_all_figures_is_what_the_command_makes() -> None:
    assert figures.PAGE.read_text("utf-8") == figures.render_page()


def test_every_result_is_on_the_page_of_all_figures_with_machine_and_date() -> None:
    assert figures.FIGURES.keys() == set(NAMES) - {"decoder", "figures"}  # which write none
    page = figures.PAGE.read_text("utf-8")
    for file in figures.RESULTS.glob("*.json"):
        assert f"| {file.stem.partition('-')[0]} " in page, file
    rows = re.findall(r"^\| (?!benchmark|-)(.*) \|$", page, re.M)
    for row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        assert len(cells) == 6 and all(cells)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", cells[4])
        assert cells[5].startswith(("`python -m benchmarks", "`PJRT_DEVICE=CPU python -m benchmarks"))


def test_the_page_has_the_groups_that_were_measured() -> None:
    rows = json.loads(duplicates.FILE.read_text("utf-8"))["rows"]
    _, _, rest = duplicates.PAGE.read_text("utf-8").partition("<!-- duplicates -->")
    assert rest.partition("<!-- /duplicates -->")[0].strip() == duplicates.table(rows).strip()


def test_groups_of_multiplied_photos_are_those_of_all_with_all(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (50, 4), dtype=np.uint64)
    thumbnails = random.integers(0, 256, (50, 192), dtype=np.uint8)
    duplicates._multiply(hashes, thumbnails, 3000, tmp_path)
    found = duplicates._group(tmp_path)
    assert 2000 < found["groups"] < 3000
    assert duplicates._compared_with_all(tmp_path) == {"recall": 1, "recall_15": 1, "same": True}
    np.save(tmp_path / "groups.npy", np.arange(3000))
    assert duplicates._compared_with_all(tmp_path) == {"recall": 0, "recall_15": 0, "same": False}
