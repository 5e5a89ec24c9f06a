"""What the answers say about themselves: which labels are confused, how sure is sure, who would be missed."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.metrics import Ints, accuracy, log_losses, wilson_interval

BINS = 15  # as in metrics.calibration_error
MOST_FOR_BEST_ORDER = 200


def confusable_order(counts: Ints) -> Ints:
    """Of a confusion matrix (labels, labels), the labels in an order that keeps confusable ones together.

    Leaves of an average-linkage tree over the share of mistakes between two labels, turned so that
    neighbours are as near as they can be (Bar-Joseph et al. 2001, doi:10.1093/bioinformatics/17.suppl_1.S22).
    """
    num_classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mutual = shares + shares.T
    np.fill_diagonal(mutual, 0.0)
    if num_classes < 3 or not mutual.any():
        return np.arange(num_classes)
    distance = 1 - mutual / mutual.max()
    np.fill_diagonal(distance, 0.0)
    tree = linkage(
        squareform(distance, checks=False), "average", optimal_ordering=num_classes <= MOST_FOR_BEST_ORDER
    )
    return np.asarray(leaves_list(tree), np.int64)


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of confidence that have photos: (bins,) each."""

    confidence: Floats
    """mean"""
    accuracy: Floats
    interval: Floats
    """(bins, 2), 95 %"""
    photos: Ints


def reliability(probabilities: Floats, y_true: Ints) -> Reliability:
    """(n, classes), (n,) -> how often answers of like confidence are right, in the bins of the metrics."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y_true
    at = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    photos = np.bincount(at, minlength=BINS)
    some = photos > 0
    hits = np.bincount(at, weights=right, minlength=BINS)[some]
    return Reliability(
        confidence=np.bincount(at, weights=confidence, minlength=BINS)[some] / photos[some],
        accuracy=hits / photos[some],
        interval=np.array([wilson_interval(int(h), int(n)) for h, n in zip(hits, photos[some], strict=True)]),
        photos=photos[some].astype(np.int64),
    )


@dataclass(frozen=True)
class Coverage:
    """What is answered and how much of it is right, from the strictest threshold to none: (points,)."""

    threshold: Floats
    answered: Floats
    accuracy: Floats


def coverage(probabilities: Floats, y_true: Ints, points: int = 300) -> Coverage:
    """(n, classes), (n,) -> the trade between answering and being right, at up to `points` thresholds."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    right = np.cumsum((probabilities.argmax(axis=1) == y_true)[order])
    last = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))  # photos of one confidence go together
    last = last[np.unique(np.linspace(0, len(last) - 1, points).round().astype(np.int64))]
    return Coverage(sure[last], (last + 1) / len(y_true), right[last] / (last + 1))


def coverage_at(probabilities: Floats, y_true: Ints, threshold: float) -> tuple[float, float]:
    """The share of photos that reach `threshold`, and the accuracy on them (NaN where none does)."""
    known = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == y_true
    return float(known.mean()), float(right[known].mean()) if known.any() else float("nan")


def disagreement(probabilities: Floats) -> Floats:
    """(members, n, classes) -> (members, members): the share of photos that two answer differently."""
    answers = probabilities.argmax(axis=2)
    return np.asarray((answers[:, None] != answers[None]).mean(axis=2))


@dataclass(frozen=True)
class LeaveOneOut:
    """What the mean of all members would lose without one: positive where it is missed."""

    log_loss: float
    accuracy: float
    alone_right: int
    """photos that no other member has right"""


def leave_one_out(probabilities: Floats, y_true: Ints) -> list[LeaveOneOut]:
    """(members, n, classes), (n,) -> one a member, of at least two."""
    members = len(probabilities)
    total = probabilities.sum(axis=0)
    right = probabilities.argmax(axis=2) == y_true
    log_loss, share = log_losses(total / members, y_true).mean(), accuracy(total, y_true)
    result = []
    for member in range(members):
        others = (total - probabilities[member]) / (members - 1)
        alone = right[member] & (right.sum(axis=0) == 1)
        result.append(
            LeaveOneOut(
                float(log_losses(others, y_true).mean() - log_loss),
                share - accuracy(others, y_true),
                int(alone.sum()),
            )
        )
    return result
