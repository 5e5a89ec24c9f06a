"""Which photo comes next: queues of doubtful photos, and one of all, by the gain that a press is expected to
bring.

A press gains something if it changes something. How often that is so in a queue is counted while one presses,
the last presses most: the mixed queue goes on where it is most often so, and says when it hardly is anywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovsfe.arrays import Floats, Ints
from fovsfe.report.label_errors import find_label_errors
from fovsfe.review.material import Evidence, Photos

MIXED = "all"
KEPT = 0.93  # of the weight of a press when the next one comes
PRIOR_PRESSES = 3.0  # that the prior counts as many as
PRIORS = {"labels": 0.5, "strangers": 0.5, "copies": 0.8}
"""in how many presses of a queue something is changed, before it is known; the mixed queue is of these"""
QUEUES = {
    MIXED: "What gains most",
    "labels": "Labels that are probably wrong",
    "strangers": "Unlike all others",
    "copies": "Copies across labels or parts",
    "mistakes": "Worst mistakes",
    "tests": "Least sure test photos",
}
WORTH = 0.1  # presses that change something, of all: fewer are not worth it
SURE = 3  # photos of a label that are shown beside a doubtful one


@dataclass(frozen=True, eq=False)
class Ranking:
    """Photos in the order of each queue, by positions in the table of photos."""

    orders: Mapping[str, Ints]
    """queue -> positions, the most doubtful first; at most one of each group of near-duplicates before all
    others"""
    probabilities: Floats
    """(rows of the table, classes); rows that nothing is known of are 0"""
    sure: tuple[Ints, ...]
    """for each label, positions of photos that it surely fits, the surest first"""
    nearness: Floats
    """(rows of the table,) NaN where it is not known"""


def rank(
    photos: Photos, evidence: Evidence, of_heads: Floats, y_now: Ints, is_removed: NDArray[np.bool_]
) -> Ranking:
    """Returns the ranking of photos by what the run and the heads say of them out of fold.

    Args:
        photos: those to review.
        evidence: what is known of them.
        of_heads: (n, classes), by heads that were fitted without the photo.
        y_now: (n,), the labels of the labelled photos after what has been decided.
        is_removed: (n,), whether a labelled photo is left out.
    """
    labelled = photos.labelled
    both = np.where(np.isfinite(evidence.predicted), (evidence.predicted + of_heads) / 2, of_heads)
    group = photos.table["group"].to_numpy(np.int64)
    rows = np.arange(len(labelled))
    predicted, confidence = both.argmax(axis=1), both.max(axis=1)
    errors = [each.position for each in find_label_errors(both, y_now)]
    wrong = np.flatnonzero(predicted != y_now)
    margin = confidence - both[rows, y_now]
    entropy = -(photos.tested_probabilities * np.log(np.maximum(photos.tested_probabilities, 1e-12))).sum(1)
    orders = {
        "labels": labelled[errors],
        "strangers": labelled[np.argsort(evidence.nearness, kind="stable")],
        "copies": np.array([row for _, found in photos.copies for row in found], np.int64),
        "mistakes": labelled[wrong[np.argsort(-margin[wrong], kind="stable")]],
        "tests": photos.tested[np.argsort(-entropy, kind="stable")],
    }
    is_labelled = (photos.table["split"] == "train").to_numpy()
    orders["copies"] = orders["copies"][is_labelled[orders["copies"]]]
    probabilities = np.zeros((len(photos.table), len(photos.class_names)))
    probabilities[labelled] = both
    if len(photos.tested):
        probabilities[photos.tested] = photos.tested_probabilities
    fits = (predicted == y_now) & ~is_removed
    sure = []
    for label in range(len(photos.class_names)):
        of_label = np.flatnonzero(fits & (y_now == label))
        surest = labelled[of_label[np.argsort(-confidence[of_label], kind="stable")]]
        sure.append(_diverse(surest, group)[: SURE + 1])
    nearness = np.full(len(photos.table), np.nan)
    nearness[labelled] = evidence.nearness
    return Ranking(
        {name: order if name == "copies" else _diverse(order, group) for name, order in orders.items()},
        probabilities,
        tuple(sure),
        nearness,
    )


def _diverse(order: Ints, group: Ints) -> Ints:
    """Returns the photos in their order, but the near-duplicates of earlier ones after all others."""
    _, first = np.unique(group[order], return_index=True)
    is_first = np.zeros(len(order), np.bool_)
    is_first[first] = True
    return np.concatenate([order[is_first], order[~is_first]])


@dataclass
class Yield:
    """How often a press in a queue has changed something, the last presses most."""

    prior: float
    changed: float = 0.0
    presses: float = 0.0

    def add(self, changed: float) -> None:
        """Counts a press: 1 if it changed something, 0 if not."""
        self.changed, self.presses = KEPT * self.changed + changed, KEPT * self.presses + 1

    @property
    def expected(self) -> float:
        """The share, 0 to 1, of the next presses that will change something."""
        return (self.changed + PRIOR_PRESSES * self.prior) / (self.presses + PRIOR_PRESSES)


def yields(presses: Iterable[tuple[str, bool]]) -> dict[str, Yield]:
    """Returns what the presses, each of a queue and whether it changed something, say of the queues."""
    result = {name: Yield(prior) for name, prior in PRIORS.items()}
    for name, changed in presses:
        if name in result:
            result[name].add(float(changed))
    return result


def next_photos(
    ranking: Ranking, queue: str, is_done: NDArray[np.bool_], of_queues: Mapping[str, Yield], count: int
) -> list[tuple[int, str]]:
    """Returns at most `count` photos that come next, with the queue that each of them is from.

    Args:
        ranking: the order of each queue.
        queue: one of QUEUES.
        is_done: whether each photo of the table has been decided upon, or skipped.
        of_queues: what presses have said of the queues.
        count: the largest number of photos.
    """
    names = list(PRIORS) if queue == MIXED else [queue]
    left: dict[str, list[int]] = {}
    for name in names:
        order = ranking.orders[name]
        left[name] = order[~is_done[order]][: count * len(names)].tolist()  # they may be in several
    expected = {name: Yield(each.prior, each.changed, each.presses) for name, each in of_queues.items()}
    result: list[tuple[int, str]] = []
    taken: set[int] = set()
    while len(result) < count:
        for rows in left.values():
            while rows and rows[0] in taken:
                rows.pop(0)
        if not any(left.values()):
            break
        there = [name for name in names if left[name]]
        best = max(there, key=lambda name: expected[name].expected if name in expected else 0.0)
        row = left[best].pop(0)
        taken.add(row)
        result.append((row, best))
        if best in expected:
            expected[best].add(expected[best].expected)
    return result


def expected_gain(
    ranking: Ranking, queue: str, is_done: NDArray[np.bool_], of_queues: Mapping[str, Yield]
) -> float | None:
    """Returns the share, 0 to 1, of the next presses in a queue that will change something; None if that is
    not known of it, and 0 if it is empty."""
    if queue != MIXED and queue not in of_queues:
        return None
    names = list(of_queues) if queue == MIXED else [queue]
    there = [name for name in names if not is_done[ranking.orders[name]].all()]
    return max((of_queues[name].expected for name in there), default=0.0)
