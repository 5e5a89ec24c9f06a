"""What the runs of variations show: figures on held-out photos, and differences on the same photos."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from benchmarks.techniques_list import ROUND_2_TECHNIQUE, TTA_SETS, TTA_TECHNIQUE, TTA_VARIANTS, Variation
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import BLEND_KINDS, BlendKind
from fovsfe.ensemble.fitting import fit_blend
from fovsfe.ensemble.metrics import NORMAL_95, compute_metrics, mcnemar
from fovsfe.ensemble.predictions import read_predictions, stack_predictions
from fovsfe.files import read_json
from fovsfe.photos.manifest import read_manifest
from fovsfe.run import Run

REGULARIZATION = 10.0
"""of the stacking weights: the middle one of the values that a run chooses among"""


@dataclass(frozen=True)
class TechniqueRow:
    """A line of the table; fractions, not percent."""

    technique: str
    description: str
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    against: str
    """what the difference is to, on the same photos; empty if there is no difference"""
    difference: float
    difference_interval: tuple[float, float]
    p_value: float
    seconds: float
    """of the whole run; 0 if the row is not of a run of its own"""


@dataclass(frozen=True)
class RunPredictions:
    """A complete run's predictions for its held-out photos."""

    run: Run
    class_names: tuple[str, ...]
    y_true: Ints
    """(n,) positions of the true labels"""
    folds: Ints
    """(n,) the fold in which each photo was held out"""

    @classmethod
    def read(cls, run: Run) -> "RunPredictions":
        """Reads a run. Raises FovsfeError if it is not complete."""
        class_names = tuple(read_json(run.metrics_file)["class_names"])
        ids = read_predictions(next(iter(_prediction_files(run, 1).values()))).index
        photos = read_manifest(run.manifest_file).set_index("id").loc[ids]
        y_true = np.array([class_names.index(label) for label in photos["label"]], np.int64)
        return cls(run, class_names, y_true, photos["fold"].to_numpy(np.int64))

    @property
    def member_names(self) -> tuple[str, ...]:
        """The members' names."""
        return tuple(_prediction_files(self.run, 1))

    @property
    def seconds(self) -> float:
        """The seconds of the whole run."""
        return self.run.stopwatch.seconds

    def member_probabilities(self, round_index: int) -> Floats:
        """Returns the members' out-of-fold probabilities in a round: (members, n, classes)."""
        files = _prediction_files(self.run, round_index).values()
        return stack_predictions([read_predictions(file) for file in files])

    def member_probabilities_by_tta(self) -> dict[str, Floats]:
        """Returns the members' probabilities (members, n, classes) in round 1 by test-time variant."""
        variants, names = ("plain", *TTA_VARIANTS), self.member_names
        probabilities = np.empty((len(variants), len(names), len(self.y_true), len(self.class_names)))
        for m, name in enumerate(names):
            for fold in np.unique(self.folds).tolist():
                with np.load(self.run.fold_folder(1, name, fold) / "predictions.npz") as saved:
                    probabilities[:, m, self.folds == fold] = saved["val"]
        return dict(zip(variants, probabilities, strict=True))

    def blended(self, kind: BlendKind) -> Floats:
        """Returns a blend of all members (n, classes), in five folds: no fit has seen the photo."""
        probabilities = self.member_probabilities(1)
        blended = np.empty(probabilities.shape[1:])
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        for fit_idx, held_out_idx in folds.split(self.y_true, self.y_true):
            blend = fit_blend(
                kind, self.member_names, probabilities[:, fit_idx], self.y_true[fit_idx], REGULARIZATION
            )
            blended[held_out_idx] = blend.apply(probabilities[:, held_out_idx])
        return blended

    def row(
        self,
        technique: str,
        description: str,
        probabilities: Floats,
        against: tuple[str, Floats] | None = None,
        seconds: float = 0.0,
    ) -> TechniqueRow:
        """Returns a line for probabilities (n, classes).

        `against` are the name and the probabilities of what they are compared with, if anything.
        """
        name, reference = against or ("", probabilities)
        metrics = compute_metrics(probabilities, self.y_true, self.class_names)
        test = mcnemar(reference, probabilities, self.y_true)
        photos = len(self.y_true)
        discordant = (test.only_first + test.only_second) / photos
        half_width = NORMAL_95 * math.sqrt(max(discordant - test.difference**2, 0.0) / photos)
        return TechniqueRow(
            technique=technique,
            description=description,
            accuracy=metrics.accuracy,
            interval=metrics.interval,
            log_loss=metrics.log_loss,
            against=name,
            difference=test.difference,
            difference_interval=(test.difference - half_width, test.difference + half_width),
            p_value=test.p_value,
            seconds=seconds,
        )


def variation_rows(
    variation: Variation, result: RunPredictions, base: RunPredictions
) -> Iterator[TechniqueRow]:
    """Yields the rows of a variation: of the mean of the members, unless members or blends are compared."""
    technique, description, seconds = variation.technique, variation.description, result.seconds
    base_mean = base.member_probabilities(1).mean(0)
    if technique == ROUND_2_TECHNIQUE:
        first, second = result.member_probabilities(1).mean(0), result.member_probabilities(2).mean(0)
        yield result.row(technique, description, second, ("its round 1", first), seconds)
    elif technique == TTA_TECHNIQUE:
        by_tta = result.member_probabilities_by_tta()
        plain = by_tta["plain"].mean(0)
        for names in TTA_SETS:
            averaged = np.stack([by_tta[name] for name in ("plain", *names)]).mean((0, 1))
            yield result.row(technique, "plain, " + ", ".join(names), averaged, ("plain", plain))
    elif result is base:
        yield base.row("", description, base_mean, seconds=seconds)
        for name, probabilities in zip(base.member_names, base.member_probabilities(1), strict=True):
            yield base.row("blend", f"{name} alone", probabilities, ("mean", base_mean))
        for kind in BLEND_KINDS[1:]:
            yield base.row("blend", kind, base.blended(kind), ("mean", base_mean))
    else:
        yield result.row(
            technique, description, result.member_probabilities(1).mean(0), ("base", base_mean), seconds
        )


def _prediction_files(run: Run, round_index: int) -> dict[str, Path]:
    """Returns the members' out-of-fold predictions of a round, by name."""
    names = read_json(run.metrics_file)["rounds"][round_index - 1]["members"]
    return {name: run.member_folder(round_index, name) / "out_of_fold.csv" for name in names}
