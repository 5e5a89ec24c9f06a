"""Strangers: photos of something that the model never learned. Needs numpy and pydantic only.

Three signs are added up. How sure the blend is: minus the entropy of its probabilities. How well the best
label fits: the largest discriminant of a linear discriminant analysis (as the maximum logit of Hendrycks et
al. 2022, https://arxiv.org/abs/1911.11132). And how near the nearest held-out photo is (Sun et al. 2022,
https://arxiv.org/abs/2204.06507), as a cosine between the square roots of features, which takes no account of
how strong they are: that tells what is no such photo at all, where the other two know nothing.
`stranger_fitting` fits them.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from fovsfe.arrays import Float32s, Floats

LARGEST = 1e6  # that a feature is taken for, if it is infinite

WHY = "does not look like any of those that the model learned from"
"""of a photo that is "none of these", in English"""


@dataclass(frozen=True)
class FeatureSpace:
    """What held-out photos look like to one network, in the few directions of its features that matter."""

    basis: Float32s
    """(dimensions, width), orthonormal rows"""
    weight: Float32s
    """(labels, dimensions), of the discriminants"""
    bias: Float32s
    """(labels,)"""
    bank: Float32s
    """(photos, dimensions): held-out photos, each divided by its length before it was projected"""
    centre: Float32s
    """(2,), the means of the two measures of right answers"""
    scale: Float32s
    """(2,), their standard deviations"""

    def measure(self, features: Float32s) -> Floats:
        """Returns the largest discriminant and the nearness, standardised, (n, 2) of features (n, width)."""
        return np.asarray((self.raw_measure(features) - self.centre) / self.scale, np.float64)

    def raw_measure(self, features: Float32s) -> Floats:
        """Returns what `measure` does before it is standardised."""
        roots = square_roots(features)
        projected = roots @ self.basis.T
        lengths = np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
        discriminant = (projected @ self.weight.T + self.bias).max(axis=1)
        nearness = ((projected / lengths) @ self.bank.T).max(axis=1)
        return np.stack([discriminant, nearness], axis=1).astype(np.float64)


class StrangerRule(BaseModel):
    """When a photo is known: its score reaches `threshold`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: FiniteFloat
    certainty_centre: FiniteFloat
    """the mean of minus the entropy of right answers"""
    certainty_scale: Annotated[FiniteFloat, Field(gt=0)]
    """its standard deviation"""

    def scores(self, probabilities: Floats, measures: Sequence[Floats]) -> Floats:
        """Returns how well photos are known, (n,).

        Args:
            probabilities: of the blend, (n, labels).
            measures: for each member, the mean over its networks of what `FeatureSpace.measure` returns.
        """
        sure = (certainty(probabilities) - self.certainty_centre) / self.certainty_scale
        of_members = np.stack(measures)
        # One network to which it looks like nothing that it knows is enough.
        return np.asarray(sure + of_members[:, :, 0].mean(axis=0) + of_members[:, :, 1].min(axis=0))

    def are_known(self, probabilities: Floats, measures: Sequence[Floats]) -> NDArray[np.bool_]:
        """Returns whether photos are known, bool (n,); arguments as of `scores`."""
        return np.asarray(self.scores(probabilities, measures) >= self.threshold)


def certainty(probabilities: Floats) -> Floats:
    """Returns minus the entropy of probabilities, (n,) of (n, labels)."""
    return np.asarray((probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))


def square_roots(features: Float32s) -> Float32s:
    """Returns the square roots of features, with their signs: strong features count less."""
    features = np.nan_to_num(np.asarray(features, np.float32), posinf=LARGEST, neginf=-LARGEST)
    return np.asarray(np.sign(features) * np.sqrt(np.abs(features)), np.float32)


def write_spaces(file: Path, spaces: Sequence[Sequence[FeatureSpace]]) -> None:
    """Writes the spaces of each member's networks, as float16 where that is enough.

    Raises OSError if the file cannot be written.
    """
    arrays = {}
    for member, networks in enumerate(spaces):
        for network, space in enumerate(networks):
            for each in fields(space):
                values = getattr(space, each.name)
                kind = np.float16 if each.name in ("basis", "bank") else np.float32
                arrays[f"{member}/{network}/{each.name}"] = values.astype(kind)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read_spaces(file: Path, networks: Sequence[int], num_classes: int) -> list[list[FeatureSpace]]:
    """Returns what `write_spaces` wrote.

    Args:
        networks: how many each member has.
        num_classes: how many labels.

    Raises:
        ValueError: the file cannot be read, or is for other networks.
    """
    try:
        with np.load(file, allow_pickle=False) as saved:
            spaces = [
                [
                    FeatureSpace(
                        **{
                            each.name: np.asarray(saved[f"{member}/{k}/{each.name}"], np.float32)
                            for each in fields(FeatureSpace)
                        }
                    )
                    for k in range(count)
                ]
                for member, count in enumerate(networks)
            ]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    for space in (space for of_member in spaces for space in of_member):
        dimensions = len(space.basis)
        shapes = (space.weight.shape, space.bias.shape, space.bank.shape[1:])
        of_measures = space.centre.shape, space.scale.shape
        if shapes != ((num_classes, dimensions), (num_classes,), (dimensions,)) or of_measures != (
            (2,),
            (2,),
        ):
            raise ValueError(f"{file.name} is for other networks")
    return spaces
