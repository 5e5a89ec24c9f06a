"""What the answers say about themselves: which labels are confused, how sure is sure, who would be missed."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.metrics import Ints, accuracy, losses, wilson

BINS = 15  # as in metrics.calibration_error
MOST_FOR_BEST_ORDER = 200


def confusable_order(counts: Ints) -> Ints:
    """Of a confusion matrix (labels, labels), the labels in an order that keeps confusable ones together.

    Leaves of an average-linkage tree over the share of mistakes between two labels, turned so that
    neighbours are as near as they can be (Bar-Joseph et al. 2001, doi:10.1093/bioinformatics/17.suppl_1.S22).
    """
    labels = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mutual = shares + shares.T
    np.fill_diagonal(mutual, 0.0)
    if labels < 3 or not mutual.any():
        return np.arange(labels)
    distance = 1 - mutual / mutual.max()
    np.fill_diagonal(distance, 0.0)
    tree = linkage(
        squareform(distance, checks=False), "average", optimal_ordering=labels <= MOST_FOR_BEST_ORDER
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


def reliability(probabilities: Floats, truth: Ints) -> Reliability:
    """(n, labels), (n,) -> how often answers of like confidence are right, in the bins of the metrics."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    at = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    photos = np.bincount(at, minlength=BINS)
    some = photos > 0
    hits = np.bincount(at, weights=right, minlength=BINS)[some]
    return Reliability(
        confidence=np.bincount(at, weights=confidence, minlength=BINS)[some] / photos[some],
        accuracy=hits / photos[some],
        interval=np.array([wilson(int(h), int(n)) for h, n in zip(hits, photos[some], strict=True)]),
        photos=photos[some].astype(np.int64),
    )


@dataclass(frozen=True)
class Coverage:
    """What is answered and how much of it is right, from the strictest threshold to none: (points,)."""

    threshold: Floats
    answered: Floats
    accuracy: Floats


def coverage(probabilities: Floats, truth: Ints, points: int = 300) -> Coverage:
    """(n, labels), (n,) -> the trade between answering and being right, at up to `points` thresholds."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    right = np.cumsum((probabilities.argmax(axis=1) == truth)[order])
    last = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))  # photos of one confidence go together
    last = last[np.unique(np.linspace(0, len(last) - 1, points).round().astype(np.int64))]
    return Coverage(sure[last], (last + 1) / len(truth), right[last] / (last + 1))


def answered_at(probabilities: Floats, truth: Ints, threshold: float) -> tuple[float, float]:
    """The share of photos that reach `threshold`, and the accuracy on them (NaN where none does)."""
    known = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == truth
    return float(known.mean()), float(right[known].mean()) if known.any() else float("nan")


def disagreement(probabilities: Floats) -> Floats:
    """(members, n, labels) -> (members, members): the share of photos that two answer differently."""
    answers = probabilities.argmax(axis=2)
    return np.asarray((answers[:, None] != answers[None]).mean(axis=2))


@dataclass(frozen=True)
class Missed:
    """What the mean of all members would lose without one: positive where it is missed."""

    log_loss: float
    accuracy: float
    alone_right: int
    """photos that no other member has right"""


def missed(probabilities: Floats, truth: Ints) -> list[Missed]:
    """(members, n, labels), (n,) -> one a member, of at least two."""
    members = len(probabilities)
    total = probabilities.sum(axis=0)
    right = probabilities.argmax(axis=2) == truth
    log_loss, share = losses(total / members, truth).mean(), accuracy(total, truth)
    result = []
    for member in range(members):
        others = (total - probabilities[member]) / (members - 1)
        alone = right[member] & (right.sum(axis=0) == 1)
        result.append(
            Missed(
                float(losses(others, truth).mean() - log_loss),
                share - accuracy(others, truth),
                int(alone.sum()),
            )
        )
    return result
