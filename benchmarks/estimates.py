"""Are the figures of a run kinder than the truth? Bias and coverage of the headline where the truth is known.

    python -m benchmarks estimates
    python -m benchmarks estimates --photos PHOTOS --weights WEIGHTS

Draws members' predictions for photos, with correlated mistakes, of equal and unequal skill, for many
settings; selects test-time augmentation, a blend and the round with the code that a run uses; and compares
the headline and its 95% interval with the accuracy of what was selected on 60,000 fresh photos. "Before" is
what is shown without correction: the accuracy of the selected candidate on the photos that it was selected
on. Then it draws runs with folds, for the accuracy that is to be expected of the mean of their networks.
Takes a few minutes. With real photos instead, it compares the headline with the accuracy on a third of them
that was kept aside, over many splits.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import estimates_folds
from benchmarks.paths import RESULTS, ROOT
from benchmarks.results import markdown_table, replace_part, write_result
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.acceptance import accept_change
from fovsfe.ensemble.blend import Blend, softmax
from fovsfe.ensemble.fitting import fit_temperature
from fovsfe.ensemble.metrics import accuracy, log_losses, photo_weights, wilson_interval
from fovsfe.ensemble.selection import BlendSelection, select_blend
from fovsfe.files import read_json
from fovsfe.recipe import MetricName

PAGE, FILE = ROOT / "docs" / "how-it-decides.md", RESULTS / "estimates.json"
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
    tta_averages: bool = True
    """whether test-time augmentation is the mean of two variants, or else one that is as good as the plain"""
    metric: MetricName = "accuracy"
    rarity: float = 1.0
    """how frequent the later half of the labels is, compared with the others"""
    knows_frequencies: bool = True
    """whether the members have learned how frequent the labels are"""

    @property
    def in_words(self) -> str:
        """What it is besides its numbers of photos and labels and its skills."""
        words = ["tta averages" if self.tta_averages else "tta is noise"]
        words += ["round 2"] * (self.rounds == 2) + [f"gain {self.gain}"] * bool(self.gain)
        if self.metric != "accuracy":
            words.append(self.metric)
        if self.rarity != 1:
            words.append("half the labels rare" + ", which is not learned" * (not self.knows_frequencies))
        return "; ".join(words)

    @property
    def frequencies(self) -> Floats:
        """(labels,), how frequent each is; they sum to 1."""
        counts = np.where(np.arange(self.labels) < self.labels / 2, 1.0, self.rarity)
        return np.asarray(counts / counts.sum())


SETTINGS = (
    Setting(150, 3, (2.0, 2.0, 2.0)),
    Setting(150, 10, (2.0, 2.0, 2.0), rounds=2),
    Setting(150, 10, (2.4, 2.0, 1.4), rounds=2, gain=0.15),
    Setting(459, 10, (2.0, 2.0), rounds=2),
    Setting(459, 20, (2.4, 2.4, 2.4), rounds=2),
    Setting(459, 5, (2.2, 1.6, 1.0), rounds=2, gain=0.15),
    Setting(1000, 10, (2.0, 2.0, 2.0)),
    Setting(2000, 3, (1.6, 1.6), rounds=2),
    Setting(2000, 20, (2.6, 2.4), gain=0.15),
    Setting(459, 10, (2.0, 2.0), rounds=2, tta_averages=False),
    Setting(459, 6, (2.0, 2.0), tta_averages=False, metric="balanced"),
    Setting(459, 6, (2.0, 2.0), tta_averages=False, metric="balanced", rarity=0.2),
    Setting(459, 6, (2.0, 2.0), tta_averages=False, metric="f1", rarity=0.2),
    Setting(459, 6, (2.0, 2.0), tta_averages=False, metric="balanced", rarity=0.2, knows_frequencies=False),
)


def main(argv: Sequence[str]) -> None:
    """Prints what was found, and writes it into results/estimates.json and, as tables, into the docs."""
    parser = argparse.ArgumentParser("python -m benchmarks estimates", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="of computing time")
    parser.add_argument("--photos", type=Path, nargs="+", help="folders of labelled photos")
    parser.add_argument("--weights", type=Path, help="the folder of pretrained weights, for --photos")
    parser.add_argument("--splits", type=int, default=16, help="of each folder")
    options = parser.parse_args(argv)
    if options.photos:
        if options.weights is None:
            parser.error("--photos needs --weights")
        from benchmarks import estimates_photos  # takes torch

        of_photos = [
            estimates_photos.evaluate(each, options.weights, options.splits) for each in options.photos
        ]
        _write("photos", of_photos, estimates_photos.table(of_photos))
        return
    start = time.process_time()
    results = [
        _evaluate(setting, index, start + options.seconds * (index + 1) / len(SETTINGS))
        for index, setting in enumerate(SETTINGS)
    ]
    results.append(_of_all(results))
    _write("simulated", results, table(results))
    runs = max(round(options.seconds), 3)
    of_folds = [
        estimates_folds.simulate(setting, runs, index)
        for index, setting in enumerate(estimates_folds.SETTINGS)
    ]
    _write("folds", of_folds, estimates_folds.table(of_folds))


def _write(part: str, results: list[dict[str, Any]], text: str) -> None:
    """Prints a table, and puts it and its results in the place of those that are there."""
    print(text)
    replace_part(PAGE, f"estimates: {part}", text)
    write_result(FILE, (read_json(FILE) if FILE.exists() else {}) | {part: results})


def _of_all(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the means over all settings, each weighed by its runs."""
    runs = sum(result["runs"] for result in results)
    means: dict[str, Any] = {
        key: sum(result[key] * result["runs"] for result in results) / runs
        for key in ("bias", "bias_before", "coverage", "coverage_before")
    }
    for key in list(means):
        errors = [result[f"{key}_error"] * result["runs"] / runs for result in results]
        means[f"{key}_error"] = float(np.sqrt(np.square(errors).sum()))
    return {"setting": "all", "runs": runs} | means


def table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results as a Markdown table; biases are in percentage points."""
    header = ["photos, labels", "skills", "setting", "runs", "bias", "coverage %", "bias before"]
    header += ["coverage % before", "default replaced %", "wrongly %", "prior corrected %", "round 2 %"]

    def share(result: dict[str, Any], key: str) -> str:
        return f"{100 * result[key]:.1f}" if result.get(key) is not None else ""

    return markdown_table(
        header,
        [
            (
                f"{each['photos']}, {each['labels']}" if "photos" in each else "",
                " ".join(map(str, each.get("skills", ()))),
                each["setting"],
                str(each["runs"]),
                f"{100 * each['bias']:+.2f} ± {196 * each['bias_error']:.2f}",
                f"{100 * each['coverage']:.1f} ± {196 * each['coverage_error']:.1f}",
                f"{100 * each['bias_before']:+.2f} ± {196 * each['bias_before_error']:.2f}",
                f"{100 * each['coverage_before']:.1f} ± {196 * each['coverage_before_error']:.1f}",
                *(share(each, key) for key in ("replaced", "wrongly", "prior_corrected", "round_2")),
            )
            for each in results
        ],
    )


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
    shares: dict[str, float | None] = {
        "round_2": means["round_2"] if setting.rounds == 2 else None,
        "prior_corrected": means["prior_corrected"] if setting.metric != "accuracy" else None,
    }
    facts = {"photos": setting.photos, "labels": setting.labels, "skills": list(setting.skills)}
    return facts | {"setting": setting.in_words, "runs": len(runs)} | means | shares


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
        y_true = random.choice(setting.labels, photos, p=setting.frequencies)
        learned = np.log(setting.frequencies).astype(np.float32) if setting.knows_frequencies else 0
        shared = random.normal(size=shape[1:]).astype(np.float32)
        own = random.normal(size=shape).astype(np.float32)

        def predict(gain: float) -> Floats:
            little = random.normal(size=shape).astype(np.float32)
            logits = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * (0.8 * own + 0.6 * little)
            logits[:, np.arange(photos), y_true] += skills[:, :, 0] + gain
            return softmax(logits * skills + learned)

        rounds = []
        for round_index in range(setting.rounds):
            plain, other = (predict(setting.gain * (round_index + variant)) for variant in (0, 1))
            rounds.append((plain, (plain + other) / 2 if setting.tta_averages else other))
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
    selections: list[BlendSelection] = []
    for plain, with_tta in drawn.predictions:
        selections.append(
            select_blend(
                plain.astype(np.float64),
                drawn.y_true,
                names,
                class_names,
                groups,
                seed,
                setting.metric,
                with_tta.astype(np.float64),
                selections[0].selected if selections else None,
            )
        )
    chosen, headline = 0, selections[0].untouched
    if setting.rounds == 2:
        first, second = selections
        change = accept_change(
            first.cross_validated,
            second.cross_validated,
            drawn.y_true,
            groups,
            setting.metric,
            seed,
            (first.untouched, second.untouched),
        )
        chosen, headline = int(change.accepted), change.predictions
    selection = selections[chosen]
    blend = selection.blend
    served = fresh.predictions[chosen][int(selection.has_tta)]
    answers = blend.apply(served[[names.index(name) for name in blend.members]])
    truth = accuracy(answers, fresh.y_true)
    counts = photo_weights(setting.metric, fresh.y_true)
    default = _default(drawn, names, setting.metric).apply(fresh.predictions[0][0])
    gain = float((counts * (log_losses(default, fresh.y_true) - log_losses(answers, fresh.y_true))).mean())
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
    return result | {
        "replaced": float(not is_default),
        "wrongly": float(not is_default and gain <= 0),
        "prior_corrected": float(blend.kind == "prior_corrected"),
        "round_2": float(chosen == 1),
    }


def _default(drawn: Photos, names: tuple[str, ...], metric: MetricName) -> Blend:
    """The mean of all members in round 1, calibrated on the photos."""
    blend = Blend(kind="mean", members=names)
    temperature = fit_temperature(
        blend.apply(drawn.predictions[0][0]), drawn.y_true, photo_weights(metric, drawn.y_true)
    )
    return blend.model_copy(update={"temperature": temperature})
