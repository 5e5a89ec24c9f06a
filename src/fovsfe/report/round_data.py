"""What a run folder holds of one round: training curves, held-out predictions, and the blend."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import BLEND_KINDS, Blend
from fovsfe.ensemble.predictions import read_predictions
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.recipe import Recipe
from fovsfe.run import Run, network_name
from fovsfe.training.task import PREDICTIONS, RESULT


@dataclass(frozen=True)
class HeldOutPredictions:
    """The predictions of a member or blend for photos that it was not trained on, by row of the manifest."""

    val_idx: Ints
    """(n,) positions in the manifest"""
    y_true: Ints
    """(n,) positions of the true labels in the class names"""
    probabilities: Floats
    """(n, classes)"""


@dataclass(frozen=True)
class TrainingCurve:
    """The training of one network, epoch by epoch."""

    fold: int
    epochs: pd.DataFrame
    """one row per epoch: layer_share, epoch, loss, log_loss, accuracy, seconds"""
    best_epoch: int | None
    """the row whose weights were kept; None while the network is still training"""


@dataclass(frozen=True)
class RoundData:
    """A round, as far as it has come. Members are keyed by name, in the recipe's order."""

    round_index: int
    curves: dict[str, list[TrainingCurve]]
    member_predictions: dict[str, HeldOutPredictions]
    """every member that has a trained network; on part of the photos until all of its folds are trained"""
    without_tta: dict[str, HeldOutPredictions]
    """the same members without test-time augmentation"""
    with_tta: dict[str, HeldOutPredictions]
    """the same members with all variants of test-time augmentation; empty if the recipe names none"""
    blends: dict[str, HeldOutPredictions]
    """"mean", "maximum", ... of all members, and "selected"; cross-fitted: no fit has seen the photo"""
    blend: Blend | None


def read_round(
    run: Run,
    round_index: int,
    recipe: Recipe,
    manifest: pd.DataFrame,
    class_names: Sequence[str],
    epoch_events: Sequence[dict[str, Any]],
) -> RoundData:
    """Reads what a round has written so far.

    Args:
        run: the run folder.
        round_index: the round, 1 or 2.
        recipe: the run's recipe.
        manifest: the run's photos, possibly none.
        class_names: the names of all labels; empty if they are not known yet.
        epoch_events: the epochs in the run's log, for networks that are still training.

    Raises:
        FovsfeError: a file of the round is damaged or does not match the manifest.
    """
    names = [member.unique_name for member in recipe.members]
    folds = range(max(recipe.split.folds, 1))
    curves = {name: list(_read_curves(run, round_index, name, folds, epoch_events)) for name in names}
    reader = _PredictionReader(manifest, class_names)
    plain, with_tta = {}, {}
    for name in names if class_names and len(manifest) else ():
        folders = {fold: run.fold_folder(round_index, name, fold) for fold in folds}
        trained = {fold: folder for fold, folder in folders.items() if (folder / RESULT).exists()}
        if trained:
            val_idx, variants = _read_folds(trained, manifest)
            plain[name] = reader.of(val_idx, variants[0])
            if len(variants) > 1:
                with_tta[name] = reader.of(val_idx, variants.mean(axis=0))
    out_of_fold = {name: run.out_of_fold_file(round_index, name) for name in plain}
    blends = (
        [run.blend_predictions_file(round_index, name) for name in (*BLEND_KINDS, "selected")]
        if class_names
        else []
    )
    blend = run.blend_file(round_index)
    return RoundData(
        round_index=round_index,
        curves={name: of_member for name, of_member in curves.items() if of_member},
        member_predictions=plain
        | {name: reader.read(file) for name, file in out_of_fold.items() if file.exists()},
        without_tta=plain,
        with_tta=with_tta,
        blends={file.stem: reader.read(file) for file in blends if file.exists()},
        blend=Blend.model_validate(read_json(blend)) if blend.exists() else None,
    )


def read_held_out(file: Path, manifest: pd.DataFrame, class_names: Sequence[str]) -> HeldOutPredictions:
    """Reads a table of predictions for held-out photos.

    Raises FovsfeError if it cannot be read or does not match the manifest.
    """
    return _PredictionReader(manifest, class_names).read(file)


class _PredictionReader:
    """Sets the manifest's true labels beside predictions."""

    def __init__(self, manifest: pd.DataFrame, class_names: Sequence[str]) -> None:
        position = {label: index for index, label in enumerate(class_names)}
        self.y_true = np.asarray(manifest["label"].map(position).fillna(-1), np.int64)
        self.row = pd.Series(np.arange(len(manifest)), index=manifest["id"])

    def of(self, val_idx: Ints, probabilities: Floats) -> HeldOutPredictions:
        return HeldOutPredictions(val_idx, self.y_true[val_idx], probabilities)

    def read(self, file: Path) -> HeldOutPredictions:
        frame = read_predictions(file)
        rows = self.row.reindex(frame.index).to_numpy()
        if np.isnan(rows).any():
            raise FovsfeError(f"{file} has predictions for photos that are not in photos.csv")
        return self.of(rows.astype(np.int64), frame.to_numpy(np.float64))


def _read_folds(trained: dict[int, Path], manifest: pd.DataFrame) -> tuple[Ints, Floats]:
    """Returns positions in the manifest, ascending, and (tta variants, n, classes) of the trained folds."""
    photo_fold = np.where(manifest["fault"] == "", manifest["fold"].to_numpy(np.int64), -1)
    positions, probabilities = [], []
    for fold, folder in trained.items():
        file = folder / PREDICTIONS
        positions.append(np.flatnonzero(photo_fold == fold))
        with np.load(file) as arrays:
            probabilities.append(arrays["val"].astype(np.float64))
        if probabilities[-1].shape[1] != len(positions[-1]):
            raise FovsfeError(f"{file} has predictions for other photos than photos.csv lists")
    val_idx = np.concatenate(positions).astype(np.int64)
    order = np.argsort(val_idx)
    return val_idx[order], np.concatenate(probabilities, axis=1)[:, order]


def _read_curves(
    run: Run, round_index: int, name: str, folds: range, epoch_events: Sequence[dict[str, Any]]
) -> Iterator[TrainingCurve]:
    """Reads history.csv of each trained network, and the log of each one that is still training."""
    for fold in folds:
        file = run.fold_folder(round_index, name, fold) / "history.csv"
        if file.exists():
            epochs = _read_history(file)
            best_epoch = int(np.nanargmin(epochs["log_loss"].fillna(np.inf)))
            yield TrainingCurve(fold, epochs, best_epoch)
            continue
        network = network_name(name, round_index, fold, len(folds))
        rows = [event for event in epoch_events if event.get("network") == network]
        if rows:
            # An epoch that was repeated after a crash is in the log twice.
            epochs = pd.DataFrame(rows).drop_duplicates(["layer_share", "epoch"], keep="last")
            yield TrainingCurve(fold, epochs.reset_index(drop=True), None)


def _read_history(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {file}: {error}") from error
