"""Are the figures of a run kinder than the truth? Bias and coverage of the headline where the truth is known.

    python -m benchmarks estimates

Draws members' predictions for photos, with correlated mistakes, of equal and unequal skill, for many
settings; selects test-time augmentation, a blend and the round with the code that a run uses; and compares
the headline and its 95% interval with the accuracy of what was selected on 60,000 fresh photos. "Before" is
what is shown without correction: the accuracy of the selected candidate on the photos that it was selected
on. Takes a few minutes.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.paths import RESULTS, ROOT
from benchmarks.results import markdown_table
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.acceptance import accept_change
from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, wilson_interval
from fovsfe.ensemble.selection import select_blend
from fovsfe.files import write_json

PAGE, BEGIN, END = ROOT / "docs" / "how-it-decides.md", "<!-- estimates -->", "<!-- /estimates -->"
FRESH = 60_000
SHARED = 0.7  # of the variance of the logits' noise: what all members have in common


@dataclass(frozen=True)
class Setting:
    """A kind of run."""

    photos: int
    labels: int
    skills: tuple[float, ...]
    """of the members: how far the logit of the true label is above the others, in standard deviations"""
    rounds: int = 1
    gain: float = 0.0
    """what test-time augmentation and round 2 add to the skill; with 0, only noise"""


SETTINGS = (
    Setting(150, 3, (2.0, 2.0, 2.0)),
    Setting(150, 10, (2.0, 2.0, 2.0), rounds=2),
    Setting(150, 10, (2.4, 2.0, 1.4), rounds=2, gain=0.15),
    Setting(459, 10, (2.0, 2.0), rounds=2),
    Setting(459, 20, (2.4, 2.4, 2.4), rounds=2),
    Setting(459, 5, (2.2, 1.6, 1.0), rounds=2, gain=0.15),
    Setting(1000, 10, (2.0, 2.0, 2.0)),
    Setting(2000, 3, (1.6, 1.6), rounds=2),
    Setting(2000, 20, (2.6, 2.4), rounds=1, gain=0.15),
)


def main(argv: Sequence[str]) -> None:
    """Prints bias and coverage of every setting, writes results/estimates.json and the table in the docs."""
    parser = argparse.ArgumentParser("python -m benchmarks estimates", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="of computing time")
    options = parser.parse_args(argv)
    start = time.process_time()
    results = [
        _evaluate(setting, index, start + options.seconds * (index + 1) / len(SETTINGS))
        for index, setting in enumerate(SETTINGS)
    ]
    runs = sum(result["runs"] for result in results)
    overall = {
        key: sum(result[key] * result["runs"] for result in results) / runs
        for key in ("bias", "bias_before", "coverage", "coverage_before", "replaced", "round_2")
    }
    for key in ("bias", "coverage", "bias_before", "coverage_before"):
        errors = [result[f"{key}_error"] * result["runs"] / runs for result in results]
        overall[f"{key}_error"] = float(np.sqrt(np.square(errors).sum()))
    seconds = time.process_time() - start
    text = table(results, overall | {"runs": runs})
    print(text)
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")
    write_json(
        RESULTS / "estimates.json",
        {"fresh": FRESH, "seconds": round(seconds), "settings": results, "all": overall | {"runs": runs}},
    )


def table(results: Sequence[dict[str, Any]], overall: dict[str, Any]) -> str:
    """Returns the results as a Markdown table; biases are in percentage points."""
    header = ["photos", "labels", "skills", "gain", "rounds", "runs", "bias", "coverage %"]
    header += ["bias before", "coverage % before", "default replaced %", "round 2 accepted %"]
    rows = []
    for each in [*results, {"photos": "all", "labels": "", "skills": [], "gain": "", "rounds": ""} | overall]:
        rows.append(
            (
                *(str(each[key]) for key in ("photos", "labels")),
                " ".join(map(str, each["skills"])),
                *(str(each[key]) for key in ("gain", "rounds", "runs")),
                f"{100 * each['bias']:+.2f} ± {196 * each['bias_error']:.2f}",
                f"{100 * each['coverage']:.1f} ± {196 * each['coverage_error']:.1f}",
                f"{100 * each['bias_before']:+.2f} ± {196 * each['bias_before_error']:.2f}",
                f"{100 * each['coverage_before']:.1f} ± {196 * each['coverage_before_error']:.1f}",
                f"{100 * each['replaced']:.1f}",
                f"{100 * each['round_2']:.1f}" if each["rounds"] != 1 else "",
            )
        )
    return markdown_table(header, rows)


def _evaluate(setting: Setting, index: int, until: float) -> dict[str, Any]:
    """Simulates runs of a setting until a processor time; returns the means over them."""
    random = np.random.default_rng(index)
    fresh = Photos.draw(random, setting, FRESH)
    runs: list[dict[str, float]] = []
    while time.process_time() < until or len(runs) < 3:
        runs.append(simulate(setting, random, fresh, len(runs)))
    values = {key: np.array([run[key] for run in runs]) for key in runs[0]}
    expected = wilson_coverage(setting.photos, fresh.accuracy_of_default)
    means = {key: float(each.mean()) for key, each in values.items()}
    for key in ("bias", "bias_before"):
        means[key], means[f"{key}_error"] = _without_luck(values[key], values["default_bias"], 0.0)
    for key in ("coverage", "coverage_before"):
        means[key], means[f"{key}_error"] = _without_luck(values[key], values["default_coverage"], expected)
    print(setting, len(runs), {key: round(each, 4) for key, each in means.items()}, flush=True)
    facts = {"photos": setting.photos, "labels": setting.labels, "skills": list(setting.skills)}
    return facts | {"gain": setting.gain, "rounds": setting.rounds, "runs": len(runs)} | means


def _without_luck(values: Floats, of_default: Floats, expected: float) -> tuple[float, float]:
    """Returns the mean of values, less the luck of these draws, by a control variate: the default, for which
    nothing is selected, and whose mean is known to be `expected`; and its standard error."""
    slope = np.cov(values, of_default)[0, 1] / max(of_default.var(ddof=1), 1e-12)
    rest = values - slope * (of_default - expected)
    return float(rest.mean()), float(rest.std(ddof=2) / np.sqrt(len(rest)))


def wilson_coverage(photos: int, accuracy: float) -> float:
    """Returns how often the interval covers an accuracy that nothing was selected by."""
    right = np.arange(photos + 1)
    intervals = np.array([wilson_interval(int(count), photos) for count in right])
    covers = (intervals[:, 0] <= accuracy) & (accuracy <= intervals[:, 1])
    return float((stats.binom.pmf(right, photos, accuracy) * covers).sum())


@dataclass(frozen=True)
class Photos:
    """Photos with their true labels, and what the members predict for them."""

    y_true: Ints
    predictions: tuple[tuple[Floats, Floats], ...]
    """for each round, without and with test-time augmentation: (members, n, classes)"""

    @classmethod
    def draw(cls, random: np.random.Generator, setting: Setting, photos: int) -> "Photos":
        """Draws photos. Members make mistakes in common; those of variants and rounds differ a little."""
        skills = np.asarray(setting.skills, np.float32)[:, None, None]
        shape = (len(skills), photos, setting.labels)
        y_true = random.integers(0, setting.labels, photos)
        shared = random.normal(size=shape[1:]).astype(np.float32)
        own = random.normal(size=shape).astype(np.float32)

        def predict(gain: float) -> Floats:
            little = random.normal(size=shape).astype(np.float32)
            logits = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * (0.8 * own + 0.6 * little)
            logits[:, np.arange(photos), y_true] += skills[:, :, 0] + gain
            return softmax(logits * skills)

        rounds = []
        for round_index in range(setting.rounds):
            plain, other = (predict(setting.gain * (round_index + variant)) for variant in (0, 1))
            rounds.append((plain, (plain + other) / 2))
        return cls(y_true, tuple(rounds))

    @cached_property
    def accuracy_of_default(self) -> float:
        """The accuracy of the mean of all members in round 1 without test-time augmentation."""
        return accuracy(self.predictions[0][0].mean(axis=0), self.y_true)


def simulate(setting: Setting, random: np.random.Generator, fresh: Photos, seed: int) -> dict[str, float]:
    """Returns the errors of the headline and of the uncorrected figure, and whether the intervals cover."""
    drawn, groups = Photos.draw(random, setting, setting.photos), np.arange(setting.photos)
    names = tuple(f"m{index}" for index in range(len(setting.skills)))
    class_names = [f"label {index}" for index in range(setting.labels)]
    selections = [
        select_blend(
            plain.astype(np.float64),
            drawn.y_true,
            names,
            class_names,
            groups,
            seed,
            with_tta=with_tta.astype(np.float64),
        )
        for plain, with_tta in drawn.predictions
    ]
    chosen, headline = 0, selections[0].out_of_fold
    if setting.rounds == 2:
        first, second = (each.out_of_fold for each in selections)
        change = accept_change(first, second, drawn.y_true, groups, "accuracy", seed)
        chosen, headline = int(change.accepted), change.predictions
    selection = selections[chosen]
    blend = selection.blend
    served = fresh.predictions[chosen][int(selection.has_tta)]
    truth = accuracy(blend.apply(served[[names.index(name) for name in blend.members]]), fresh.y_true)
    before = next(
        each.metrics
        for each in selection.candidates
        if (each.kind, each.members) == (blend.kind, blend.members)
    )
    figures = {
        "": (accuracy(headline, drawn.y_true), truth),
        "_before": (before.accuracy, truth),
        "default_": (drawn.accuracy_of_default, fresh.accuracy_of_default),
    }
    result = {"accuracy": truth}
    for name, (shown, true) in figures.items():
        low, high = wilson_interval(round(shown * setting.photos), setting.photos)
        prefix, suffix = (name, "") if name.endswith("_") else ("", name)
        result[f"{prefix}bias{suffix}"] = shown - true
        result[f"{prefix}coverage{suffix}"] = float(low <= true <= high)
    is_default = blend.kind == "mean" and len(blend.members) == len(names) and not selection.has_tta
    return result | {"replaced": float(not is_default), "round_2": float(chosen == 1)}
