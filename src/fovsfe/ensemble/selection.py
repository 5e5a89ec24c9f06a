"""Which blend to trust: every kind over every subset of members, judged on rows it was not fitted on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict
from sklearn.model_selection import StratifiedKFold

from fovsfe.ensemble.blend import BLEND_KINDS, Blend, BlendKind, Floats, at_temperature, blend_name
from fovsfe.ensemble.fitting import fit_blend, fit_temperature, fit_threshold
from fovsfe.ensemble.metrics import Ints, Metrics, accuracy, compute_metrics, log_losses

FOLDS = 5
STRENGTHS = (1.0, 10.0, 100.0)
MOST_FOR_ALL_SUBSETS = 6
LUCK = 0.5
DRAWS = 2000


class BlendCandidate(BaseModel):
    """A blend that was tried, and its cross-validated figures."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: BlendKind
    members: tuple[str, ...]
    calibrated: bool
    """whether a temperature lowered its cross-validated log loss, and is in the figures"""
    metrics: Metrics


@dataclass(frozen=True)
class BlendSelection:
    """The blend to use, fitted on all photos, and why."""

    blend: Blend
    metrics: Metrics
    """cross-validated figures of the chosen one"""
    out_of_fold: Floats
    """(n, classes): the chosen one's answers by fits that had not seen the photo"""
    of_kinds: dict[BlendKind, Floats]
    """the same of every kind over all members, calibrated where that helped"""
    candidates: tuple[BlendCandidate, ...]
    """simplest first; the first is the default, the mean of all members"""
    fitted: tuple[Blend, ...]
    """every kind over all members, fitted on all photos, as they stand: what a submission each is made of"""
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Labelled:
    """The members' answers on photos with true labels."""

    probabilities: Floats  # (members, n, classes)
    y_true: Ints
    folds: Ints

    def only(self, rows: Ints) -> "_Labelled":
        return _Labelled(self.probabilities[:, rows], self.y_true[rows], self.folds[rows])


def select_blend(
    probabilities: Floats,
    y_true: Ints,
    members: Sequence[str],
    class_names: Sequence[str],
    groups: Ints,
    seed: int,
) -> BlendSelection:
    """Find the blend of the lowest log loss that gains more on the mean of all members than luck would bring.

    probabilities (members, n, classes): answers of members to photos they did not learn from; y_true int (n,);
    groups int (n,): photos of one group (near-duplicates) are never on both sides of a fold.

    Everything with fitted parameters is judged by cross-validation, nested where a strength is chosen too.
    A candidate replaces the default only if its accuracy is not lower and its gain in log loss is above what
    the luckiest of all candidates would reach by chance in half of all cases: the best of a hundred looks
    better than it is (multiplier bootstrap of the maximum, Chernozhukov et al. 2013,
    https://arxiv.org/abs/1212.6906). Among those that pass, the lowest log loss is taken.
    """
    names = tuple(members)
    everyone = tuple(range(len(names)))
    folds = _folds(y_true, groups, seed)
    if folds is None:
        return _without_judging(probabilities, y_true, names, class_names)
    data = _Labelled(probabilities, y_true, folds)
    strengths = _strengths(data)

    tried = _in_order(_subsets(data), everyone)
    candidates, all_losses = [], []
    of_kinds: dict[BlendKind, Floats] = {}
    for kind, subset in tried:
        judged, calibrated = _cross_validate(kind, subset, names, data, strengths)
        candidates.append(
            _candidate(kind, subset, names, calibrated, compute_metrics(judged, y_true, class_names))
        )
        all_losses.append(log_losses(judged, y_true))
        if subset == everyone:
            of_kinds[kind] = judged
    best, reasons = _pick(candidates, np.stack(all_losses), groups, seed)

    kind, subset = tried[best]
    out_of_fold, calibrated = _cross_validate(kind, subset, names, data, strengths)
    strength = _strength(data)
    blend = fit_blend(kind, candidates[best].members, probabilities[list(subset)], y_true, strength)
    if calibrated:
        temperature = fit_temperature(blend.apply(probabilities[list(subset)]), y_true)
        blend = blend.model_copy(update={"temperature": temperature})
    reasons.append(_about_temperature(blend, calibrated))
    threshold = fit_threshold(out_of_fold, y_true)
    reasons.append(f"threshold {threshold:.3f}: at most 2 % of the right answers are less sure")
    return BlendSelection(
        blend=blend.model_copy(update={"threshold": threshold}),
        metrics=candidates[best].metrics,
        out_of_fold=out_of_fold,
        of_kinds=of_kinds,
        candidates=tuple(candidates),
        fitted=tuple(
            fit_blend(each, names, probabilities, y_true, strength) for each in BLEND_KINDS if len(names) > 1
        ),
        reasons=tuple(reasons),
    )


def accept_change(baseline: Floats, candidate: Floats, y_true: Ints) -> tuple[bool, str]:
    """Whether something optional (other tta, round 2) earns its place: two (n, classes), the same photos.

    It does with a lower log loss and no lower accuracy. Returns the verdict and the figures in words.
    """
    before, after = log_losses(baseline, y_true).mean(), log_losses(candidate, y_true).mean()
    right_before, right_after = accuracy(baseline, y_true), accuracy(candidate, y_true)
    wins = bool(after < before and right_after >= right_before)
    return wins, (
        f"{'accepted' if wins else 'not accepted'}: log loss {before:.4f} -> {after:.4f}, "
        f"accuracy {right_before:.4f} -> {right_after:.4f} on {len(y_true)} photos with true labels"
    )


def _folds(y_true: Ints, groups: Ints, seed: int) -> Ints | None:
    """int (n,) from 0; None where nested cross-validation, which needs three folds, is out of reach."""
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
        # a label with fewer photos than folds: it is missing in some of them, and nothing here minds
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held_out) in enumerate(splitter.split(label, label)):
            fold[held_out] = number
    return fold[group]


def _without_judging(
    probabilities: Floats, y_true: Ints, names: tuple[str, ...], class_names: Sequence[str]
) -> BlendSelection:
    answer = Blend(kind="mean", members=names).apply(probabilities)
    threshold = fit_threshold(answer, y_true)
    metrics = compute_metrics(answer, y_true, class_names)
    everyone = tuple(range(len(names)))
    return BlendSelection(
        blend=Blend(kind="mean", members=names, threshold=threshold),
        metrics=metrics,
        out_of_fold=answer,
        of_kinds={"mean": answer},
        candidates=(_candidate("mean", everyone, names, False, metrics),),
        fitted=(Blend(kind="mean", members=names),),
        reasons=(f"mean of all members: {len(y_true)} photos with true labels are too few to judge blends",),
    )


def _subsets(data: _Labelled) -> list[tuple[int, ...]]:
    """All non-empty subsets of a few members; of many, those that greedy forward selection looks at."""
    everyone = range(len(data.probabilities))
    if len(everyone) <= MOST_FOR_ALL_SUBSETS:
        return [subset for size in everyone for subset in combinations(everyone, size + 1)]
    subsets: list[tuple[int, ...]] = []
    taken: tuple[int, ...] = ()
    while len(taken) < len(everyone):
        step = [tuple(sorted((*taken, member))) for member in everyone if member not in taken]
        means = [log_losses(data.probabilities[list(s)].mean(axis=0), data.y_true).mean() for s in step]
        subsets += step
        taken = step[int(np.argmin(means))]
    return subsets


def _in_order(
    subsets: list[tuple[int, ...]], everyone: tuple[int, ...]
) -> list[tuple[BlendKind, tuple[int, ...]]]:
    """Simplest first: the kind with less to fit, then the blend that leaves fewer members out."""
    pairs = [
        (kind, subset) for kind in BLEND_KINDS for subset in subsets if kind == "mean" or len(subset) > 1
    ]
    return sorted(pairs, key=lambda pair: (BLEND_KINDS.index(pair[0]), len(everyone) - len(pair[1]), pair[1]))


def _cross_validate(
    kind: BlendKind,
    subset: tuple[int, ...],
    names: tuple[str, ...],
    data: _Labelled,
    strengths: dict[int, float],
) -> tuple[Floats, bool]:
    """Answers (n, classes) by fits that did not see the photo, and whether a temperature is in them."""
    members = data.probabilities[list(subset)]
    plain = np.empty(members.shape[1:])
    calibrated = np.empty_like(plain)
    for fold, strength in strengths.items():
        held_out, y_true = data.folds == fold, data.y_true[data.folds != fold]
        rest = members[:, ~held_out]
        blend = fit_blend(kind, tuple(names[i] for i in subset), rest, y_true, strength)
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


def _strengths(data: _Labelled) -> dict[int, float]:
    """For every fold, the strength that the other folds choose among themselves."""
    folds = np.unique(data.folds).tolist()
    return {fold: _strength(data.only(np.flatnonzero(data.folds != fold))) for fold in folds}


def _strength(data: _Labelled) -> float:
    """How much stacking is held back: cross-validated over all members, and used for their subsets too."""
    names = tuple(map(str, range(len(data.probabilities))))
    totals = dict.fromkeys(STRENGTHS, 0.0)
    for fold in np.unique(data.folds):
        rest, held_out = data.only(np.flatnonzero(data.folds != fold)), np.flatnonzero(data.folds == fold)
        for strength in STRENGTHS:
            blend = fit_blend("stacking", names, rest.probabilities, rest.y_true, strength)
            judged = blend.apply(data.probabilities[:, held_out])
            totals[strength] += log_losses(judged, data.y_true[held_out]).sum()
    return min(STRENGTHS, key=lambda strength: totals[strength])


def _candidate(
    kind: BlendKind, subset: tuple[int, ...], names: tuple[str, ...], calibrated: bool, metrics: Metrics
) -> BlendCandidate:
    members = tuple(names[i] for i in subset)
    return BlendCandidate(
        name=blend_name(kind, members), kind=kind, members=members, calibrated=calibrated, metrics=metrics
    )


def _pick(
    candidates: list[BlendCandidate], photo_losses: Floats, groups: Ints, seed: int
) -> tuple[int, list[str]]:
    """Losses (candidates, n) of candidates, simplest first -> which one, and the reasons."""
    default, figures = candidates[0], [candidate.metrics for candidate in candidates]
    gains = photo_losses[0] - photo_losses
    gain = gains.mean(axis=1)
    rivals = [i for i, m in enumerate(figures) if gain[i] > 0 and m.accuracy >= default.metrics.accuracy]
    if not rivals:
        return 0, [
            f"{default.name}: no other of {len(candidates)} candidates has a lower log loss and as many right"
        ]
    needed = _bar(gains, groups, seed) * _standard_errors(gains, groups)
    clear = [i for i in rivals if gain[i] > needed[i]]
    if not clear:
        best = max(rivals, key=lambda i: gain[i])
        return 0, [
            f"{default.name}: the best of {len(candidates)} candidates, {candidates[best].name}, lowers log "
            f"loss {default.metrics.log_loss:.4f} by {gain[best]:.4f}, no more than luck brings: under "
            f"{needed[best]:.4f}"
        ]
    winner = max(clear, key=lambda i: gain[i])
    reasons = [
        f"{candidates[winner].name}: log loss {figures[winner].log_loss:.4f} against "
        f"{default.metrics.log_loss:.4f} of {default.name}, accuracy {figures[winner].accuracy:.4f} against "
        f"{default.metrics.accuracy:.4f}, more than luck brings among {len(candidates)} candidates"
    ]
    return winner, reasons


def _bar(gains: Floats, groups: Ints, seed: int) -> float:
    """How many standard errors the luckiest of these (candidates, n) gains stays under in half of cases."""
    sums = _group_sums(gains, groups)
    scaled = sums / np.maximum(np.sqrt((sums**2).sum(axis=1, keepdims=True)), 1e-12)
    random = np.random.default_rng(seed)
    luckiest = [(scaled @ random.standard_normal(scaled.shape[1])).max() for _ in range(DRAWS)]
    return float(np.quantile(luckiest, LUCK))


def _standard_errors(values: Floats, groups: Ints) -> Floats:
    """Of the means of (rows, n), photos of one group counting as one piece of evidence -> (rows,)."""
    return np.asarray(np.sqrt((_group_sums(values, groups) ** 2).sum(axis=1)) / values.shape[1])


def _group_sums(values: Floats, groups: Ints) -> Floats:
    """(rows, n) -> (rows, groups): sums over each group of the distances from the row's mean."""
    _, group = np.unique(groups, return_inverse=True)
    centred = values - values.mean(axis=1, keepdims=True)
    return np.stack([np.bincount(group, weights=row) for row in centred])


def _about_temperature(blend: Blend, calibrated: bool) -> str:
    if blend.kind == "stacking":
        return "temperature 1: stacking is calibrated by its weights"
    if calibrated:
        return f"temperature {blend.temperature:.3f}: it lowers the cross-validated log loss"
    return "temperature 1: another one does not lower the cross-validated log loss"
