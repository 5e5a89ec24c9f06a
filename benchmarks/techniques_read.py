"""What the runs say: figures on the hold-out, and differences on the same photos."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from benchmarks.techniques_list import VIEW_SETS, VIEWS, Variation
from fovsfe.ensemble.blend import KINDS, Floats, Kind
from fovsfe.ensemble.fit import fit_blend
from fovsfe.ensemble.metrics import NORMAL_95, Ints, compare, measure
from fovsfe.ensemble.predictions import read, side_by_side
from fovsfe.run import Run, read_json

STRENGTH = 10.0  # holds the stacking weights back; a run chooses among three, this is the middle one


@dataclass(frozen=True)
class Row:
    """A line of the table. Shares, not percent; the difference is to `against`, on the same photos."""

    technique: str
    what: str
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    against: str
    difference: float
    difference_interval: tuple[float, float]
    p_value: float
    seconds: float


@dataclass(frozen=True)
class Judged:
    """What a run says of its hold-out: probabilities are (members, n, labels)."""

    run: Run
    labels: tuple[str, ...]
    truth: Ints
    folds: Ints

    @classmethod
    def of(cls, run: Run) -> "Judged":
        """Raises FovsfeError where the run is not complete."""
        labels = tuple(read_json(run.metrics)["labels"])
        with run.photos.open(encoding="utf-8", newline="") as file:
            photos = {row["id"]: row for row in csv.DictReader(file)}
        judged = [photos[photo] for photo in read(next(iter(_members(run, 1).values()))).index]
        truth = np.array([labels.index(photo["label"]) for photo in judged], np.int64)
        return cls(run, labels, truth, np.array([int(photo["fold"]) for photo in judged], np.int64))

    @property
    def names(self) -> tuple[str, ...]:
        """The members."""
        return tuple(_members(self.run, 1))

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.run.spent.seconds

    def members(self, number: int) -> Floats:
        """The members' out-of-fold answers in a round."""
        return side_by_side([read(file) for file in _members(self.run, number).values()])

    def views(self) -> dict[str, Floats]:
        """The members' answers by view."""
        views = ("plain", *VIEWS)
        answers = np.empty((len(views), len(self.names), len(self.truth), len(self.labels)))
        for m, name in enumerate(self.names):
            for fold in np.unique(self.folds).tolist():
                with np.load(self.run.fold(1, name, fold) / "predictions.npz") as saved:
                    answers[:, m, self.folds == fold] = saved["judge"]
        return dict(zip(views, answers, strict=True))

    def row(
        self, technique: str, what: str, answers: Floats, against: Floats | None, whom: str, seconds: float
    ) -> Row:
        """A line for (n, labels) answers, against others of the same photos."""
        figures = measure(answers, self.truth, self.labels)
        before = answers if against is None else against
        compared = compare(before, answers, self.truth)
        photos = len(self.truth)
        disputed = (compared.only_first + compared.only_second) / photos
        reach = NORMAL_95 * math.sqrt(max(disputed - compared.difference**2, 0.0) / photos)
        around = (compared.difference - reach, compared.difference + reach)
        return Row(
            technique,
            what,
            figures.accuracy,
            figures.interval,
            figures.log_loss,
            whom if against is not None else "",
            compared.difference,
            around,
            compared.p_value,
            seconds,
        )


def rows(variation: Variation, judged: Judged, base: Judged) -> Iterator[Row]:
    """What a variation shows. Except where blends are compared, it is of the mean of the members."""
    plain = base.members(1).mean(0)
    if variation.technique == "round 2":
        first, second = judged.members(1).mean(0), judged.members(2).mean(0)
        yield judged.row("round 2", variation.what, second, first, "its round 1", judged.seconds)
    elif variation.technique == "test-time views":
        views = judged.views()
        for names in VIEW_SETS:
            answers = np.stack([views[name] for name in ("plain", *names)]).mean((0, 1))
            what = "plain, " + ", ".join(names)
            yield judged.row("test-time views", what, answers, views["plain"].mean(0), "plain", 0.0)
    elif judged is base:
        yield judged.row("", variation.what, plain, None, "", judged.seconds)
        for name, answers in zip(base.names, base.members(1), strict=True):
            yield base.row("blend", f"{name} alone", answers, plain, "mean", 0.0)
        for kind in KINDS[1:]:
            yield base.row("blend", kind, _blended(kind, base), plain, "mean", 0.0)
    else:
        answers = judged.members(1).mean(0)
        yield judged.row(variation.technique, variation.what, answers, plain, "base", judged.seconds)


def _members(run: Run, number: int) -> dict[str, Path]:
    figures = read_json(run.metrics)["rounds"][number - 1]["members"]
    return {name: run.member(number, name) / "out_of_fold.csv" for name in figures}


def _blended(kind: Kind, judged: Judged) -> Floats:
    """Answers (n, labels) of a blend of all members that was fitted on the other photos: five folds."""
    members = judged.members(1)
    answers = np.empty(members.shape[1:])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for rest, held_out in folds.split(judged.truth, judged.truth):
        blend = fit_blend(kind, judged.names, members[:, rest], judged.truth[rest], STRENGTH)
        answers[held_out] = blend.apply(members[:, held_out])
    return answers
