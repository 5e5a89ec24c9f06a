"""Label sets: the few labels among which the true one is in a stated share of cases.

Conformal prediction (Vovk et al. 2005, Algorithmic Learning in a Random World; Sadinle et al. 2019, Least
Ambiguous Set-Valued Classifiers, https://arxiv.org/abs/1609.00451): a label is in the set of a photo if its
probability is as high as that of the true label of all but a few held-out photos. How high that is, each
label says by its own photos, if it has enough (Mondrian), or else all photos together. Needs no more than
numpy and pydantic.
"""

from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from fovsfe.arrays import Floats, Ints

COVERAGE = 0.95
"""the share of photos whose set holds the true label, where nobody asks for another"""
LEAST_COVERAGE = 0.5
OWN_PHOTOS = 20  # of a label, from which on it goes by its own photos: one of them may be missed at 95%

Probabilities = tuple[Annotated[FiniteFloat, Field(ge=0, le=1)], ...]


class LabelSets(BaseModel):
    """What label sets follow from: the lower half of the true labels' probabilities on held-out photos.

    No coverage below a half needs the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos: Annotated[int, Field(ge=1)]
    lowest: Probabilities
    """of all photos, ascending"""
    photos_of_label: tuple[Annotated[int, Field(ge=0)], ...]
    """(classes,)"""
    lowest_of_label: tuple[Probabilities, ...]
    """(classes,) of the label's photos; none of a label that has too few"""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if len(self.photos_of_label) != len(self.lowest_of_label):
            raise ValueError("as many counts as lists of probabilities are needed")
        counts = (self.photos, *self.photos_of_label)
        for count, lowest in zip(counts, (self.lowest, *self.lowest_of_label), strict=True):
            if lowest and (len(lowest) != _kept(count) or list(lowest) != sorted(lowest)):
                raise ValueError("the lower half of the probabilities is needed, ascending")
        return self

    def thresholds(self, coverage: float) -> Floats:
        """Returns the probability from which on each label is in a set, (classes,).

        Raises ValueError for a coverage that is not from 0.5 to 1.
        """
        if not LEAST_COVERAGE <= coverage <= 1:
            raise ValueError(f"a coverage of {coverage} is not one from {LEAST_COVERAGE} to 1")
        of_all = _quantile(self.lowest, self.photos, 1 - coverage)
        return np.array(
            [
                _quantile(lowest, photos, 1 - coverage)
                if lowest and (1 - coverage) * (photos + 1) >= 1
                else of_all
                for lowest, photos in zip(self.lowest_of_label, self.photos_of_label, strict=True)
            ]
        )

    def contain(self, probabilities: Floats, coverage: float) -> "np.typing.NDArray[np.bool_]":
        """Returns which labels are in the set of each photo, bool (n, classes) of (n, classes) probabilities.

        The most likely label always is. Raises ValueError as `thresholds` does.
        """
        inside = probabilities >= self.thresholds(coverage)
        inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
        return np.asarray(inside)

    def labels(self, probabilities: Floats, coverage: float) -> list[int]:
        """Returns the set of one photo, of probabilities (classes,): positions, the most likely first.

        Raises ValueError as `thresholds` does.
        """
        order = np.argsort(-probabilities, kind="stable")
        inside = self.contain(probabilities[None], coverage)[0]
        return [int(label) for label in order if inside[label]]


def fit_label_sets(probabilities: Floats, y_true: Ints) -> LabelSets:
    """Fits label sets to held-out photos: probabilities (n, classes), and positions of their labels (n,).

    Raises ValueError without photos.
    """
    true = probabilities[np.arange(len(y_true)), y_true]
    counts = np.bincount(y_true, minlength=probabilities.shape[1])
    return LabelSets(
        photos=len(y_true),
        lowest=_lowest(true),
        photos_of_label=tuple(counts.tolist()),
        lowest_of_label=tuple(
            _lowest(true[y_true == label]) if count >= OWN_PHOTOS else ()
            for label, count in enumerate(counts)
        ),
    )


def _lowest(values: Floats) -> Probabilities:
    kept = np.sort(values)[: _kept(len(values))]
    return tuple(float(f"{value:.6g}") for value in kept)


def _kept(photos: int) -> int:
    return min(photos // 2 + 2, photos)


def _quantile(lowest: Probabilities, photos: int, share: float) -> float:
    """Returns the value that a new photo's is below with the chance `share`; 0 if there are too few photos.

    It is rank `share` * (photos + 1), and between two ranks the logarithms are interpolated: taking the lower
    rank covers far more than was asked for where photos are few.
    """
    rank = share * (photos + 1)
    lower = int(rank + 1e-9)
    if lower < 1:
        return 0.0
    below = lowest[lower - 1]
    above = lowest[min(lower, len(lowest) - 1)]
    part = max(rank - lower, 0.0)
    return float(max(below, 1e-12) ** (1 - part) * max(above, 1e-12) ** part)
