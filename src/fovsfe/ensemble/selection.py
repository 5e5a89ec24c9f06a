"""Which blend to use: every kind over every subset of members, with and without test-time augmentation,
evaluated on photos that it was not fitted to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict
from threadpoolctl import ThreadpoolController

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.acceptance import (
    OUTER_FOLDS,
    Decision,
    Evidence,
    decide,
    gain_in_words,
    group_folds,
    selected_without_each,
    untouched_predictions,
)
from fovsfe.ensemble.blend import BLEND_KINDS, Blend, BlendKind, at_temperature, blend_name
from fovsfe.ensemble.fitting import fit_blend, fit_temperature
from fovsfe.ensemble.headline import METRIC_WORDS
from fovsfe.ensemble.metrics import (
    HeadlineMetrics,
    Metrics,
    compute_metrics,
    headline_metrics,
    log_losses,
    photo_weights,
)
from fovsfe.recipe import MetricName

FOLDS = 5
REGULARIZATION_PHOTOS = 2_000  # that a regularization is selected on, at most
REGULARIZATIONS = (1.0, 10.0, 100.0)
ALL_SUBSETS_UP_TO = 6  # members; of more, not every subset is tried


@contextmanager
def _one_thread() -> Iterator[None]:
    """For the many small steps of linear algebra that fit a blend, threads wait longer than they compute."""
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        yield


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
class _Candidate:
    """A blend before it is fitted."""

    has_tta: bool
    kind: BlendKind
    subset: tuple[int, ...]


@dataclass(frozen=True)
class SelectedCandidate:
    """Which of the candidates is selected: on all photos and, for each photo, without it."""

    candidates: tuple[_Candidate, ...]
    index: int
    without_each: Ints
    """(n,), as `acceptance.selected_without_each` returns it"""


@dataclass(frozen=True)
class BlendSelection:
    """The selected blend, fitted to all photos, and why it was selected."""

    selected: SelectedCandidate
    blend: Blend
    has_tta: bool
    """whether test-time augmentation is part of what was selected"""
    metrics: HeadlineMetrics
    """of `untouched`"""
    untouched: Floats
    """(n, classes): each photo as predicted by the blend that would be selected without it"""
    cross_validated: Floats
    """(n, classes): each photo as predicted by the selected blend, fitted without it"""
    cross_validated_by_kind: dict[BlendKind, Floats]
    """cross-validated predictions of every kind over all members, with a temperature where that helped"""
    candidates: tuple[BlendCandidate, ...]
    """those with `has_tta` as selected, simplest first; the first is the mean of all members"""
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
    metric: MetricName = "accuracy"

    def subset(self, rows: Ints) -> "_CrossValidationData":
        return _CrossValidationData(
            self.probabilities[:, rows], self.y_true[rows], self.folds[rows], self.metric
        )


@_one_thread()
def select_blend(
    probabilities: Floats,
    y_true: Ints,
    member_names: Sequence[str],
    class_names: Sequence[str],
    groups: Ints,
    seed: int,
    metric: MetricName = "accuracy",
    with_tta: Floats | None = None,
    selected_before: SelectedCandidate | None = None,
) -> BlendSelection:
    """Selects a blend by the one rule, see `acceptance.decide`; the default is the mean of all members.

    Everything that is fitted is evaluated by cross-validation, which is nested where a regularization is
    selected too. The figures that are returned are those of `acceptance.untouched_predictions`: the selection
    has no part in them.

    Args:
        probabilities: (members, n, classes), of photos that the members were not trained on.
        y_true: (n,), positions of true labels.
        member_names: the members' names.
        groups: (n,); photos of one group (near-duplicates) are never on both sides of a fold.
        metric: what may not get worse; see `acceptance.decide`.
        with_tta: the same as `probabilities` with test-time augmentation, which is then a candidate too.
        selected_before: what was selected for the same photos in round 1, which is then kept: the rounds can
            be compared only like with like, as another blend is a gain, or luck, of its own.
    """
    names = tuple(member_names)
    all_members = tuple(range(len(names)))
    folds = group_folds(y_true, groups, seed, FOLDS)
    outer_folds = group_folds(y_true, groups, seed + 1, OUTER_FOLDS)
    if folds is None or outer_folds is None:
        return _default_selection(probabilities, y_true, names, class_names, metric)
    inputs = (probabilities,) if with_tta is None else (probabilities, with_tta)
    data = [_CrossValidationData(each, y_true, folds, metric) for each in inputs]
    regularizations = [_regularization_by_fold(each) for each in data]
    candidates = (
        selected_before.candidates
        if selected_before
        else tuple(
            _Candidate(bool(index), kind, subset)
            for index, each in enumerate(data)
            for kind, subset in _simplest_first(_subsets(each), all_members, metric)
        )
    )

    @cache  # of the few that are needed again: those of all candidates might not fit into memory
    def cross_validated(index: int) -> Floats:
        return cross_validate(index)[0]

    def cross_validate(index: int) -> tuple[Floats, bool]:
        each = candidates[index]
        used = int(each.has_tta)
        return _cross_validate(each.kind, each.subset, names, data[used], regularizations[used])

    losses, predicted, evaluated = [], [], []
    for index, each in enumerate(candidates):
        predictions, calibrated = cross_validate(index)
        losses.append(log_losses(predictions, y_true))
        predicted.append(predictions.argmax(axis=1))
        evaluated.append(
            BlendCandidate(
                name=blend_name(each.kind, tuple(names[i] for i in each.subset)),
                kind=each.kind,
                members=tuple(names[i] for i in each.subset),
                calibrated=calibrated,
                metrics=compute_metrics(predictions, y_true, class_names),
            )
        )
    evidence = Evidence(np.stack(losses), np.stack(predicted), y_true, groups, metric)
    decision = decide(evidence, seed)
    selected = selected_before or SelectedCandidate(
        candidates, decision.selected, selected_without_each(evidence, outer_folds, seed)
    )
    candidate, evaluated_blend = candidates[selected.index], evaluated[selected.index]
    untouched = untouched_predictions(selected.without_each, cross_validated)
    alike = [index for index, each in enumerate(candidates) if each.has_tta == candidate.has_tta]

    fit_data = data[candidate.has_tta]
    regularization = _select_regularization(fit_data)
    of_members = fit_data.probabilities[list(candidate.subset)]
    blend = _fit(candidate.kind, evaluated_blend.members, of_members, y_true, regularization, metric)
    if evaluated_blend.calibrated:
        temperature = fit_temperature(blend.apply(of_members), y_true, photo_weights(metric, y_true))
        blend = blend.model_copy(update={"temperature": temperature})
    return BlendSelection(
        selected=selected,
        blend=blend,
        has_tta=candidate.has_tta,
        metrics=headline_metrics(untouched, y_true, class_names, metric),
        untouched=untouched,
        cross_validated=cross_validated(selected.index),
        cross_validated_by_kind={
            candidates[index].kind: cross_validated(index)
            for index in alike
            if candidates[index].subset == all_members
        },
        candidates=tuple(evaluated[index] for index in alike),
        fitted=tuple(
            _fit(kind, names, fit_data.probabilities, y_true, regularization, metric)
            for kind in _kinds(metric)
            if len(names) > 1
        ),
        reasons=(
            f"{evaluated_blend.name}: as in round 1, so that the rounds are compared like with like"
            if selected_before
            else _decision_reason(
                decision,
                evidence,
                [
                    f"{blend.name} with tta" if each.has_tta else blend.name
                    for each, blend in zip(candidates, evaluated, strict=True)
                ],
            ),
            *_single_member_reason(selected.index, candidates, evaluated, evidence, seed),
            _temperature_reason(blend, evaluated_blend.calibrated),
        ),
    )


def _fit(
    kind: BlendKind,
    names: tuple[str, ...],
    probabilities: Floats,
    y_true: Ints,
    regularization: float,
    metric: MetricName,
) -> Blend:
    weights = photo_weights(metric, y_true)
    return fit_blend(kind, names, probabilities, y_true, regularization, weights)


def _default_selection(
    probabilities: Floats,
    y_true: Ints,
    names: tuple[str, ...],
    class_names: Sequence[str],
    metric: MetricName,
) -> BlendSelection:
    """The mean of all members, where there are too few photos to evaluate blends."""
    blend = Blend(kind="mean", members=names)
    blended = blend.apply(probabilities)
    metrics = compute_metrics(blended, y_true, class_names)
    return BlendSelection(
        selected=SelectedCandidate(
            (_Candidate(False, "mean", tuple(range(len(names)))),), 0, np.zeros(len(y_true), np.int64)
        ),
        blend=blend,
        has_tta=False,
        metrics=headline_metrics(blended, y_true, class_names, metric),
        untouched=blended,
        cross_validated=blended,
        cross_validated_by_kind={"mean": blended},
        candidates=(
            BlendCandidate(name=blend.name, kind="mean", members=names, calibrated=False, metrics=metrics),
        ),
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


def _kinds(metric: MetricName) -> list[BlendKind]:
    """Returns the kinds that are tried: which labels are frequent matters to some metrics only."""
    return [kind for kind in BLEND_KINDS if kind != "prior_corrected" or metric in ("balanced", "f1")]


def _simplest_first(
    subsets: list[tuple[int, ...]], all_members: tuple[int, ...], metric: MetricName
) -> list[tuple[BlendKind, tuple[int, ...]]]:
    """Returns every kind over every subset: first the kind with less to fit, then the larger subset."""
    pairs = [
        (kind, subset)
        for kind in _kinds(metric)
        for subset in subsets
        if kind in ("mean", "prior_corrected") or len(subset) > 1
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
    probabilities = data.probabilities[list(subset)]
    plain = np.empty(probabilities.shape[1:])
    calibrated = np.empty_like(plain)
    for fold, regularization in regularizations.items():
        in_fold, y_true = data.folds == fold, data.y_true[data.folds != fold]
        rest = probabilities[:, ~in_fold]
        blend = _fit(kind, tuple(names[i] for i in subset), rest, y_true, regularization, data.metric)
        plain[in_fold] = blend.apply(probabilities[:, in_fold])
        if kind != "stacking":  # its weights are a temperature already
            temperature = fit_temperature(blend.apply(rest), y_true, photo_weights(data.metric, y_true))
            calibrated[in_fold] = at_temperature(plain[in_fold], temperature)
    if kind == "stacking":
        return plain, False
    counts = photo_weights(data.metric, data.y_true)
    lost, lost_plain = ((counts * log_losses(each, data.y_true)).sum() for each in (calibrated, plain))
    return (calibrated, True) if lost < lost_plain else (plain, False)


def _regularization_by_fold(data: _CrossValidationData) -> dict[int, float]:
    """Returns, for every fold, the regularization that is selected on the other folds."""
    return {
        fold: _select_regularization(data.subset(np.flatnonzero(data.folds != fold)))
        for fold in np.unique(data.folds).tolist()
    }


def _select_regularization(data: _CrossValidationData) -> float:
    """Returns the best regularization of stacking, cross-validated over all members; subsets use it too.

    Some of the photos will do where there are many: the more there are, the less does regularization matter.
    """
    data = data.subset(np.arange(0, len(data.y_true), -(-len(data.y_true) // REGULARIZATION_PHOTOS)))
    names = tuple(map(str, range(len(data.probabilities))))
    losses = dict.fromkeys(REGULARIZATIONS, 0.0)
    for fold in np.unique(data.folds):
        rest, in_fold = data.subset(np.flatnonzero(data.folds != fold)), data.folds == fold
        for regularization in REGULARIZATIONS:
            blend = _fit("stacking", names, rest.probabilities, rest.y_true, regularization, data.metric)
            blended = blend.apply(data.probabilities[:, in_fold])
            lost = log_losses(blended, data.y_true[in_fold])
            losses[regularization] += (lost * photo_weights(data.metric, data.y_true)[in_fold]).sum()
    return min(REGULARIZATIONS, key=lambda regularization: losses[regularization])


def _decision_reason(decision: Decision, evidence: Evidence, names: list[str]) -> str:
    losses, scores, tried = evidence.losses.mean(axis=1), evidence.scores, f"{len(names)} candidates"

    def values(index: int) -> str:
        words = f"log loss {losses[index]:.4f}"
        if evidence.metric == "logloss":
            return words
        return f"{words}, {METRIC_WORDS[evidence.metric]} {scores[index]:.4f}"

    if decision.selected:
        return (
            f"{names[decision.selected]}: {values(decision.selected)}, against {values(0)} of {names[0]};"
            f" {gain_in_words(decision, decision.selected)} among {tried}"
        )
    if decision.best_allowed:
        return (
            f"{names[0]}: of {tried}, {names[decision.best_allowed]} lowers the log loss of {losses[0]:.4f}"
            f" most, but {gain_in_words(decision, decision.best_allowed)}"
        )
    metric = METRIC_WORDS[evidence.metric]
    return f"{names[0]}: none of the {tried} has a lower log loss without a lower {metric}"


def _single_member_reason(
    selected: int,
    candidates: Sequence[_Candidate],
    evaluated: list[BlendCandidate],
    evidence: Evidence,
    seed: int,
) -> list[str]:
    """Compares the selected blend with its best rival that needs one network only, by the same bar."""
    has_tta = candidates[selected].has_tta
    single = [i for i, each in enumerate(candidates) if len(each.subset) == 1 and each.has_tta == has_tta]
    best_single = min(single, key=lambda i: evaluated[i].metrics.log_loss)
    if best_single == selected:
        return []
    pair = replace(
        evidence,
        losses=evidence.losses[[best_single, selected]],
        predicted=evidence.predicted[[best_single, selected]],
    )
    return [
        f"against the best member alone, {evaluated[best_single].name}, with a log loss of"
        f" {evaluated[best_single].metrics.log_loss:.4f}: {gain_in_words(decide(pair, seed), 1)}"
    ]


def _temperature_reason(blend: Blend, calibrated: bool) -> str:
    if blend.kind == "stacking":
        return "temperature 1: stacking is calibrated by its weights"
    if calibrated:
        return f"temperature {blend.temperature:.3f}: it lowers the cross-validated log loss"
    return "temperature 1: no other lowers the cross-validated log loss"
