"""A review under way: which photo comes next, what is pressed, and heads that are fitted again."""

import threading
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovsfe.arrays import Ints
from fovsfe.errors import UsageError
from fovsfe.photos.fixes import Fix
from fovsfe.review.heads import HonestGain, fit_heads, honest_gain
from fovsfe.review.journal import Journal
from fovsfe.review.material import Evidence, Photos
from fovsfe.review.queues import (
    MIXED,
    PRIORS,
    QUEUES,
    SURE,
    WORTH,
    Ranking,
    Yield,
    expected_gain,
    next_photos,
    rank,
    yields,
)

AHEAD = 4  # photos that a page knows of, and loads before they are shown
CHOICES = 5  # labels that have a key of their own
BATCH = 20  # presses after which heads are fitted again by themselves
PressAction = Literal["keep", "relabel", "remove"]


@dataclass(frozen=True)
class Now:
    """What has been decided so far, by rows."""

    y: Ints
    """(n,), the labels of the labelled photos"""
    is_removed: NDArray[np.bool_]
    """(n,), of the labelled photos"""
    is_decided: NDArray[np.bool_]
    """of all photos of the table"""
    actions: Counter[str]
    """how many photos of the table were kept, relabelled and so on"""
    yields: dict[str, Yield]
    """what the presses say of the queues"""


class Session:
    """One review of photos. Threads may use it at the same time; whatever is decided is in its journal."""

    def __init__(self, photos: Photos, evidence: Evidence, journal: Journal) -> None:
        """Fits heads to the given labels, and to what the journal says already. Takes seconds."""
        self.photos, self.journal = photos, journal
        self._evidence = evidence
        self._ids, self._sha256 = list(photos.table["id"]), list(photos.table["sha256"])
        self._row_of = {key: row for row, key in enumerate(zip(self._ids, self._sha256, strict=True))}
        self._position = {row: position for position, row in enumerate(photos.labelled.tolist())}
        self._label_of = {label: index for index, label in enumerate(photos.class_names)}
        self._y_given = photos.y_given
        self._groups = photos.table["group"].to_numpy(np.int64)
        self._given = np.full(len(photos.table), -1)
        self._given[photos.labelled] = self._y_given
        self._skipped = np.zeros(len(photos.table), np.bool_)
        self._shown_in: dict[int, str] = {}  # row -> queue, of photos that were pressed
        self._before_this = frozenset(photos.trained_with)  # says nothing of the queues of this run
        self._copy_of = {row: index for index, (_, rows) in enumerate(photos.copies) for row in rows.tolist()}
        self._read: tuple[int, Now] | None = None
        self._lock = threading.RLock()
        self._presses = 0  # since heads were fitted
        self._training: threading.Thread | None = None
        self._gain: HonestGain | None = None
        classes = len(photos.class_names)
        nothing_removed = np.zeros(len(self._y_given), np.bool_)
        self._before = fit_heads(evidence, self._y_given, nothing_removed, classes)
        self._fit()

    @property
    def unknown(self) -> list[str]:
        """The ids of photos that the journal has decided upon and that are not here, or have changed."""
        there = {fix.id for fix in self.photos.trained_with}  # removed ones are not here any more
        return [key[0] for key in self.journal.decided if key not in self._row_of and key[0] not in there]

    # ---- what has been decided

    def _now(self) -> Now:
        """Returns what the journal says now; it is read once after each press."""
        if self._read is None or self._read[0] != len(self.journal.rows):
            self._read = len(self.journal.rows), self._decided()
        return self._read[1]

    def _decided(self) -> Now:
        y, is_removed = self._y_given.copy(), np.zeros(len(self._y_given), np.bool_)
        is_decided = np.zeros(len(self._ids), np.bool_)
        actions: Counter[str] = Counter()
        presses = []
        for key, fix in self.journal.decided.items():
            if (row := self._row_of.get(key)) is None:
                continue
            is_decided[row] = True
            actions[fix.action] += 1
            if fix not in self._before_this:
                presses.append((fix.why.partition(":")[0], fix.action != "keep"))
            position = self._position.get(row)
            if position is not None and fix.action == "remove":
                is_removed[position] = True
            elif position is not None and fix.action == "relabel":
                y[position] = self._label_of.get(fix.label, y[position])
        return Now(y, is_removed, is_decided, actions, yields(presses))

    def press(self, row: int, version: int, action: PressAction, label: str, queue: str) -> int:
        """Decides upon a photo; when this returns, it is on disk.

        Args:
            row: of the photo in the table.
            version: of the photo when it was shown.
            action: what to do with it.
            label: the new label, if it is relabelled.
            queue: the queue that it was shown from.

        Returns:
            The photo's version from now on.

        Raises:
            UsageError: there is no such photo or label, or a photo without a label cannot be kept.
            Stale: it has been decided upon in another tab since it was shown.
            FovsfeError: the disk is full.
        """
        self._check_row(row)
        given = self._given[row]
        if action == "relabel" and label not in self._label_of:
            raise UsageError(f'there is no label "{label}"')
        if action == "keep" and given < 0:
            raise UsageError("a test photo has no label that could be kept")
        if action == "relabel" and self._label_of[label] == given:
            action = "keep"
        with self._lock:
            fix = Fix(
                self._ids[row],
                self._sha256[row],
                action,
                label if action == "relabel" else "",
                why=f"{queue}: {self._why(row, queue)}",
            )
            self.journal.press(fix, version)
            self._shown_in[row] = queue
            self._presses += 1
            if self._presses >= BATCH:
                self.train()
        return version + 1

    def undo(self, row: int, version: int) -> int:
        """Takes back what has been decided upon a photo. Returns and raises as `press` does."""
        self._check_row(row)
        with self._lock:
            self.journal.press(Fix(self._ids[row], self._sha256[row], "undo"), version)
            self._presses = max(self._presses - 1, 0)
            self._skipped[row] = False
        return version + 1

    def skip(self, row: int) -> None:
        """Leaves a photo out until the program is started again. Raises UsageError if there is no such."""
        self._check_row(row)
        with self._lock:
            self._skipped[row] = True

    def _check_row(self, row: int) -> None:
        if not 0 <= row < len(self._ids):
            raise UsageError("there is no such photo")

    # ---- heads

    def train(self) -> None:
        """Begins to fit heads to the labels as they are now, in a thread, unless one does already."""
        with self._lock:
            if self._training is None or not self._training.is_alive():
                self._presses = 0
                self._training = threading.Thread(target=self._fit, daemon=True)
                self._training.start()

    def wait(self) -> None:
        """Waits until heads that are being fitted are done."""
        if self._training is not None:
            self._training.join()

    def _fit(self) -> None:
        with self._lock:
            now = self._now()
        class_names = self.photos.class_names
        has_changed = bool(now.is_removed.any() or (now.y != self._y_given).any())
        after, gain = self._before, None
        if has_changed:
            after = fit_heads(self._evidence, now.y, now.is_removed, len(class_names))
            ids = [self._ids[row] for row in self.photos.labelled]
            gain = honest_gain(self._before, after, self._y_given, now.y, now.is_removed, ids, class_names)
        ranking = rank(self.photos, self._evidence, after, now.y, now.is_removed)
        with self._lock:
            self._ranking, self._gain = ranking, gain

    # ---- what a page shows

    def cards(self, queue: str, first: int | None = None) -> list[dict[str, Any]]:
        """Returns the photos that come next in a queue, AHEAD at most, each as a page shows it.

        Args:
            queue: one of QUEUES.
            first: the row of a photo that comes before all others, because it was taken back.
        """
        with self._lock:
            now, ranking = self._now(), self._ranking
            is_done = now.is_decided | self._skipped
            found = next_photos(ranking, queue, is_done, now.yields, AHEAD)
            if first is not None:
                again = first, self._shown_in.get(first, queue)
                found = [again, *(each for each in found if each[0] != first)][:AHEAD]
            return [self._card(row, of_queue, ranking) for row, of_queue in found]

    def state(self, queue: str) -> dict[str, Any]:
        """Returns how far the review has come, as a page shows it beside a photo of a queue."""
        with self._lock:
            now, ranking = self._now(), self._ranking
            is_done = now.is_decided | self._skipped
            expected = expected_gain(ranking, queue, is_done, now.yields)
            orders = [ranking.orders[name] for name in (PRIORS if queue == MIXED else [queue])]
            left = sum(int((~is_done[order]).sum()) for order in orders)
            return {
                "reviewed": now.actions.total(),
                "relabelled": now.actions["relabel"],
                "removed": now.actions["remove"],
                "advice": _advice(expected, left),
                "training": self._training is not None and self._training.is_alive(),
                "gain": None if self._gain is None else _gain_view(self._gain),
            }

    @cached_property
    def start(self) -> dict[str, Any]:
        """What a page needs once: the labels, the queues that have photos, and the file of fixes."""
        orders = self._ranking.orders
        return {
            "labels": list(self.photos.class_names),
            "queues": [
                {"name": name, "title": title}
                for name, title in QUEUES.items()
                if name == MIXED or len(orders[name])
            ],
            "file": self.journal.file.name,
        }

    def _card(self, row: int, queue: str, ranking: Ranking) -> dict[str, Any]:
        given = int(self._given[row])
        likely = [int(label) for label in np.argsort(-ranking.probabilities[row], kind="stable")]
        labels = [label for label in (given,) if label >= 0] + [label for label in likely if label != given]
        beside = [
            {"title": self.photos.class_names[label], "key": key, "photos": self._sure(row, label, ranking)}
            for key, label in enumerate(labels[:2], 1)
        ]
        if copies := self._copies_of(row):
            beside.insert(0, {"title": "Copies of it", "key": None, "photos": copies})
        return {
            "row": row,
            "version": self.journal.version(self._ids[row], self._sha256[row]),
            "id": self._ids[row],
            "queue": queue,
            "why": self._why(row, queue),
            "given": self.photos.class_names[given] if given >= 0 else None,
            "choices": [
                {
                    "label": self.photos.class_names[label],
                    "percent": f"{ranking.probabilities[row, label]:.0%}",
                }
                for label in labels[:CHOICES]
            ],
            "beside": beside,
        }

    def _sure(self, row: int, label: int, ranking: Ranking) -> list[dict[str, Any]]:
        sure = ranking.sure[label]
        others = sure[self._groups[sure] != self._groups[row]].tolist()
        return [{"row": each, "label": self.photos.class_names[label]} for each in others[:SURE]]

    def _copies_of(self, row: int) -> list[dict[str, Any]]:
        if row not in self._copy_of:
            return []
        rows = self.photos.copies[self._copy_of[row]][1].tolist()
        return [{"row": each, "label": self._label_now(each)} for each in rows if each != row][: 2 * SURE]

    def _label_now(self, row: int) -> str:
        """Returns what a photo's label is by now, in words."""
        fix = self.journal.decided.get((self._ids[row], self._sha256[row]))
        if fix is not None and fix.action == "remove":
            return "removed"
        given = self.photos.class_names[self._given[row]] if self._given[row] >= 0 else "test photo"
        return fix.label if fix is not None and fix.action == "relabel" else given

    def _why(self, row: int, queue: str) -> str:
        """Returns why a photo is in a queue, in words."""
        ranking = self._ranking
        probabilities, given = ranking.probabilities[row], int(self._given[row])
        likeliest = int(probabilities.argmax())
        name = self.photos.class_names[likeliest]
        if queue == "copies" and row in self._copy_of:
            words = self.photos.copies[self._copy_of[row]][0]
            return f"{words[0].upper()}{words[1:]}."
        if queue == "strangers":
            below = float(np.nanmean(ranking.nearness > ranking.nearness[row]))
            return f"It is less like the other photos than {below:.0%} of them are."
        if given < 0:
            return f"No label is sure: {name} is the likeliest, with {probabilities[likeliest]:.0%}."
        if likeliest == given:
            return f"Models that have not seen it agree with its label ({probabilities[given]:.0%})."
        return (
            f"To models that have not seen it, it looks like {name} ({probabilities[likeliest]:.0%}) and less"
            f" like {self.photos.class_names[given]} ({probabilities[given]:.0%})."
        )


def _advice(expected: float | None, left: int) -> str:
    """Returns whether to go on, in words."""
    if not left:
        return "Nothing is left in this queue."
    if expected is None:
        return ""
    often = f"about 1 in {max(round(1 / max(expected, 1e-3)), 1)} of the next presses will change something"
    if expected >= 0.67:
        often = "nearly every one of the next presses will change something"
    if expected < WORTH:
        return f"More presses are hardly worth it: {often}."
    return f"{often[0].upper()}{often[1:]}."


def _gain_view(gain: HonestGain) -> dict[str, Any]:
    def view(comparison: Any) -> dict[str, Any]:
        low, high = comparison.difference_interval
        return {
            "before": f"{comparison.accuracies[0]:.1%}",
            "after": f"{comparison.accuracies[1]:.1%}",
            "difference": f"{100 * comparison.difference:+.1f}",
            "interval": f"{100 * low:+.1f} to {100 * high:+.1f}",
            "p": f"{comparison.p_value:.2g}",
        }

    return {
        "photos": gain.corrected.photos,
        "fixes": gain.fixes,
        "corrected": view(gain.corrected),
        "given": view(gain.given),
    }
