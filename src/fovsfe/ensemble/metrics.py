"""How good predictions are on photos whose true labels are known, with confidence intervals."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats
from sklearn.metrics import confusion_matrix

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import log_probabilities

NORMAL_95 = float(stats.norm.ppf(0.975))
"""95% of a normal distribution lies within this many standard deviations."""

BINS = 15  # of confidence, for the calibration error


class Metrics(BaseModel):
    """The figures of predictions, as `compute_metrics` returns them; photos are those with true labels."""

    model_config = ConfigDict(frozen=True)

    photos: int
    accuracy: float
    interval: tuple[float, float]
    """95% confidence interval of the accuracy (Wilson)"""
    log_loss: float
    calibration_error: float
    recall: dict[str, float | None]
    """by label; None for a label that no photo has"""
    precision: dict[str, float | None]
    """by label; None for a label that was never predicted"""
    most_confused: tuple[str, str, int] | None
    """the two labels most often taken for each other, and how often; None without mistakes"""


class McNemarResult(BaseModel):
    """McNemar's test of two predictions for the same photos, as `mcnemar` returns it."""

    model_config = ConfigDict(frozen=True)

    only_first: int
    """photos that only the first predicts correctly"""
    only_second: int
    """photos that only the second predicts correctly"""
    difference: float
    """accuracy of the second less that of the first"""
    p_value: float
    """exact, two-sided; 1 without photos that only one predicts correctly"""


def compute_metrics(probabilities: Floats, y_true: Ints, class_names: Sequence[str]) -> Metrics:
    """Returns the figures of probabilities (n, classes) for photos with the true labels `y_true` (n,).

    Raises ValueError if there are no photos or the shapes do not match.
    """
    if len(y_true) == 0 or probabilities.shape != (len(y_true), len(class_names)):
        raise ValueError(
            f"{probabilities.shape} probabilities for {len(y_true)} photos of {len(class_names)} labels"
        )
    counts = confusion(probabilities, y_true)
    correct = np.diag(counts)
    return Metrics(
        photos=len(y_true),
        accuracy=accuracy(probabilities, y_true),
        interval=wilson_interval(int(correct.sum()), len(y_true)),
        log_loss=float(log_losses(probabilities, y_true).mean()),
        calibration_error=calibration_error(probabilities, y_true),
        recall=_ratios(correct, counts.sum(axis=1), class_names),
        precision=_ratios(correct, counts.sum(axis=0), class_names),
        most_confused=most_confused(counts, class_names),
    )


def accuracy(probabilities: Floats, y_true: Ints) -> float:
    """Returns the fraction of rows of (n, classes) whose highest probability is the true label's."""
    return float((probabilities.argmax(axis=1) == y_true).mean())


def log_losses(probabilities: Floats, y_true: Ints) -> Floats:
    """Returns the log loss of each photo, (n,) of (n, classes)."""
    return -log_probabilities(probabilities[np.arange(len(y_true)), y_true])


def wilson_interval(correct: int, photos: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of the fraction correct/photos.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": within 0 and 1 at the
    ends too. Raises ValueError without photos.
    """
    interval = stats.binomtest(correct, photos).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def calibration_error(probabilities: Floats, y_true: Ints, bins: int = BINS) -> float:
    """Returns the expected calibration error of (n, classes).

    It is the mean distance between confidence and accuracy over bins of equal width.

    Guo et al. 2017, "On calibration of modern neural networks", https://arxiv.org/abs/1706.04599, with their
    15 bins.
    """
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == y_true)
    per_bin = np.bincount(confidence_bin(confidence, bins), weights=surplus, minlength=bins)
    return float(np.abs(per_bin).sum() / len(y_true))


def confidence_bin(confidence: Floats, bins: int = BINS) -> Ints:
    """Returns the bin of equal width that each confidence of (n,) falls into, 0 to `bins` - 1, int64 (n,)."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def confusion(probabilities: Floats, y_true: Ints) -> Ints:
    """Returns the confusion matrix of (n, classes), int64: one row per true label."""
    labels = np.arange(probabilities.shape[1])
    return np.asarray(confusion_matrix(y_true, probabilities.argmax(axis=1), labels=labels), np.int64)


def most_confused(counts: Ints, class_names: Sequence[str]) -> tuple[str, str, int] | None:
    """Returns the two labels most often taken for each other, in either direction, and how often.

    `counts` is a confusion matrix. Returns None without mistakes.
    """
    both_ways = np.triu(counts + counts.T, k=1)
    first, second = np.unravel_index(both_ways.argmax(), both_ways.shape)
    mistakes = int(both_ways[first, second])
    return (class_names[int(first)], class_names[int(second)], mistakes) if mistakes else None


def mcnemar(first: Floats, second: Floats, y_true: Ints) -> McNemarResult:
    """Returns the exact McNemar test of two predictions (n, classes) for the same photos.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages".
    """
    first_correct, second_correct = first.argmax(axis=1) == y_true, second.argmax(axis=1) == y_true
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((second_correct & ~first_correct).sum())
    discordant = only_first + only_second
    return McNemarResult(
        only_first=only_first,
        only_second=only_second,
        difference=(only_second - only_first) / len(y_true),
        p_value=float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    )


def _ratios(counts: Ints, totals: Ints, class_names: Sequence[str]) -> dict[str, float | None]:
    return {
        name: float(count / total) if total else None
        for name, count, total in zip(class_names, counts, totals, strict=True)
    }
