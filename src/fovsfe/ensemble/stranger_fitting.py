"""Fits the rule of `strangers` to held-out photos, and measures what it costs and what it catches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from fovsfe.arrays import Float32s, Floats, Ints
from fovsfe.ensemble.acceptance import group_folds
from fovsfe.ensemble.metrics import Share
from fovsfe.ensemble.strangers import FeatureSpace, StrangerRule, certainty, square_roots

WITHIN, BETWEEN = 64, 32  # directions that are kept: in which photos of one label differ, and labels, at most
SHRINKAGE = 0.3  # of the covariance towards a multiple of the identity
MOST_PHOTOS = 2000  # of a network that a space is fitted to
MOST_NEIGHBOURS = 1000  # of them that are kept
FOLDS = 5
LEFT_OUT_PARTS = 4  # of the labels, which are left out in turn
LEFT_OUT = "labels left out in turn"
LEAST_RIGHT = 20  # answers, below which nothing is fitted


@dataclass(frozen=True)
class HeldOutFeatures:
    """Features of photos by a network that was not trained on them."""

    rows: Ints
    """(n,), positions among the held-out photos"""
    features: Float32s
    """(n, width)"""


@dataclass(frozen=True)
class FittedStrangers:
    """The rule, and what it does to the held-out photos; each was scored by what was fitted without it."""

    rule: StrangerRule
    spaces: list[list[FeatureSpace]]
    """of each member's networks"""
    known: NDArray[np.bool_]
    """(n,), by thresholds that the photo has no part in"""
    withheld: Share
    """of right answers"""
    left_out: Share | None
    """of the photos of labels that were left out in turn, those that were named; None of a single label"""


def fit_strangers(
    networks: Sequence[Sequence[HeldOutFeatures]],
    probabilities: Floats,
    y_true: Ints,
    groups: Ints,
    withheld: float,
    seed: int,
) -> FittedStrangers | None:
    """Fits the rule at which the share `withheld` of right answers is lost.

    Args:
        networks: for each member, the features by its networks; each photo's by one of them.
        probabilities: (n, labels), of the blend for photos that it was not fitted to.
        y_true: (n,), positions of their labels.
        groups: (n,); near-duplicates, of one group, are never on both sides of a fold.

    Returns:
        None if there are too few photos to tell.
    """
    folds = group_folds(y_true, groups, seed, FOLDS)
    right = probabilities.argmax(axis=1) == y_true
    if folds is None or right.sum() < LEAST_RIGHT:
        return None
    if any(len(np.unique(folds[each.rows])) < 2 for member in networks for each in member):
        return None
    num_classes = probabilities.shape[1]
    crossed = [_Crossed.of(member, y_true, num_classes, folds, right) for member in networks]
    sure = certainty(probabilities)
    plain = StrangerRule(
        threshold=0.0,
        certainty_centre=float(sure[right].mean()),
        certainty_scale=float(max(sure[right].std(), 1e-6)),
    )
    scores = plain.scores(probabilities, [each.measures for each in crossed])
    known = np.zeros(len(scores), np.bool_)
    for fold in np.unique(folds):
        held_out = folds == fold
        known[held_out] = scores[held_out] >= _threshold(scores[right & ~held_out], withheld)
    rule = plain.model_copy(update={"threshold": _threshold(scores[right], withheld)})
    return FittedStrangers(
        rule=rule,
        spaces=[each.spaces for each in crossed],
        known=known,
        withheld=Share.of(~known[right]),
        left_out=_left_out(networks, crossed, probabilities, y_true, rule, seed),
    )


def _threshold(scores: Floats, withheld: float) -> float:
    return float(np.quantile(scores, withheld)) if len(scores) else -np.inf


@dataclass(frozen=True)
class _Crossed:
    """A member's spaces, and the measures of each photo by a space that was fitted without it."""

    spaces: list[FeatureSpace]
    measures: Floats  # (n, 2)

    @classmethod
    def of(
        cls,
        networks: Sequence[HeldOutFeatures],
        y_true: Ints,
        num_classes: int,
        folds: Ints,
        right: NDArray[np.bool_],
    ) -> "_Crossed":
        measures, spaces = np.zeros((len(y_true), 2)), []
        for network in networks:
            rows, labels, of_rows = network.rows, y_true[network.rows], folds[network.rows]
            raw = np.zeros((len(rows), 2))
            for fold in np.unique(of_rows):
                held_out = of_rows == fold
                space = fit_space(network.features[~held_out], labels[~held_out], num_classes)
                raw[held_out] = space.raw_measure(network.features[held_out])
            reference = raw[right[rows]] if right[rows].any() else raw
            centre, scale = reference.mean(axis=0), np.maximum(reference.std(axis=0), 1e-6)
            measures[rows] = (raw - centre) / scale
            spaces.append(
                replace(
                    fit_space(network.features, labels, num_classes),
                    centre=centre.astype(np.float32),
                    scale=scale.astype(np.float32),
                )
            )
        return cls(spaces, measures)


def _left_out(
    networks: Sequence[Sequence[HeldOutFeatures]],
    crossed: Sequence[_Crossed],
    probabilities: Floats,
    y_true: Ints,
    rule: StrangerRule,
    seed: int,
) -> Share | None:
    """Returns how many photos are named whose labels are left out of spaces and probabilities."""
    num_classes = probabilities.shape[1]
    labels = np.random.default_rng(seed).permutation(num_classes)
    parts = np.array_split(labels, min(LEFT_OUT_PARTS, num_classes))
    if len(parts) < 2:
        return None
    named = []
    for part in parts:
        out = np.isin(y_true, part)
        if not out.any() or out.all():
            continue
        kept = np.setdiff1d(labels, part)
        rest = np.maximum(probabilities[np.ix_(out, kept)], 1e-12)
        measures = [
            _measures_without(of_member, each, y_true, out, num_classes)
            for of_member, each in zip(networks, crossed, strict=True)
        ]
        named.append(rule.are_known(rest / rest.sum(axis=1, keepdims=True), measures))
    return Share.of(np.concatenate(named)) if named else None


def _measures_without(
    networks: Sequence[HeldOutFeatures],
    crossed: _Crossed,
    y_true: Ints,
    out: NDArray[np.bool_],
    num_classes: int,
) -> Floats:
    """Returns a member's measures of the photos `out` by spaces that were fitted without them."""
    measures = np.zeros((len(y_true), 2))
    for network, whole in zip(networks, crossed.spaces, strict=True):
        of_rows = out[network.rows]
        if of_rows.all():
            continue  # nothing is left to compare them with: they count as any other photo
        labels = y_true[network.rows]
        space = fit_space(network.features[~of_rows], labels[~of_rows], num_classes)
        space = replace(space, centre=whole.centre, scale=whole.scale)
        measures[network.rows[of_rows]] = space.measure(network.features[of_rows])
    return measures[out]


def fit_space(features: Float32s, labels: Ints, num_classes: int) -> FeatureSpace:
    """Returns the space of features (n, width) of photos with labels (n,), not standardised.

    Of many photos, every so many are looked at.
    """
    some = slice(None, None, -(-len(labels) // MOST_PHOTOS))
    roots, labels = square_roots(features[some]), labels[some]
    count, width = roots.shape
    there, position = np.unique(labels, return_inverse=True)
    counts = np.bincount(position)
    means = np.stack([roots[position == label].mean(axis=0) for label in range(len(there))])
    within = roots - means[position]
    origin = roots.mean(axis=0, keepdims=True)
    directions = np.concatenate(
        [
            origin,
            _main_directions((means - origin) * np.sqrt(counts)[:, None], min(BETWEEN, len(there) - 1)),
            _main_directions(within, min(WITHIN, count // 4)),
        ]
    )
    basis = np.linalg.qr(directions.T)[0].T.astype(np.float32)
    projected, projected_means = roots @ basis.T, (means @ basis.T).astype(np.float64)
    residual = (projected - projected_means[position]).astype(np.float64)
    variance = float((within**2).sum() / (count * width))
    identity = max(SHRINKAGE * variance, 1e-12) * np.eye(len(basis))
    covariance = (1 - SHRINKAGE) * residual.T @ residual / count + identity
    weight = np.zeros((num_classes, len(basis)), np.float32)
    bias = np.full(num_classes, -1e9, np.float32)
    centred = projected_means - projected.mean(axis=0)
    solved = np.linalg.solve(covariance, centred.T).T
    weight[there] = solved
    shift = solved @ projected.mean(axis=0)
    bias[there] = np.log(counts / count) - 0.5 * (solved * centred).sum(axis=1) - shift
    lengths = np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
    neighbours = slice(None, None, -(-count // MOST_NEIGHBOURS))
    return FeatureSpace(
        basis=basis,
        weight=weight,
        bias=bias,
        bank=(projected / lengths)[neighbours].astype(np.float32),
        centre=np.zeros(2, np.float32),
        scale=np.ones(2, np.float32),
    )


def _main_directions(rows: Floats | Float32s, count: int) -> Floats | Float32s:
    """Returns the directions (count, width) in which rows (n, width) differ most from 0."""
    if count < 1:
        return np.zeros((0, rows.shape[1]), np.float32)
    directions: Float32s = randomized_svd(rows, count, n_iter=2, random_state=0)[2]
    return directions


def strangers_report(fitted: FittedStrangers, named: Mapping[str, Share]) -> dict[str, object]:
    """Returns what metrics hold of strangers: "withheld" and, by kind of stranger, "named"; see `Share`."""
    kinds = ({} if fitted.left_out is None else {LEFT_OUT: fitted.left_out}) | dict(named)
    return {
        "withheld": fitted.withheld.model_dump(mode="json"),
        "named": {kind: share.model_dump(mode="json") for kind, share in kinds.items()},
    }
