"""Heads that are fitted again while one reviews: what the fixes bring, measured out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.comparison import Comparison, PredictionsById, compare_predictions
from fovsfe.ensemble.predictions import predictions_frame
from fovsfe.photos.fixes import Fix, signed
from fovsfe.report.label_errors import sure_label_errors
from fovsfe.review.material import Evidence, Photos
from fovsfe.search.probing import cross_validate_heads


def fit_heads(evidence: Evidence, y_true: Ints, is_removed: NDArray[np.bool_], num_classes: int) -> Floats:
    """Returns the probabilities (n, classes) of each photo, the mean of heads that were fitted without it.

    Args:
        evidence: with the features and folds of the photos.
        y_true: (n,), the labels that the heads learn.
        is_removed: (n,), the photos that no head learns; their rows are uniform.
        num_classes: how many labels there are.
    """
    kept = np.flatnonzero(~is_removed)
    inputs = torch.from_numpy(evidence.components[kept])[:, None].expand(-1, 2, -1)  # not mirrored
    result = np.full((len(y_true), num_classes), 1 / num_classes)
    drawn = [cross_validate_heads(inputs, y_true[kept], num_classes, folds[kept]) for folds in evidence.folds]
    result[kept] = np.mean(drawn, axis=0)
    return result


@dataclass(frozen=True)
class HonestGain:
    """What fixes have brought: heads that learned the corrected labels against heads that learned the
    given ones, on the same photos, each out of fold."""

    fixes: int
    """fixes that the heads have learned"""
    corrected: Comparison
    """judged by the corrected labels"""
    given: Comparison
    """judged by the given labels"""


def honest_gain(
    before: Floats,
    after: Floats,
    y_given: Ints,
    y_corrected: Ints,
    is_removed: NDArray[np.bool_],
    ids: Sequence[str],
    class_names: Sequence[str],
) -> HonestGain:
    """Compares the probabilities (n, classes) of heads before and after fixes.

    Photos that are removed judge neither.
    """
    kept = np.flatnonzero(~is_removed)
    names = [ids[row] for row in kept.tolist()]
    frames = [predictions_frame(names, class_names, each[kept]) for each in (before, after)]

    def judged(y_true: Ints) -> Comparison:
        labels = {photo: class_names[label] for photo, label in zip(names, y_true[kept], strict=True)}
        return compare_predictions(*(PredictionsById(frame, labels) for frame in frames))

    changed = int(is_removed.sum() + (y_given != y_corrected).sum())
    return HonestGain(changed, judged(y_corrected), judged(y_given))


def propose_labels(photos: Photos, evidence: Evidence) -> list[Fix]:
    """Returns fixes for the labels that are wrong in all probability, for somebody to look at.

    Heads that have not seen the photo are nearly certain of another label, and rule out the one that it has.
    """
    y_given, names = photos.y_given, photos.class_names
    probabilities = fit_heads(evidence, y_given, np.zeros(len(y_given), np.bool_), len(names))
    likeliest = probabilities.argmax(axis=1)
    ids, sha256 = list(photos.table["id"]), list(photos.table["sha256"])
    proposed = []
    for position in sure_label_errors(probabilities, y_given).tolist():
        row, label = photos.labelled[position], names[likeliest[position]]
        given, sure = names[y_given[position]], probabilities[position].max()
        why = f"looks like {label} ({sure:.0%}), and not like {given}"
        proposed.append(Fix(ids[row], sha256[row], "relabel", label, why=why))
    return [signed(fix) for fix in proposed]
