"""Which blend to use: every kind over every subset of members, evaluated on photos that it was not fitted
to."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict
from sklearn.model_selection import StratifiedKFold

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import BLEND_KINDS, Blend, BlendKind, at_temperature, blend_name
from fovsfe.ensemble.fitting import fit_blend, fit_temperature, fit_threshold
from fovsfe.ensemble.metrics import Metrics, accuracy, compute_metrics, log_losses

FOLDS = 5
REGULARIZATIONS = (1.0, 10.0, 100.0)
ALL_SUBSETS_UP_TO = 6  # members; of more, not every subset is tried
CHANCE_QUANTILE = 0.5
BOOTSTRAP_DRAWS = 2000


class BlendCandidate(BaseModel):
    """A blend that was evaluated, and its cross-validated figures."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: BlendKind
    members: tuple[str, ...]
    calibrated: bool
    """whether a temperature lowered its cross-validated log loss, and is part of the figures"""
    metrics: Metrics


@dataclass(frozen=True)
class BlendSelection:
    """The selected blend, fitted to all photos, and why it was selected."""

    blend: Blend
    metrics: Metrics
    """cross-validated figures of the selected blend"""
    out_of_fold: Floats
    """(n, classes): predictions of the selected blend, each by a fit without the photo's fold"""
    out_of_fold_by_kind: dict[BlendKind, Floats]
    """the same for every kind over all members, with a temperature where that helped"""
    candidates: tuple[BlendCandidate, ...]
    """simplest first; the first is the default, the mean of all members"""
    fitted: tuple[Blend, ...]
    """every kind over all members, fitted to all photos, at temperature 1: each makes a submission"""
    reasons: tuple[str, ...]
    """in plain words, for the report and the card"""


@dataclass(frozen=True)
class _CrossValidationData:
    """The members' predictions for photos with true labels, each in a fold."""

    probabilities: Floats  # (members, n, classes)
    y_true: Ints
    folds: Ints

    def subset(self, rows: Ints) -> "_CrossValidationData":
        return _CrossValidationData(self.probabilities[:, rows], self.y_true[rows], self.folds[rows])


def select_blend(
    probabilities: Floats,
    y_true: Ints,
    members: Sequence[str],
    class_names: Sequence[str],
    groups: Ints,
    seed: int,
) -> BlendSelection:
    """Selects the blend with the lowest log loss, if it beats the mean of all members by more than chance.

    Everything that is fitted is evaluated by cross-validation, which is nested where a regularization is
    selected too. A candidate replaces the default only if its accuracy is not lower, and if its gain in log
    loss is above what the luckiest of all candidates would reach by chance half of the time: the best of a
    hundred looks better than it is (multiplier bootstrap of the maximum, Chernozhukov et al. 2013,
    https://arxiv.org/abs/1212.6906). Among those that pass, the lowest log loss wins.

    Args:
        probabilities: (members, n, classes), of photos that the members were not trained on.
        y_true: (n,), positions of true labels.
        members: their names.
        groups: (n,); photos of one group (near-duplicates) are never on both sides of a fold.
    """
    names = tuple(members)
    all_members = tuple(range(len(names)))
    folds = _folds(y_true, groups, seed)
    if folds is None:
        return _default_selection(probabilities, y_true, names, class_names)
    data = _CrossValidationData(probabilities, y_true, folds)
    regularizations = _regularization_by_fold(data)

    pairs = _simplest_first(_subsets(data), all_members)
    candidates, losses = [], []
    by_kind: dict[BlendKind, Floats] = {}
    for kind, subset in pairs:
        out_of_fold, calibrated = _cross_validate(kind, subset, names, data, regularizations)
        metrics = compute_metrics(out_of_fold, y_true, class_names)
        candidates.append(_candidate(kind, subset, names, calibrated, metrics))
        losses.append(log_losses(out_of_fold, y_true))
        if subset == all_members:
            by_kind[kind] = out_of_fold
    best, reasons = _pick(candidates, np.stack(losses), groups, seed)

    kind, subset = pairs[best]
    out_of_fold, calibrated = _cross_validate(kind, subset, names, data, regularizations)
    regularization = _select_regularization(data)
    blend = fit_blend(kind, candidates[best].members, probabilities[list(subset)], y_true, regularization)
    if calibrated:
        temperature = fit_temperature(blend.apply(probabilities[list(subset)]), y_true)
        blend = blend.model_copy(update={"temperature": temperature})
    reasons.append(_temperature_reason(blend, calibrated))
    threshold = fit_threshold(out_of_fold, y_true)
    reasons.append(f"threshold {threshold:.3f}: at most 2% of the correct predictions are less confident")
    return BlendSelection(
        blend=blend.model_copy(update={"threshold": threshold}),
        metrics=candidates[best].metrics,
        out_of_fold=out_of_fold,
        out_of_fold_by_kind=by_kind,
        candidates=tuple(candidates),
        fitted=tuple(
            fit_blend(each, names, probabilities, y_true, regularization)
            for each in BLEND_KINDS
            if len(names) > 1
        ),
        reasons=tuple(reasons),
    )


def accept_change(baseline: Floats, candidate: Floats, y_true: Ints) -> tuple[bool, str]:
    """Returns whether something optional (other tta variants, round 2) is accepted, and the figures in words.

    It is if the log loss is lower and the accuracy is not. `baseline` and `candidate` are (n, classes), of
    the same photos.
    """
    loss_before, loss_after = log_losses(baseline, y_true).mean(), log_losses(candidate, y_true).mean()
    accuracy_before, accuracy_after = accuracy(baseline, y_true), accuracy(candidate, y_true)
    accepted = bool(loss_after < loss_before and accuracy_after >= accuracy_before)
    return accepted, (
        f"{'accepted' if accepted else 'not accepted'}: log loss {loss_before:.4f} -> {loss_after:.4f}, "
        f"accuracy {accuracy_before:.4f} -> {accuracy_after:.4f} on {len(y_true)} photos with true labels"
    )


def _folds(y_true: Ints, groups: Ints, seed: int) -> Ints | None:
    """Returns each photo's fold, (n,) from 0.

    Returns None if no label has enough photos for the three folds that nested cross-validation needs.
    """
    # near-duplicates nearly always share a label: stratifying whole groups is a hundred times as fast as
    # StratifiedGroupKFold
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    label = y_true[first]
    folds = min(FOLDS, int(np.bincount(label).max()))
    if folds < 3:
        return None
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(label), dtype=np.int64)
    with warnings.catch_warnings():
        # a label with fewer photos than folds is missing in some of them, which does no harm here
        warnings.filterwarnings("ignore", message="The least populated class")
        for index, (_, held_out) in enumerate(splitter.split(label, label)):
            fold[held_out] = index
    return fold[group]


def _default_selection(
    probabilities: Floats, y_true: Ints, names: tuple[str, ...], class_names: Sequence[str]
) -> BlendSelection:
    """The mean of all members, where there are too few photos to evaluate blends."""
    blend = Blend(kind="mean", members=names)
    blended = blend.apply(probabilities)
    metrics = compute_metrics(blended, y_true, class_names)
    return BlendSelection(
        blend=blend.model_copy(update={"threshold": fit_threshold(blended, y_true)}),
        metrics=metrics,
        out_of_fold=blended,
        out_of_fold_by_kind={"mean": blended},
        candidates=(_candidate("mean", tuple(range(len(names))), names, False, metrics),),
        fitted=(blend,),
        reasons=(
            f"mean of all members: {len(y_true)} photos with true labels are too few to evaluate blends",
        ),
    )


def _subsets(data: _CrossValidationData) -> list[tuple[int, ...]]:
    """Returns all subsets of a few members; of many, those that greedy forward selection evaluates."""
    members = range(len(data.probabilities))
    if len(members) <= ALL_SUBSETS_UP_TO:
        return [subset for size in members for subset in combinations(members, size + 1)]
    subsets: list[tuple[int, ...]] = []
    selected: tuple[int, ...] = ()
    while len(selected) < len(members):
        larger = [tuple(sorted((*selected, member))) for member in members if member not in selected]
        losses = [log_losses(data.probabilities[list(s)].mean(axis=0), data.y_true).mean() for s in larger]
        subsets += larger
        selected = larger[int(np.argmin(losses))]
    return subsets


def _simplest_first(
    subsets: list[tuple[int, ...]], all_members: tuple[int, ...]
) -> list[tuple[BlendKind, tuple[int, ...]]]:
    """Returns every kind over every subset: first the kind with less to fit, then the larger subset."""
    pairs = [
        (kind, subset) for kind in BLEND_KINDS for subset in subsets if kind == "mean" or len(subset) > 1
    ]
    return sorted(
        pairs, key=lambda pair: (BLEND_KINDS.index(pair[0]), len(all_members) - len(pair[1]), pair[1])
    )


def _cross_validate(
    kind: BlendKind,
    subset: tuple[int, ...],
    names: tuple[str, ...],
    data: _CrossValidationData,
    regularizations: dict[int, float],
) -> tuple[Floats, bool]:
    """Returns predictions (n, classes) by fits without the photo's fold, and if they have a temperature."""
    members = data.probabilities[list(subset)]
    plain = np.empty(members.shape[1:])
    calibrated = np.empty_like(plain)
    for fold, regularization in regularizations.items():
        held_out, y_true = data.folds == fold, data.y_true[data.folds != fold]
        rest = members[:, ~held_out]
        blend = fit_blend(kind, tuple(names[i] for i in subset), rest, y_true, regularization)
        plain[held_out] = blend.apply(members[:, held_out])
        if kind != "stacking":  # its weights are a temperature already
            temperature = fit_temperature(blend.apply(rest), y_true)
            calibrated[held_out] = at_temperature(plain[held_out], temperature)
    if (
        kind == "stacking"
        or log_losses(calibrated, data.y_true).mean() >= log_losses(plain, data.y_true).mean()
    ):
        return plain, False
    return calibrated, True


def _regularization_by_fold(data: _CrossValidationData) -> dict[int, float]:
    """Returns, for every fold, the regularization that is selected on the other folds."""
    return {
        fold: _select_regularization(data.subset(np.flatnonzero(data.folds != fold)))
        for fold in np.unique(data.folds).tolist()
    }


def _select_regularization(data: _CrossValidationData) -> float:
    """Returns the best regularization of stacking, cross-validated over all members; subsets use it too."""
    names = tuple(map(str, range(len(data.probabilities))))
    losses = dict.fromkeys(REGULARIZATIONS, 0.0)
    for fold in np.unique(data.folds):
        rest, held_out = data.subset(np.flatnonzero(data.folds != fold)), np.flatnonzero(data.folds == fold)
        for regularization in REGULARIZATIONS:
            blend = fit_blend("stacking", names, rest.probabilities, rest.y_true, regularization)
            blended = blend.apply(data.probabilities[:, held_out])
            losses[regularization] += log_losses(blended, data.y_true[held_out]).sum()
    return min(REGULARIZATIONS, key=lambda regularization: losses[regularization])


def _candidate(
    kind: BlendKind, subset: tuple[int, ...], names: tuple[str, ...], calibrated: bool, metrics: Metrics
) -> BlendCandidate:
    members = tuple(names[i] for i in subset)
    return BlendCandidate(
        name=blend_name(kind, members), kind=kind, members=members, calibrated=calibrated, metrics=metrics
    )


def _pick(candidates: list[BlendCandidate], losses: Floats, groups: Ints, seed: int) -> tuple[int, list[str]]:
    """Returns which candidate is selected, and the reasons. `losses` are (candidates, n), simplest first."""
    default, figures = candidates[0], [candidate.metrics for candidate in candidates]
    gains = losses[0] - losses
    gain = gains.mean(axis=1)
    rivals = [i for i, m in enumerate(figures) if gain[i] > 0 and m.accuracy >= default.metrics.accuracy]
    if not rivals:
        return 0, [
            f"{default.name}: none of the {len(candidates)} candidates has a lower log loss without a lower "
            "accuracy"
        ]
    required = _chance_bound(gains, groups, seed) * _standard_errors(gains, groups)
    better = [i for i in rivals if gain[i] > required[i]]
    if not better:
        best = max(rivals, key=lambda i: gain[i])
        return 0, [
            f"{default.name}: the best of {len(candidates)} candidates, {candidates[best].name}, lowers the "
            f"log loss of {default.metrics.log_loss:.4f} by {gain[best]:.4f}, no more than chance would "
            f"explain ({required[best]:.4f})"
        ]
    winner = max(better, key=lambda i: gain[i])
    return winner, [
        f"{candidates[winner].name}: log loss {figures[winner].log_loss:.4f} against "
        f"{default.metrics.log_loss:.4f} of {default.name}, accuracy {figures[winner].accuracy:.4f} against "
        f"{default.metrics.accuracy:.4f}; more than chance would explain among {len(candidates)} candidates"
    ]


def _chance_bound(gains: Floats, groups: Ints, seed: int) -> float:
    """Returns how many standard errors the luckiest of (candidates, n) gains stays below half of the time."""
    sums = _group_sums(gains, groups)
    scaled = sums / np.maximum(np.sqrt((sums**2).sum(axis=1, keepdims=True)), 1e-12)
    random = np.random.default_rng(seed)
    maxima = [(scaled @ random.standard_normal(scaled.shape[1])).max() for _ in range(BOOTSTRAP_DRAWS)]
    return float(np.quantile(maxima, CHANCE_QUANTILE))


def _standard_errors(values: Floats, groups: Ints) -> Floats:
    """Returns the standard errors (rows,) of the means of (rows, n); a group counts as one observation."""
    return np.asarray(np.sqrt((_group_sums(values, groups) ** 2).sum(axis=1)) / values.shape[1])


def _group_sums(values: Floats, groups: Ints) -> Floats:
    """Returns (rows, groups): for each group, the sum of the distances of (rows, n) from the row's mean."""
    _, group = np.unique(groups, return_inverse=True)
    centred = values - values.mean(axis=1, keepdims=True)
    return np.stack([np.bincount(group, weights=row) for row in centred])


def _temperature_reason(blend: Blend, calibrated: bool) -> str:
    if blend.kind == "stacking":
        return "temperature 1: stacking is calibrated by its weights"
    if calibrated:
        return f"temperature {blend.temperature:.3f}: it lowers the cross-validated log loss"
    return "temperature 1: no other lowers the cross-validated log loss"
