"""What a run folder holds so far, as plain data; of an unfinished run, what is there."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import BLEND_KINDS, Blend, Floats
from fovsfe.ensemble.metrics import Ints
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.photos import layouts
from fovsfe.photos import manifest as photo_table
from fovsfe.recipe import Recipe
from fovsfe.recipe import load_recipe as read_recipe
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath, as_path


@dataclass(frozen=True)
class HeldOutPredictions:
    """What a member or blend says of photos that it has not learned from."""

    rows: Ints
    """(n,) of the table of photos"""
    y_true: Ints
    """(n,) positions in the labels"""
    probabilities: Floats
    """(n, classes)"""


@dataclass(frozen=True)
class LearningCurve:
    """One network's training, epoch by epoch: stage, epoch, loss, log_loss, accuracy, seconds."""

    fold: int
    epochs: pd.DataFrame
    kept: int | None
    """the row whose network was kept; None while it trains"""


@dataclass(frozen=True)
class RoundData:
    """A round as far as it has come."""

    number: int
    curves: dict[str, list[LearningCurve]]
    """by member"""
    members: dict[str, HeldOutPredictions]
    """of members with a trained network, in the recipe's order; until all folds are done, of some photos"""
    plain: dict[str, HeldOutPredictions]
    """the same without test-time tta"""
    viewed: dict[str, HeldOutPredictions]
    """the same with all test-time tta; empty where the recipe names none"""
    blends: dict[str, HeldOutPredictions]
    """"mean", "maximum", ... of all members and "chosen", each by fits that had not seen the photo"""
    blend: Blend | None


@dataclass(frozen=True)
class RunData:
    """A run."""

    run: Run
    photos: AnyPath
    """the folder that the paths in the table are relative to"""
    command: dict[str, Any]
    recipe: Recipe
    class_names: tuple[str, ...]
    """in the order of all probabilities; empty as long as they are not known"""
    table: pd.DataFrame
    """photos.csv, without rows until the photos have been looked at"""
    findings: list[dict[str, Any]]
    rounds: list[RoundData]
    pseudo: pd.DataFrame | None
    metrics: dict[str, Any] | None
    """None until the run is done"""
    steps: dict[str, dict[str, float]]
    """by step: "seconds" and "peak_mb", as run.Stopwatch counts them"""
    versions: dict[str, str]
    """what the figures depend on; empty until the run is done"""

    @property
    def seconds(self) -> float:
        """Of all steps, over all sessions."""
        return sum(step["seconds"] for step in self.steps.values())

    @property
    def networks(self) -> int:
        """How many a round has in all."""
        return len(self.recipe.members) * max(self.recipe.split.folds, 1)


def read_run_data(run: Run) -> RunData:
    """Reads what is there.

    Raises:
        FovsfeError: the folder is no run, or one of its files is damaged.
    """
    if not run.arguments.exists():
        raise FovsfeError(
            f"{run.root} is not a run: it has no {run.arguments.name}; start one with fovsfe train"
        )
    command, recipe = read_json(run.arguments), read_recipe(str(run.recipe))
    metrics = read_json(run.metrics) if run.metrics.exists() else None
    given = as_path(command["photos"])
    exists = run.photos.exists()
    table = photo_table.read_manifest(run.photos) if exists else pd.DataFrame(columns=photo_table.COLUMNS)
    class_names = tuple(metrics["class_names"]) if metrics else _labels(given)
    events = list(_events(run.root / "log.jsonl"))
    rounds = [
        _round(run, number, recipe, table, class_names, events)
        for number in range(1, recipe.rounds + 1)
        if run.round(number).exists()
    ]
    return RunData(
        run=run,
        photos=given.parent if given.suffix.lower() == ".csv" and not given.is_dir() else given,
        command=command,
        recipe=recipe,
        class_names=class_names,
        table=table,
        findings=read_json(run.audit) if run.audit.exists() else [],
        rounds=rounds,
        pseudo=_csv(run.pseudo_labels, ["id", "label"]) if run.pseudo_labels.exists() else None,
        metrics=metrics,
        steps=run.spent.read(),
        versions=(metrics or {}).get("versions", {}),
    )


def _csv(file: Path, texts: list[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {file}: {error}") from error


def _labels(photos: AnyPath) -> tuple[str, ...]:
    """Their order is part of the photos' layout until metrics.json holds it."""
    try:
        return layouts.find_photos(photos).class_names
    except FovsfeError:  # moved away since: all that needs no labels can still be told
        return ()


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of the log, but for those that a killed process left half written."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _round(
    run: Run,
    number: int,
    recipe: Recipe,
    table: pd.DataFrame,
    class_names: tuple[str, ...],
    events: list[dict[str, Any]],
) -> RoundData:
    titles = [member.title for member in recipe.members]
    folds = range(max(recipe.split.folds, 1))
    curves = {title: list(_curves(run, number, title, folds, events)) for title in titles}
    y_true = _TrueLabels(table, class_names)
    plain, viewed = {}, {}
    for title in titles if class_names and len(table) else ():
        tta = [(fold, run.fold(number, title, fold) / "predictions.npz") for fold in folds]
        tta = [(fold, file) for fold, file in tta if (file.parent / "result.json").exists()]
        if tta:
            rows, seen = _judged(tta, table)
            plain[title] = y_true.of(rows, seen[0])
            if len(seen) > 1:
                viewed[title] = y_true.of(rows, seen.mean(axis=0))
    members = plain | {
        title: y_true.read(run.member(number, title) / "out_of_fold.csv")
        for title in plain
        if (run.member(number, title) / "out_of_fold.csv").exists()
    }
    names = (*BLEND_KINDS, "chosen")
    files = [run.blend(number, name) for name in names]
    blend = run.round(number) / "blend.json"
    return RoundData(
        number=number,
        curves={title: some for title, some in curves.items() if some},
        members=members,
        plain=plain,
        viewed=viewed,
        blends={file.stem: y_true.read(file) for file in files if class_names and file.exists()},
        blend=Blend.model_validate(read_json(blend)) if blend.exists() else None,
    )


class _TrueLabels:
    """Puts true labels beside answers."""

    def __init__(self, table: pd.DataFrame, class_names: tuple[str, ...]) -> None:
        number = {label: position for position, label in enumerate(class_names)}
        self.numbers = np.asarray(table["label"].map(number).fillna(-1), np.int64)
        self.row = pd.Series(np.arange(len(table)), index=table["id"])

    def of(self, rows: Ints, probabilities: Floats) -> HeldOutPredictions:
        return HeldOutPredictions(rows, self.numbers[rows], probabilities)

    def read(self, file: Path) -> HeldOutPredictions:
        frame = predictions.read_predictions(file)
        rows = self.row.reindex(frame.index).to_numpy()
        if np.isnan(rows).any():
            raise FovsfeError(f"{file} has answers for photos that photos.csv does not have")
        return self.of(rows.astype(np.int64), frame.to_numpy(np.float64))


def _judged(files: list[tuple[int, Path]], table: pd.DataFrame) -> tuple[Ints, Floats]:
    """Rows of the table and (tta, n, classes), in the table's order, of the folds that are done."""
    fold = np.where(table["fault"] == "", table["fold"].to_numpy(np.int64), -1)
    rows, answers = [], []
    for number, file in files:
        rows.append(np.flatnonzero(fold == number))
        with np.load(file) as saved:
            answers.append(saved["val"].astype(np.float64))
        if answers[-1].shape[1] != len(rows[-1]):
            raise FovsfeError(f"{file} has answers for other photos than photos.csv says")
    every = np.concatenate(rows).astype(np.int64)
    order = np.argsort(every)
    return every[order], np.concatenate(answers, axis=1)[:, order]


def _curves(
    run: Run, number: int, title: str, folds: range, events: list[dict[str, Any]]
) -> Iterator[LearningCurve]:
    """From history.csv of what is trained, from the log of what is under way."""
    for fold in folds:
        file = run.fold(number, title, fold) / "history.csv"
        if file.exists():
            epochs = _csv(file, [])
            yield LearningCurve(fold, epochs, int(np.nanargmin(epochs["log_loss"].fillna(np.inf))))
            continue
        name = f"{title}, round {number}" + (f", fold {fold}" if len(folds) > 1 else "")
        rows = [event for event in events if event.get("event") == "epoch" and event.get("network") == name]
        if rows:
            epochs = pd.DataFrame(rows).drop_duplicates(["stage", "epoch"], keep="last")
            yield LearningCurve(fold, epochs.reset_index(drop=True), None)
