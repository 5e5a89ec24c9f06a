"""How good predictions are on photos whose true labels are known, with error bars."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fovsfe.ensemble.blend import Floats, log_probabilities

Ints = NDArray[np.int64]

NORMAL_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: 95 % lie within."""


class Metrics(BaseModel):
    """Figures of one prediction; `measure` makes them, `model_dump_json` writes them."""

    model_config = ConfigDict(frozen=True)

    photos: int
    accuracy: float
    interval: tuple[float, float]
    """95 %, Wilson"""
    log_loss: float
    calibration_error: float
    recall: dict[str, float | None]
    """None for a label that none of the photos has"""
    precision: dict[str, float | None]
    """None for a label that was never answered"""
    hardest_pair: tuple[str, str, int] | None
    """the two labels most often taken for each other, and how often"""


class Comparison(BaseModel):
    """Two predictions on the same photos."""

    model_config = ConfigDict(frozen=True)

    only_first: int
    """photos that only the first has right"""
    only_second: int
    difference: float
    """accuracy of the second less that of the first"""
    p_value: float
    """exact McNemar, two-sided"""


def compute_metrics(probabilities: Floats, y_true: Ints, class_names: Sequence[str]) -> Metrics:
    """(n, classes), int (n,) indices into `labels` -> Metrics. ValueError for no photos or other shapes."""
    if len(y_true) == 0 or probabilities.shape != (len(y_true), len(class_names)):
        raise ValueError(
            f"{probabilities.shape} probabilities for {len(y_true)} photos of {len(class_names)} labels"
        )
    counts = confusion(probabilities, y_true)
    right = np.diag(counts)
    return Metrics(
        photos=len(y_true),
        accuracy=accuracy(probabilities, y_true),
        interval=wilson_interval(int(right.sum()), len(y_true)),
        log_loss=float(log_losses(probabilities, y_true).mean()),
        calibration_error=calibration_error(probabilities, y_true),
        recall=_shares(right, counts.sum(axis=1), class_names),
        precision=_shares(right, counts.sum(axis=0), class_names),
        hardest_pair=hardest_pair(counts, class_names),
    )


def accuracy(probabilities: Floats, y_true: Ints) -> float:
    """The share of (n, classes) whose highest probability is at the true label."""
    return float((probabilities.argmax(axis=1) == y_true).mean())


def log_losses(probabilities: Floats, y_true: Ints) -> Floats:
    """(n, classes), (n,) -> (n,): minus the log of the true label's probability; the mean is log loss."""
    return -log_probabilities(probabilities[np.arange(len(y_true)), y_true])


def wilson_interval(right: int, photos: int) -> tuple[float, float]:
    """The 95 % score interval of the share right/photos (Wilson 1927); within 0 and 1 also at the ends."""
    share, squared = right / photos, NORMAL_95**2 / photos
    centre = share + squared / 2
    reach = NORMAL_95 * math.sqrt(share * (1 - share) / photos + squared / photos / 4)
    low = 0.0 if right == 0 else (centre - reach) / (1 + squared)
    high = 1.0 if right == photos else (centre + reach) / (1 + squared)
    return low, high


def calibration_error(probabilities: Floats, y_true: Ints, bins: int = 15) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over equal-width bins.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, with their 15 bins.
    """
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == y_true)
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(at, weights=surplus, minlength=bins)).sum() / len(y_true))


def confusion(probabilities: Floats, y_true: Ints) -> Ints:
    """(n, classes), (n,) -> int64 (labels, labels): a row a true label, a column an answer."""
    class_names = probabilities.shape[1]
    cells = np.bincount(
        y_true * class_names + probabilities.argmax(axis=1), minlength=class_names * class_names
    )
    return cells.reshape(class_names, class_names).astype(np.int64)


def hardest_pair(counts: Ints, class_names: Sequence[str]) -> tuple[str, str, int] | None:
    """Of a confusion matrix, the two labels most often taken for each other; None without mistakes."""
    both_ways = np.triu(counts + counts.T, k=1)
    first, second = np.unravel_index(both_ways.argmax(), both_ways.shape)
    mistakes = int(both_ways[first, second])
    return (class_names[int(first)], class_names[int(second)], mistakes) if mistakes else None


def mcnemar(first: Floats, second: Floats, y_true: Ints) -> Comparison:
    """Two (n, classes) predictions of the same photos; exact McNemar test on the photos they disagree on."""
    first_right, second_right = first.argmax(axis=1) == y_true, second.argmax(axis=1) == y_true
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    disputed = only_first + only_second
    tail = sum(math.comb(disputed, k) for k in range(min(only_first, only_second) + 1))
    return Comparison(
        only_first=only_first,
        only_second=only_second,
        difference=(only_second - only_first) / len(y_true),
        p_value=min(1.0, 2 * tail / 2**disputed),
    )


def _shares(right: Ints, of: Ints, class_names: Sequence[str]) -> dict[str, float | None]:
    return {name: float(r / n) if n else None for name, r, n in zip(class_names, right, of, strict=True)}
