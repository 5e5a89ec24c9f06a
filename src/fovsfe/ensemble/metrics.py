"""How good predictions are on photos whose true labels are known, with confidence intervals."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats
from sklearn.metrics import confusion_matrix

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import log_probabilities
from fovsfe.recipe import MetricName

NORMAL_95 = float(stats.norm.ppf(0.975))
"""95% of a normal distribution lies within this many standard deviations."""

BINS = 15  # of confidence, for the calibration error
MAX_CONFIDENCE_BINS, PHOTOS_PER_BIN = 10, 30  # at most so many bins, of about so many answers or more


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


class ConfidenceBin(BaseModel):
    """Answers for held-out photos whose confidence is alike: from `low` to the next bin's."""

    model_config = ConfigDict(frozen=True)

    low: float
    photos: int
    right: int


class HeldOutAnswers(BaseModel):
    """Answers for held-out photos, which those of the service are compared with."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[int, ...]
    """how many name each label, in the order of the class names"""
    unknown: int
    """how many are "none of these\""""
    confidence: float
    """the mean of those that name a label; 0 if none does"""

    @classmethod
    def of(cls, probabilities: Floats, known: NDArray[np.bool_]) -> "HeldOutAnswers":
        """Counts answers, of probabilities (n, classes); those that are not `known`, (n,), name no label."""
        named = probabilities[known]
        counts = np.bincount(named.argmax(axis=1), minlength=probabilities.shape[1])
        confidence = float(named.max(axis=1).mean()) if len(named) else 0.0
        return cls(labels=tuple(counts.tolist()), unknown=int((~known).sum()), confidence=confidence)


class HeadlineMetrics(Metrics):
    """The figures that a run is reported by, as `headline_metrics` returns them."""

    metric: MetricName
    """what the blend was selected by"""
    score: float
    """the value of `metric`: the higher, the better, but for the log loss"""
    baselines: dict[str, float]
    """the accuracy of "most_frequent", always the most frequent label of these photos, and of "guessing\""""
    bins: tuple[ConfidenceBin, ...]
    """about as many photos in each; in a bundle, of the answers that are not "none of these\""""
    reference: HeldOutAnswers


class Share(BaseModel):
    """A share of photos with its 95% confidence interval (Wilson)."""

    model_config = ConfigDict(frozen=True)

    photos: int
    count: int
    share: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, flags: NDArray[np.bool_]) -> "Share":
        """Returns the share of photos whose flag, of (n,), is true. Raises ValueError without photos."""
        count, photos = int(flags.sum()), len(flags)
        interval = wilson_interval(count, photos)
        return cls(photos=photos, count=count, share=count / photos, interval=interval)


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


def headline_metrics(
    probabilities: Floats, y_true: Ints, class_names: Sequence[str], metric: MetricName
) -> HeadlineMetrics:
    """Returns what `compute_metrics` does, with the value of `metric`, the baselines, how often answers
    were right, by confidence, and how many name each label.

    The photos must have had no part in any choice. Raises ValueError as `compute_metrics` does.
    """
    metrics = compute_metrics(probabilities, y_true, class_names)
    return HeadlineMetrics(
        **metrics.model_dump(),
        metric=metric,
        score=abs(score(metric, probabilities.argmax(axis=1), log_losses(probabilities, y_true), y_true)),
        baselines={
            "most_frequent": float(np.bincount(y_true).max() / len(y_true)),
            "guessing": 1 / len(class_names),
        },
        bins=confidence_bins(probabilities, y_true),
        reference=HeldOutAnswers.of(probabilities, np.ones(len(y_true), np.bool_)),
    )


def score(metric: MetricName, predicted: Ints, losses: Floats, y_true: Ints) -> float:
    """Returns how good predictions are by a metric, the higher the better.

    "balanced" is the mean recall and "f1" the mean F1 score of the labels that photos have; "logloss" is the
    negative log loss.

    Args:
        predicted: (n,), positions of the most likely labels.
        losses: (n,), as `log_losses` returns them.
        y_true: (n,), positions of the true labels.
    """
    if metric == "accuracy":
        return float((predicted == y_true).mean())
    if metric == "logloss":
        return -float(losses.mean())
    labels = int(max(predicted.max(), y_true.max())) + 1
    hits = np.bincount(y_true[predicted == y_true], minlength=labels)
    true_counts, predicted_counts = (np.bincount(each, minlength=labels) for each in (y_true, predicted))
    there = true_counts > 0
    if metric == "balanced":
        return float((hits[there] / true_counts[there]).mean())
    if metric == "f1":
        return float((2 * hits[there] / (true_counts + predicted_counts)[there]).mean())
    assert_never(metric)


def photo_weights(metric: MetricName, y_true: Ints) -> Floats:
    """Returns what each photo (n,) weighs, 1 on average.

    For "balanced" and "f1", which look at labels one by one, the photos of a label weigh together as much as
    those of any other; for the other metrics, all photos weigh the same.
    """
    if metric in ("accuracy", "logloss"):
        return np.ones(len(y_true))
    counts = np.bincount(y_true)
    return np.asarray(len(y_true) / (np.count_nonzero(counts) * counts[y_true]))


def confidence_bins(probabilities: Floats, y_true: Ints) -> tuple[ConfidenceBin, ...]:
    """Returns how often answers, (n, classes), were right, by their confidence; no bins without answers."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y_true
    if not len(confidence):
        return ()
    count = int(np.clip(len(confidence) // PHOTOS_PER_BIN, 1, MAX_CONFIDENCE_BINS))
    lows = np.unique(np.quantile(confidence, np.arange(count) / count, method="lower"))
    position = np.searchsorted(lows, confidence, side="right") - 1
    photos, hits = (np.bincount(position, weights, len(lows)) for weights in (None, right))
    return tuple(
        ConfidenceBin(low=float(low), photos=int(n), right=int(h))
        for low, n, h in zip(lows, photos, hits, strict=True)
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
