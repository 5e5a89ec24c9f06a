"""The one rule by which anything optional is accepted, and figures that no decision has touched.

Blends of other members or kinds, test-time augmentation and round 2 are candidates beside a simple default,
which needs no evidence. One takes its place only if its gain is above the noise bar.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import StratifiedKFold

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.headline import METRIC_WORDS
from fovsfe.ensemble.metrics import log_losses, photo_weights, score
from fovsfe.recipe import MetricName

CONFIDENCE = 0.95  # how often candidates of no merit stay below the bar, all together
BOOTSTRAP_DRAWS = 4000
OUTER_FOLDS = 10


@dataclass(frozen=True)
class Evidence:
    """What candidates predict for photos with true labels; the first candidate is the default."""

    losses: Floats
    """(candidates, n), log losses"""
    predicted: Ints
    """(candidates, n), positions of the most likely labels"""
    y_true: Ints
    """(n,)"""
    groups: Ints
    """(n,); the photos of a group (near-duplicates) count as one observation"""
    metric: MetricName

    @classmethod
    def of(cls, predictions: Sequence[Floats], y_true: Ints, groups: Ints, metric: MetricName) -> "Evidence":
        """Returns the evidence of predictions (n, classes), one for each candidate."""
        losses = np.stack([log_losses(each, y_true) for each in predictions])
        predicted = np.stack([each.argmax(axis=1) for each in predictions])
        return cls(losses, predicted, y_true, groups, metric)

    def at(self, rows: Ints) -> "Evidence":
        """Returns the evidence of some photos alone."""
        return replace(
            self,
            losses=self.losses[:, rows],
            predicted=self.predicted[:, rows],
            y_true=self.y_true[rows],
            groups=self.groups[rows],
        )

    @property
    def scores(self) -> Floats:
        """(candidates,) the values of the metric, the higher the better."""
        pairs = zip(self.predicted, self.losses, strict=True)
        return np.array([score(self.metric, predicted, losses, self.y_true) for predicted, losses in pairs])


@dataclass(frozen=True)
class Decision:
    """Which candidate is selected, and how much each gains over the default."""

    selected: int
    """its position"""
    gains: Floats
    """(candidates,), by how much the mean log loss is lower"""
    bars: Floats
    """(candidates,), what the gain had to be above"""
    best_allowed: int
    """which candidate gains most of those that do not lower the metric; 0 if there is none"""


def decide(evidence: Evidence, seed: int) -> Decision:
    """Selects a candidate by the one rule.

    A candidate replaces the default only if the metric is not lower, and if its gain in log loss is above the
    noise bar: what the luckiest of all candidates stays below in 95 of 100 cases if none has any merit
    (multiplier bootstrap of the maximum, Chernozhukov et al. 2013, https://arxiv.org/abs/1212.6906). For one
    candidate that is a one-sided paired test. Among those that pass, the lowest log loss wins.

    The gain is measured in log loss, whatever the metric, as it shows a difference with far fewer photos than
    an accuracy does; where the metric looks at labels one by one, the photos are weighed as
    `metrics.photo_weights` says.
    """
    weighed = evidence.losses * photo_weights(evidence.metric, evidence.y_true)
    differences = weighed[0] - weighed
    gains = differences.mean(axis=1)
    sums = _group_sums(differences, evidence.groups)
    bars = _noise_quantile(sums, seed) * np.sqrt((sums**2).sum(axis=1)) / differences.shape[1]
    scores = evidence.scores
    allowed = np.flatnonzero((gains > 0) & (scores >= scores[0]))
    passed = allowed[gains[allowed] > bars[allowed]]
    selected, best_allowed = (
        int(each[gains[each].argmax()]) if len(each) else 0 for each in (passed, allowed)
    )
    return Decision(selected, gains, bars, best_allowed)


def selected_without_each(evidence: Evidence, folds: Ints, seed: int) -> Ints:
    """Returns (n,): for each photo, the position of the candidate that is selected without the photo.

    The decision is made once for each fold, on the photos of the other folds. `folds` are (n,), as
    `group_folds` returns them.
    """
    selected = np.empty(len(folds), dtype=np.int64)
    for fold in np.unique(folds):
        selected[folds == fold] = decide(evidence.at(np.flatnonzero(folds != fold)), seed).selected
    return selected


def untouched_predictions(without_each: Ints, predictions: Callable[[int], Floats]) -> Floats:
    """Returns (n, classes): for each photo, what the candidate predicts that is selected without the photo.

    The figures of these predictions are those of the selection as a whole, luck left out: the candidate that
    is selected on all photos looks better on them than it is.

    Args:
        without_each: (n,), as `selected_without_each` returns it.
        predictions: gives a candidate's predictions (n, classes) for all photos.
    """
    result = np.empty_like(predictions(0))
    for index in np.unique(without_each).tolist():
        result[without_each == index] = predictions(index)[without_each == index]
    return result


@dataclass(frozen=True)
class Acceptance:
    """Whether something optional is accepted."""

    accepted: bool
    reason: str
    """the figures, in words"""
    predictions: Floats
    """(n, classes), each photo's by the decision that is made without it"""


def accept_change(
    baseline: Floats,
    candidate: Floats,
    y_true: Ints,
    groups: Ints,
    metric: MetricName,
    seed: int,
    untouched: tuple[Floats, Floats] | None = None,
) -> Acceptance:
    """Decides about one change by the one rule.

    `baseline` and `candidate` are (n, classes), of the same photos. If something was selected for them
    before, `untouched` are those by decisions that were made without each photo; the rest is as for
    `Evidence`.
    """
    evidence = Evidence.of((baseline, candidate), y_true, groups, metric)
    both = untouched or (baseline, candidate)
    decision, scores, losses = decide(evidence, seed), evidence.scores, evidence.losses.mean(axis=1)
    accepted = decision.selected == 1
    folds = group_folds(y_true, groups, seed, OUTER_FOLDS)
    values = f"log loss {losses[0]:.4f} -> {losses[1]:.4f}"
    if metric != "logloss":
        values += f", {METRIC_WORDS[metric]} {scores[0]:.4f} -> {scores[1]:.4f}"
    return Acceptance(
        accepted=accepted,
        reason=(
            f"{'accepted' if accepted else 'not accepted'}: {values} on {len(y_true)} photos with true"
            f" labels; {gain_in_words(decision, 1)}"
        ),
        predictions=(
            both[decision.selected]
            if folds is None
            else untouched_predictions(
                selected_without_each(evidence, folds, seed), lambda index: both[index]
            )
        ),
    )


def gain_in_words(decision: Decision, index: int) -> str:
    """Returns the gain of a candidate beside the noise bar, in words."""
    gain, bar = decision.gains[index], decision.bars[index]
    verdict = "more than chance would explain" if gain > bar else "no more than chance would explain"
    return f"a gain of {gain:.4f} with the noise bar at {bar:.4f} is {verdict}"


def group_folds(y_true: Ints, groups: Ints, seed: int, folds: int) -> Ints | None:
    """Returns each photo's fold, (n,) from 0, stratified by label; a group is never divided.

    Returns None if no label has enough photos for three folds, which nested cross-validation needs.
    """
    # near-duplicates nearly always share a label: stratifying whole groups is a hundred times as fast as
    # StratifiedGroupKFold
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    label = y_true[first]
    folds = min(folds, int(np.bincount(label).max()))
    if folds < 3:
        return None
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(label), dtype=np.int64)
    with warnings.catch_warnings():
        # a label with fewer photos than folds is missing in some of them, which does no harm here
        warnings.filterwarnings("ignore", message="The least populated class")
        for index, (_, rows) in enumerate(splitter.split(label, label)):
            fold[rows] = index
    return fold[group]


def _noise_quantile(sums: Floats, seed: int) -> float:
    """Returns how many standard errors the luckiest candidate stays below, of (candidates, groups)."""
    scaled = sums / np.maximum(np.sqrt((sums**2).sum(axis=1, keepdims=True)), 1e-12)
    random = np.random.default_rng(seed)
    draws = random.multivariate_normal(
        np.zeros(len(scaled)), scaled @ scaled.T, BOOTSTRAP_DRAWS, check_valid="ignore", method="eigh"
    )
    return float(np.quantile(draws.max(axis=1), CONFIDENCE))


def _group_sums(values: Floats, groups: Ints) -> Floats:
    """Returns (rows, groups): for each group, the sum of the distances of (rows, n) from the row's mean."""
    _, group = np.unique(groups, return_inverse=True)
    centred = values - values.mean(axis=1, keepdims=True)
    return np.stack([np.bincount(group, weights=row) for row in centred])
