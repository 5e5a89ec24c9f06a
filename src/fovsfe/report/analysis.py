"""What held-out predictions show: confused labels, calibration, and what each member adds."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.metrics import BINS, accuracy, confidence_bin, log_losses, wilson_interval

MAX_OPTIMAL_ORDERING = 200  # labels; the optimal order of more takes too long


def confusable_order(counts: Ints) -> Ints:
    """Returns an order of labels in which confusable ones stand together, int64 (classes,).

    The order is that of the leaves of an average-linkage tree over the share of mistakes between two labels,
    turned so that neighbours are as similar as possible (Bar-Joseph et al. 2001,
    doi:10.1093/bioinformatics/17.suppl_1.S22). It stays as it is for fewer than three labels or without
    mistakes.

    Args:
        counts: a confusion matrix, int64 (classes, classes).
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
        squareform(distance, checks=False), "average", optimal_ordering=num_classes <= MAX_OPTIMAL_ORDERING
    )
    return np.asarray(leaves_list(tree), np.int64)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over confidence, without the empty ones: arrays of (bins,)."""

    confidence: Floats
    """the mean of each bin"""
    accuracy: Floats
    interval: Floats
    """(bins, 2), the 95% interval of the accuracy"""
    photos: Ints


def reliability(probabilities: Floats, y_true: Ints) -> Reliability:
    """Returns how often predictions of similar confidence are right, in the bins of the calibration error.

    Args:
        probabilities: float64 (n, classes).
        y_true: int64 (n,), the positions of the true labels.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y_true
    bin_of_photo = confidence_bin(confidence)
    photos = np.bincount(bin_of_photo, minlength=BINS)
    filled = photos > 0
    hits = np.bincount(bin_of_photo, weights=right, minlength=BINS)[filled]
    photos_of_filled = photos[filled]
    return Reliability(
        confidence=np.bincount(bin_of_photo, weights=confidence, minlength=BINS)[filled] / photos_of_filled,
        accuracy=hits / photos_of_filled,
        interval=np.array(
            [wilson_interval(int(h), int(n)) for h, n in zip(hits, photos_of_filled, strict=True)]
        ),
        photos=photos_of_filled.astype(np.int64),
    )


def disagreement(probabilities: Floats) -> Floats:
    """Returns the share of photos for which two members predict different labels, (members, members).

    Args:
        probabilities: float64 (members, n, classes).
    """
    predicted = probabilities.argmax(axis=2)
    return np.asarray((predicted[:, None] != predicted[None]).mean(axis=2))


@dataclass(frozen=True)
class LeaveOneOut:
    """What the mean of all members loses without one of them; positive where the member helps."""

    log_loss: float
    """the increase"""
    accuracy: float
    """the decrease"""
    only_right: int
    """photos that no other member has right"""


def leave_one_out(probabilities: Floats, y_true: Ints) -> list[LeaveOneOut]:
    """Returns what each of at least two members adds to the mean of all.

    Args:
        probabilities: float64 (members, n, classes).
        y_true: int64 (n,), the positions of the true labels.
    """
    num_members = len(probabilities)
    total = probabilities.sum(axis=0)
    right = probabilities.argmax(axis=2) == y_true
    log_loss_of_all, accuracy_of_all = log_losses(total / num_members, y_true).mean(), accuracy(total, y_true)
    result = []
    for member in range(num_members):
        others = (total - probabilities[member]) / (num_members - 1)
        only_right = right[member] & (right.sum(axis=0) == 1)
        result.append(
            LeaveOneOut(
                float(log_losses(others, y_true).mean() - log_loss_of_all),
                accuracy_of_all - accuracy(others, y_true),
                int(only_right.sum()),
            )
        )
    return result
