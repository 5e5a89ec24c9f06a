"""What more photos would bring: heads on frozen features of growing shares of the photos, and a fitted curve.

The error falls as a power law with the number of photos (Hestness et al. 2017,
https://arxiv.org/abs/1712.00409). The heads are those of `training.discriminant` on principal components, so
all of it takes seconds. That a curve of half of the photos tells the accuracy with all of them is measured by
`python -m benchmarks learning_curves`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fovsfe.arrays import Float32s, Floats, Ints
from fovsfe.training.discriminant import SHRINKAGES, heads_by_shrinkage

WIDTH = 192  # principal components that heads are fitted to; more are no more accurate
SHARES = tuple(2 ** (-step / 2) for step in range(7))  # of the photos, 1 to 1/8
FEWEST_OF_A_LABEL = 3  # photos of a label, on average, in the smallest share
FEWEST_SHARES = 4  # that a curve can be fitted to
DRAWS = 6  # of which photos are taken, each with other folds
LABEL_SHARES, LABEL_DRAWS = (0.25, 0.5), 4  # of one label's photos, while the others keep all
MOST_LABELS = 12  # that more photos are tried for: those with most mistakes
ROUND_NUMBERS = (5, 10, 20, 50, 100, 200, 500, 1000)  # of photos to add
REPLICATES = 1000  # of the bootstrap
AHEAD = 2.0  # times the photos that there are: as far as is predicted
EXPONENTS = np.linspace(0.05, 1.5, 30)
LOG_PRIOR = -0.5 * (np.log(EXPONENTS / 0.4) / 0.6) ** 2 - np.log(EXPONENTS)
"""log-normal: most published exponents of classifiers lie between 0.1 and 1"""


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gain(_Figures):
    """What more photos would bring."""

    photos: int
    """how many more"""
    gain: float
    """of the accuracy, 0 to 1"""
    interval: tuple[float, float]
    """95%"""


class LabelGain(_Figures):
    """What more photos of one label would bring to the accuracy on photos of all labels."""

    label: str
    photos: int
    """of the label now"""
    gain: Gain | None
    """None for a label with few mistakes: it has little to gain"""


class CurvePoint(_Figures):
    """The accuracy with so many photos."""

    photos: int
    accuracy: float
    interval: tuple[float, float] | None
    """95%, of the difference from the accuracy now; None where it is measured, not predicted"""


class LearningCurve(_Figures):
    """How the accuracy of a run grows with the number of its photos.

    The heads' errors are scaled to the error of the run: what share of the mistakes more photos avoid is
    taken to be the same.
    """

    photos: int
    """that have labels now"""
    accuracy: float
    """of the run"""
    heads_accuracy: float
    """of the heads, out of fold, with all photos"""
    measured: tuple[CurvePoint, ...]
    predicted: tuple[CurvePoint, ...]
    doubled: Gain
    labels: tuple[LabelGain, ...]


@dataclass(frozen=True)
class PowerLaw:
    """Samples (REPLICATES,) of error = limit + scale * share ** -exponent; 1 is all photos there are."""

    limit: Floats
    scale: Floats
    exponent: Floats

    def error(self, share: float) -> Floats:
        """Returns the error, (REPLICATES,), with `share` times the photos."""
        return np.asarray(self.limit + self.scale * share**-self.exponent)


@dataclass(frozen=True)
class Measurement:
    """Which photos heads on growing shares of the photos have wrong, out of fold."""

    shares: Floats
    """(shares,), the largest first"""
    wrong: Floats
    """(shares, draws, n): 1 for wrong, 0 for right"""
    shrinkage: int
    """the best one's position with all photos"""


def measure_learning_curve(
    features: Float32s,
    y_true: Ints,
    groups: Ints,
    folds: Sequence[Ints],
    class_names: Sequence[str],
    counts: Ints,
    accuracy: float,
    seed: int,
) -> LearningCurve | None:
    """Returns what more photos would bring; None if there are too few to say.

    Args:
        features: of all labelled photos, or of some of them where there are very many, (n, width).
        y_true: (n,), the positions of their labels.
        groups: (n,): near-duplicates have the same.
        folds: DRAWS assignments of each photo to a fold, (n,) each.
        class_names: the names of the labels.
        counts: (classes,), of all labelled photos.
        accuracy: of the run, 0 to 1.
        seed: the same seed gives the same curve.
    """
    data, random = (
        HeadData.of(principal_components(features), y_true, len(class_names)),
        np.random.default_rng(seed),
    )
    measured = measure(data, folds, random)
    if len(measured.shares) < FEWEST_SHARES:
        return None
    weights = bootstrap_weights(groups, random)
    law = fit_power_law(measured, weights, random)
    of_heads = float(measured.wrong[0].mean())
    smallest = 0.5 / len(y_true)  # error that can be told from none
    scale = (1 - accuracy) / np.maximum(law.error(1), smallest)

    def gain(photos: int, samples: Floats) -> Gain:
        low, middle, high = np.percentile(samples, (2.5, 50, 97.5)).tolist()
        return Gain(photos=photos, gain=middle, interval=(low, high))

    count = int(counts.sum())
    more = max((n for n in ROUND_NUMBERS if n <= np.median(counts)), default=ROUND_NUMBERS[0])
    of_label = _label_gains(data, measured, folds, weights, law.exponent, counts, more, random)
    return LearningCurve(
        photos=count,
        accuracy=accuracy,
        heads_accuracy=1 - of_heads,
        measured=tuple(
            CurvePoint(
                photos=round(share * count),
                accuracy=max(1 - (1 - accuracy) * error / max(of_heads, smallest), 0.0),
                interval=None,
            )
            for share, error in zip(
                measured.shares.tolist(), measured.wrong.mean(axis=(1, 2)).tolist(), strict=True
            )
        ),
        predicted=tuple(
            CurvePoint(photos=round(share * count), accuracy=middle, interval=(low, high))
            for share in np.linspace(1, AHEAD, 9).tolist()
            for low, middle, high in [np.percentile(1 - scale * law.error(share), (2.5, 50, 97.5)).tolist()]
        ),
        doubled=gain(count, scale * (law.error(1) - law.error(2))),
        labels=tuple(
            LabelGain(
                label=name,
                photos=int(counts[label]),
                gain=gain(more, scale * of_label[label]) if label in of_label else None,
            )
            for label, name in enumerate(class_names)
        ),
    )


def principal_components(features: Float32s) -> Float32s:
    """Returns the first WIDTH principal components of features (n, width), of unit variance in all."""
    centred = torch.from_numpy(features - features.mean(0))
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = centred @ vectors[:, -WIDTH:]
    scaled: Float32s = (components / components.square().sum(1).mean().sqrt().clamp(min=1e-12)).numpy()
    return scaled


def measure(data: "HeadData", folds: Sequence[Ints], random: np.random.Generator) -> Measurement:
    """Fits heads to growing shares of the photos, each share with the shrinkage that suits it best."""
    present = len(np.unique(data.labels))
    shares = [share for share in SHARES if share * len(data.labels) >= FEWEST_OF_A_LABEL * present]
    wrong = np.zeros((len(shares), len(folds), len(SHRINKAGES), len(data.labels)), np.float32)
    for draw, fold in enumerate(folds):
        rank = _relative_rank(data.labels.numpy(), random)
        for index, share in enumerate(shares):
            wrong[index, draw] = data.wrong(rank < share, fold)
    best = wrong.mean(axis=(1, 3)).argmin(axis=1)
    chosen = wrong[np.arange(len(shares)), :, best].astype(np.float64)
    return Measurement(np.array(shares), chosen, int(best[0]) if shares else 0)


def fit_power_law(measured: Measurement, weights: Floats, random: np.random.Generator) -> PowerLaw:
    """Returns one power law for each of the bootstrap's `weights` (REPLICATES, n) of the photos.

    Draws are resampled, too. Limit and scale are fitted by least squares, neither below 0; the exponent,
    which few shares can hardly tell, is drawn by its posterior probability.
    """
    shares, draws, _ = measured.wrong.shape
    of_draws = np.tensordot(weights, measured.wrong, axes=(1, 2))
    drawn = random.integers(draws, size=(len(weights), shares, draws))
    errors = np.take_along_axis(of_draws, drawn, axis=2).mean(axis=2)
    variance = measured.wrong.mean(axis=2).var(axis=1, ddof=1) / draws
    precision = 1 / (np.maximum(variance, variance.mean() / 2) + 1e-6)
    limits, scales, log_posterior = (np.empty((len(weights), len(EXPONENTS))) for _ in range(3))
    for index, exponent in enumerate(EXPONENTS):
        power = measured.shares**-exponent
        limit, scale = _fit_line(power, errors, precision)
        residual = errors - limit[:, None] - scale[:, None] * power
        limits[:, index], scales[:, index] = limit, scale
        log_posterior[:, index] = LOG_PRIOR[index] - 0.5 * (precision * residual**2).sum(axis=1)
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    cumulated = np.cumsum(posterior / posterior.sum(axis=1, keepdims=True), axis=1)
    index = (random.random((len(weights), 1)) > cumulated[:, :-1]).sum(axis=1)
    rows = np.arange(len(weights))
    return PowerLaw(limits[rows, index], scales[rows, index], EXPONENTS[index])


def _fit_line(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Returns a and b of y = a + b * x by weighted least squares, both at least 0; (rows,) of y (rows, n)."""
    mean_x, mean_y = (weight * x).sum() / weight.sum(), (weight * y).sum(axis=1) / weight.sum()
    slope = (weight * (x - mean_x) * y).sum(axis=1) / (weight * (x - mean_x) ** 2).sum()
    slope = np.maximum(slope, 0)
    intercept = mean_y - slope * mean_x
    through_zero = (weight * x * y).sum(axis=1) / (weight * x**2).sum()
    return np.maximum(intercept, 0), np.where(intercept < 0, through_zero, slope)


def _label_gains(
    data: "HeadData",
    measured: Measurement,
    folds: Sequence[Ints],
    weights: Floats,
    exponent: Floats,
    counts: Ints,
    more: int,
    random: np.random.Generator,
) -> dict[int, Floats]:
    """Returns samples (REPLICATES,) of how much the error falls by `more` photos of a label, for the labels
    with most mistakes; the exponent is that of all photos."""
    labels = data.labels.numpy()
    mistakes = np.bincount(labels, measured.wrong[0].mean(axis=0), minlength=len(counts))
    most = [int(each) for each in np.argsort(-mistakes, kind="stable")[:MOST_LABELS] if mistakes[each] > 0]
    draws = folds[:LABEL_DRAWS]
    ranks = [_relative_rank(labels, random) for _ in draws]
    # The same folds and shrinkage, so that nothing but the label's photos differs.
    base = np.mean(
        [data.wrong(rank < 1, fold)[measured.shrinkage] for rank, fold in zip(ranks, draws, strict=True)],
        axis=0,
    )
    result = {}
    for label in most:
        errors = [weights @ base]
        for share in LABEL_SHARES:
            wrong = [
                data.wrong((labels != label) | (rank < share), fold)[measured.shrinkage]
                for rank, fold in zip(ranks, draws, strict=True)
            ]
            errors.append(weights @ np.mean(wrong, axis=0))
        powers = np.stack([share**-exponent for share in (1.0, *LABEL_SHARES)])
        centred = powers - powers.mean(axis=0)
        slope = (centred * np.stack(errors)).sum(axis=0) / (centred**2).sum(axis=0)
        result[label] = slope * (1 - (1 + more / counts[label]) ** -exponent)
    return result


def bootstrap_weights(groups: Ints, random: np.random.Generator) -> Floats:
    """Returns what each photo weighs in each replicate, (REPLICATES, n); groups are drawn as a whole."""
    _, positions = np.unique(groups, return_inverse=True)
    count = int(positions.max()) + 1
    drawn = random.multinomial(count, np.full(count, 1 / count), size=REPLICATES)[:, positions]
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _relative_rank(labels: Ints, random: np.random.Generator) -> Floats:
    """Returns the place of each photo among those of its label in random order, from 0 to below 1."""
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rows] = random.permutation(len(rows)) / len(rows)
    return rank


@dataclass(frozen=True)
class HeadData:
    """Photos that heads are fitted to, and judged on."""

    inputs: Tensor
    labels: Tensor
    targets: Tensor
    log_prior: Tensor

    @classmethod
    def of(cls, features: Float32s, y_true: Ints, num_classes: int) -> "HeadData":
        labels = torch.from_numpy(y_true)
        targets = torch.eye(num_classes)[labels]
        return cls(torch.from_numpy(features), labels, targets, targets.mean(0).log())

    def wrong(self, taken: NDArray[np.bool_], folds: Ints) -> Float32s:
        """Returns 1 for each photo that heads have wrong which are fitted to those `taken` of other folds,
        for each shrinkage: (shrinkages, n).

        A label's frequency stays that among all photos: fewer photos of it make it no rarer in the world.
        """
        wrong = np.zeros((len(SHRINKAGES), len(folds)), np.float32)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # for matrices as small as these, more only wait for each other
        for fold in np.unique(folds):
            rows, held_out = np.flatnonzero(taken & (folds != fold)), np.flatnonzero(folds == fold)
            counts = self.targets[rows].sum(0)
            shift = (self.log_prior - (counts / counts.sum()).log()).where(counts > 0, -torch.inf)
            for index, head in enumerate(heads_by_shrinkage([(self.inputs[rows], self.targets[rows])])):
                predicted = (head.logits(self.inputs[held_out]) + shift).argmax(1)
                wrong[index, held_out] = (predicted != self.labels[held_out]).numpy()
        torch.set_num_threads(threads)
        return wrong
