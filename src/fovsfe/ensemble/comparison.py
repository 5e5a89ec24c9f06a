"""Two models side by side, on the photos that both were evaluated on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy import optimize

from fovsfe.ensemble.metrics import NORMAL_95, mcnemar, wilson_interval
from fovsfe.errors import FovsfeError


@dataclass(frozen=True)
class PredictionsById:
    """A model's predictions for photos that it was not trained on, and their true labels, by the photos' ids:
    two models know the same photo by nothing else."""

    probabilities: pd.DataFrame
    """one row per photo, whose id is the index; one column per label, see `predictions_frame`"""
    labels: Mapping[str, str]
    """id -> true label, of every photo"""


class ChangedPhoto(BaseModel):
    """A photo that only one of two models predicts correctly."""

    model_config = ConfigDict(frozen=True)

    id: str
    label: str
    """the true label"""
    first: str
    """what the first model predicts"""
    second: str
    """what the second model predicts"""


class Comparison(BaseModel):
    """Two models on the same photos, as `compare_predictions` returns it."""

    model_config = ConfigDict(frozen=True)

    photos: int
    """photos compared: those that both were evaluated on, with the same true label"""
    accuracies: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    """95% confidence intervals of the accuracies (Wilson)"""
    difference: float
    """accuracy of the second less that of the first"""
    difference_interval: tuple[float, float]
    """95% confidence interval of the difference (Tango)"""
    p_value: float
    """exact McNemar test, two-sided"""
    wrong_to_right: tuple[ChangedPhoto, ...]
    """the first is wrong, the second is right"""
    right_to_wrong: tuple[ChangedPhoto, ...]
    """the first is right, the second is wrong"""
    relabelled: tuple[str, ...]
    """ids of common photos that are left out, because their true label differs between the two"""
    unmatched: tuple[int, int]
    """how many photos only the first, and only the second, was evaluated on"""


def compare_predictions(first: PredictionsById, second: PredictionsById) -> Comparison:
    """Compares two models on the photos, matched by id, that both were evaluated on.

    Photos are taken as independent: with near-duplicates among them, the intervals are too narrow.

    Raises FovsfeError if the two have different labels, or no photo in common with the same true label.
    """
    _check_labels(list(first.probabilities.columns), list(second.probabilities.columns))
    class_names = list(first.probabilities.columns)
    common = first.probabilities.index.intersection(second.probabilities.index, sort=False).tolist()
    if not common:
        raise FovsfeError("cannot compare: there is no photo that both were evaluated on")
    relabelled = [photo for photo in common if first.labels[photo] != second.labels[photo]]
    ids = [photo for photo in common if first.labels[photo] == second.labels[photo]]
    if not ids:
        raise FovsfeError(
            f"cannot compare: all of the {len(common)} photos that both were evaluated on have another label"
            f" in the second, among them {common[0]}"
        )
    labels = [first.labels[photo] for photo in ids]
    y_true = np.array([class_names.index(label) for label in labels], np.int64)
    tables = [each.probabilities.loc[ids, class_names].to_numpy(np.float64) for each in (first, second)]
    test = mcnemar(tables[0], tables[1], y_true)
    predicted = [[class_names[label] for label in table.argmax(axis=1)] for table in tables]
    correct = [int((table.argmax(axis=1) == y_true).sum()) for table in tables]
    changed = [
        ChangedPhoto(id=photo, label=label, first=before, second=after)
        for photo, label, before, after in zip(ids, labels, *predicted, strict=True)
        if (before == label) != (after == label)
    ]
    return Comparison(
        photos=len(ids),
        accuracies=(correct[0] / len(ids), correct[1] / len(ids)),
        intervals=(wilson_interval(correct[0], len(ids)), wilson_interval(correct[1], len(ids))),
        difference=test.difference,
        difference_interval=tango_interval(test.only_first, test.only_second, len(ids)),
        p_value=test.p_value,
        wrong_to_right=tuple(photo for photo in changed if photo.second == photo.label),
        right_to_wrong=tuple(photo for photo in changed if photo.first == photo.label),
        relabelled=tuple(relabelled),
        unmatched=(len(first.probabilities) - len(common), len(second.probabilities) - len(common)),
    )


def tango_interval(only_first: int, only_second: int, photos: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of the difference between two accuracies on the same photos.

    `only_first` and `only_second` are the photos that only one predicts correctly; the difference is the
    accuracy of the second less that of the first. The score interval of Tango 1998, "Equivalence test and
    confidence interval for the difference in proportions for the paired-sample design": it keeps its coverage
    with few photos, and has a width even if the two agree on all of them.
    """
    difference = (only_second - only_first) / photos

    def score(delta: float) -> float:
        """How many standard errors the difference lies above `delta`, if that is the true one."""
        a = 2 * photos
        b = (2 * photos - only_second + only_first) * delta - only_first - only_second
        c = -only_first * delta * (1 - delta)
        p_first = (math.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)  # the most likely share of only_first
        variance = photos * (2 * p_first + delta * (1 - delta))
        return photos * (difference - delta) / math.sqrt(max(variance, 1e-300))

    low = -1.0 if difference == -1 else optimize.brentq(lambda d: score(d) - NORMAL_95, -1, difference)
    high = 1.0 if difference == 1 else optimize.brentq(lambda d: score(d) + NORMAL_95, difference, 1)
    return float(low), float(high)


def _check_labels(first: list[str], second: list[str]) -> None:
    only_first, only_second = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    if only_first or only_second:
        parts = [
            f"only the {which} has {', '.join(labels)}"
            for which, labels in (("first", only_first), ("second", only_second))
            if labels
        ]
        raise FovsfeError(f"cannot compare: the labels differ; {'; '.join(parts)}")
