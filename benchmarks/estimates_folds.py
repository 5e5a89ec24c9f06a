"""Simulates runs with folds, where the accuracy of the mean of the networks of all folds is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.results import markdown_table
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.averaging import estimate_average
from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, wilson_interval

FRESH = 20_000


@dataclass(frozen=True)
class FoldSetting:
    """A kind of run with folds."""

    photos: int
    labels: int
    test_photos: int
    skill: float
    """how far the logit of the true label is above the others, in standard deviations of the noise"""
    folds: int = 3
    own: float = 0.3
    """of the variance of the noise: what the networks of different folds do not have in common"""
    sharpness: float = 1.0
    """what the logits are multiplied by: above 1, the networks are too confident"""
    spread: float = 0.0
    """the standard deviation of the skill from photo to photo: some are easy, some are hard"""
    has_tails: bool = False
    """whether the noise has heavy tails (Laplace) instead of a normal distribution's"""


SETTINGS = (
    FoldSetting(500, 10, 300, 2.0, own=0.1),
    FoldSetting(500, 10, 300, 2.0),
    FoldSetting(500, 10, 300, 2.0, own=0.5),
    FoldSetting(500, 10, 300, 2.0, sharpness=3.0),
    FoldSetting(500, 10, 300, 2.0, sharpness=0.4),
    FoldSetting(500, 10, 300, 2.0, spread=1.5),
    FoldSetting(500, 10, 300, 2.0, own=0.5, sharpness=3.0, spread=1.5),
    FoldSetting(500, 10, 300, 2.0, has_tails=True),
    FoldSetting(500, 10, 300, 2.0, sharpness=3.0, spread=1.5, has_tails=True),
    FoldSetting(150, 3, 100, 1.5),
    FoldSetting(2000, 20, 1000, 3.0),
    FoldSetting(1000, 5, 50, 1.0, folds=5),
)


def simulate(setting: FoldSetting, runs: int, seed: int) -> dict[str, Any]:
    """Returns the means over simulated runs: what averaging gains, the bias of the accuracy of one network
    and of the estimate as figures of the mean, and how often their intervals cover it."""
    random = np.random.default_rng(seed)
    fresh, fresh_true = _draw(random, setting, FRESH)
    truth = accuracy(fresh.mean(axis=0), fresh_true)
    alone = float(np.mean([accuracy(each, fresh_true) for each in fresh]))
    rows = []
    for _ in range(runs):
        networks, y_true = _draw(random, setting, setting.photos)
        out_of_fold = networks[np.arange(setting.photos) % setting.folds, np.arange(setting.photos)]
        shown = accuracy(out_of_fold, y_true)
        interval = wilson_interval(round(shown * setting.photos), setting.photos)
        test, _ = _draw(random, setting, setting.test_photos)
        estimate = estimate_average(test, test.mean(axis=0), shown, interval)
        rows.append(
            (
                shown - truth,
                interval[0] <= truth <= interval[1],
                estimate.accuracy - truth - (shown - alone),  # less the luck of the photos with labels
                estimate.interval[0] <= truth <= estimate.interval[1],
            )
        )
    values = np.array(rows, np.float64)
    keys = ("bias_alone", "coverage_alone", "bias", "coverage")
    errors = values.std(axis=0, ddof=1) / np.sqrt(runs)
    means = dict(zip(keys, values.mean(axis=0).tolist(), strict=True))
    means |= {f"{key}_error": float(error) for key, error in zip(keys, errors, strict=True)}
    return vars(setting) | {"runs": runs, "alone": alone, "gain": truth - alone} | means


def table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results as a Markdown table; accuracies, gains and biases are in percentage points."""
    header = [
        "photos",
        "labels",
        "test",
        "folds",
        "own noise",
        "sharpness",
        "spread",
        "tails",
        "one network %",
    ]
    header += ["gain", "estimate: bias", "coverage %", "headline as such: bias", "coverage %"]
    facts = ("photos", "labels", "test_photos", "folds", "own", "sharpness", "spread", "has_tails")
    return markdown_table(
        header,
        [
            (
                *(f"{each[key]:g}" for key in facts),
                f"{100 * each['alone']:.1f}",
                f"{100 * each['gain']:+.2f}",
                f"{100 * each['bias']:+.2f} ± {196 * each['bias_error']:.2f}",
                f"{100 * each['coverage']:.1f}",
                f"{100 * each['bias_alone']:+.2f} ± {196 * each['bias_alone_error']:.2f}",
                f"{100 * each['coverage_alone']:.1f}",
            )
            for each in results
        ],
    )


def _draw(random: np.random.Generator, setting: FoldSetting, photos: int) -> tuple[Floats, Ints]:
    """Returns what the network of each fold predicts, (folds, photos, labels), and the true labels."""
    y_true = random.integers(0, setting.labels, photos)

    def noise(*shape: int) -> Floats:
        # both with a standard deviation of 1
        return random.laplace(0, np.sqrt(0.5), shape) if setting.has_tails else random.normal(size=shape)

    shared, own = noise(photos, setting.labels), noise(setting.folds, photos, setting.labels)
    logits = np.sqrt(1 - setting.own) * shared + np.sqrt(setting.own) * own
    logits[:, np.arange(photos), y_true] += setting.skill + setting.spread * random.normal(size=photos)
    return softmax(logits * setting.skill * setting.sharpness), y_true
