"""What the runs say: figures on the hold-out, and differences on the same photos."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from benchmarks.techniques_list import VIEW_SETS, VIEWS, Variation
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import BLEND_KINDS, BlendKind
from fovsfe.ensemble.fitting import fit_blend
from fovsfe.ensemble.metrics import NORMAL_95, compute_metrics, mcnemar
from fovsfe.ensemble.predictions import read_predictions, stack_predictions
from fovsfe.files import read_json
from fovsfe.run import Run

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
    """What a run says of its hold-out: probabilities are (members, n, classes)."""

    run: Run
    class_names: tuple[str, ...]
    y_true: Ints
    folds: Ints

    @classmethod
    def of(cls, run: Run) -> "Judged":
        """Raises FovsfeError where the run is not complete."""
        class_names = tuple(read_json(run.metrics)["class_names"])
        with run.photos.open(encoding="utf-8", newline="") as file:
            photos = {row["id"]: row for row in csv.DictReader(file)}
        judged = [photos[photo] for photo in read_predictions(next(iter(_members(run, 1).values()))).index]
        y_true = np.array([class_names.index(photo["label"]) for photo in judged], np.int64)
        return cls(run, class_names, y_true, np.array([int(photo["fold"]) for photo in judged], np.int64))

    @property
    def names(self) -> tuple[str, ...]:
        """The members."""
        return tuple(_members(self.run, 1))

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.run.stopwatch.seconds

    def members(self, number: int) -> Floats:
        """The members' out-of-fold answers in a round."""
        return stack_predictions([read_predictions(file) for file in _members(self.run, number).values()])

    def tta(self) -> dict[str, Floats]:
        """The members' answers by view."""
        tta = ("plain", *VIEWS)
        answers = np.empty((len(tta), len(self.names), len(self.y_true), len(self.class_names)))
        for m, name in enumerate(self.names):
            for fold in np.unique(self.folds).tolist():
                with np.load(self.run.fold(1, name, fold) / "predictions.npz") as saved:
                    answers[:, m, self.folds == fold] = saved["val"]
        return dict(zip(tta, answers, strict=True))

    def row(
        self, technique: str, what: str, answers: Floats, against: Floats | None, whom: str, seconds: float
    ) -> Row:
        """A line for (n, classes) answers, against others of the same photos."""
        figures = compute_metrics(answers, self.y_true, self.class_names)
        before = answers if against is None else against
        compared = mcnemar(before, answers, self.y_true)
        photos = len(self.y_true)
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
    elif variation.technique == "test-time augmentation":
        tta = judged.tta()
        for names in VIEW_SETS:
            answers = np.stack([tta[name] for name in ("plain", *names)]).mean((0, 1))
            what = "plain, " + ", ".join(names)
            yield judged.row("test-time augmentation", what, answers, tta["plain"].mean(0), "plain", 0.0)
    elif judged is base:
        yield judged.row("", variation.what, plain, None, "", judged.seconds)
        for name, answers in zip(base.names, base.members(1), strict=True):
            yield base.row("blend", f"{name} alone", answers, plain, "mean", 0.0)
        for kind in BLEND_KINDS[1:]:
            yield base.row("blend", kind, _blended(kind, base), plain, "mean", 0.0)
    else:
        answers = judged.members(1).mean(0)
        yield judged.row(variation.technique, variation.what, answers, plain, "base", judged.seconds)


def _members(run: Run, number: int) -> dict[str, Path]:
    figures = read_json(run.metrics)["rounds"][number - 1]["members"]
    return {name: run.member(number, name) / "out_of_fold.csv" for name in figures}


def _blended(kind: BlendKind, judged: Judged) -> Floats:
    """Answers (n, classes) of a blend of all members that was fitted on the other photos: five folds."""
    members = judged.members(1)
    answers = np.empty(members.shape[1:])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for rest, held_out in folds.split(judged.y_true, judged.y_true):
        blend = fit_blend(kind, judged.names, members[:, rest], judged.y_true[rest], STRENGTH)
        answers[held_out] = blend.apply(members[:, held_out])
    return answers
