"""Every benchmark can be imported, and its commands are those that README.md shows."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from benchmarks import estimates, estimates_folds, estimates_photos
from benchmarks.__main__ import NAMES, QUICK

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
