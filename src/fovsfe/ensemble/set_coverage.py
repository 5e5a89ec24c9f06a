"""How often label sets hold the true label, and how large they are, on photos without a part in them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.acceptance import group_folds
from fovsfe.ensemble.label_sets import COVERAGE, fit_label_sets
from fovsfe.ensemble.metrics import Share

FOLDS = 10


def measure_sets(
    probabilities: Floats, y_true: Ints, groups: Ints, class_names: Sequence[str], seed: int
) -> dict[str, Any] | None:
    """Returns what metrics hold of label sets: "coverage", what was asked for; "covered" of all photos, and
    "of_label", see `Share`; and "size", the mean number of labels in a set.

    Each photo's set is fitted to other photos. Returns None if there are too few photos for that.

    Args:
        probabilities: (n, classes), of held-out photos.
        y_true: (n,), positions of their labels.
        groups: (n,); near-duplicates, of one group, are never on both sides of a fold.
    """
    folds = group_folds(y_true, groups, seed, FOLDS)
    if folds is None:
        return None
    inside = np.zeros(probabilities.shape, np.bool_)
    for fold in np.unique(folds):
        held_out = folds == fold
        sets = fit_label_sets(probabilities[~held_out], y_true[~held_out])
        inside[held_out] = sets.contain(probabilities[held_out], COVERAGE)
    covered = inside[np.arange(len(y_true)), y_true]
    return {
        "coverage": COVERAGE,
        "covered": Share.of(covered).model_dump(mode="json"),
        "of_label": {
            name: Share.of(covered[y_true == label]).model_dump(mode="json")
            for label, name in enumerate(class_names)
            if (y_true == label).any()
        },
        "size": float(inside.sum(axis=1).mean()),
    }
