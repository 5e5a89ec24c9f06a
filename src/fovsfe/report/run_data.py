"""What a run folder holds, as plain data and data frames; of an unfinished run, what is there so far."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.photos.manifest import COLUMNS, DataSetFacts, read_facts, read_manifest
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.report.round_data import RoundData, read_round
from fovsfe.report.selected import SelectedPredictions, select_predictions
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath, as_path

PREDICTION_COLUMNS = ["id", "path", "label", "predicted", "probability", "p_label", "fold"]


@dataclass(frozen=True)
class RunData:
    """A run."""

    run: Run
    arguments: dict[str, Any]
    """what was asked for: photos, weights, minutes"""
    recipe: Recipe
    dataset: DataSetFacts | None
    """None until the photos are listed"""
    manifest: pd.DataFrame
    """the photos, as `photos.manifest.COLUMNS`; no rows until they are audited"""
    findings: list[dict[str, Any]]
    """of the audit: kind, severity, ids, detail"""
    rounds: list[RoundData]
    pseudo_labels: pd.DataFrame | None
    """id, label, confidence, ... of what round 2 is also trained on"""
    metrics: dict[str, Any] | None
    """None until the run is finished"""
    steps: dict[str, dict[str, float]]
    """by step: "seconds" and "peak_mb", as in `stopwatch.Stopwatch`"""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels, in the order of all probabilities; empty until the photos are listed."""
        return self.dataset.class_names if self.dataset else ()

    @property
    def root(self) -> AnyPath:
        """What the manifest's paths are relative to."""
        return self.dataset.location if self.dataset else as_path(self.arguments["photos"])

    @property
    def member_titles(self) -> list[str]:
        """The titles of all members, in the recipe's order."""
        return [member.title for member in self.recipe.members]

    @property
    def networks_per_round(self) -> int:
        """How many networks a finished round has."""
        return len(self.recipe.members) * max(self.recipe.split.folds, 1)

    @property
    def seconds(self) -> float:
        """What all steps have taken, over all sessions."""
        return sum(step["seconds"] for step in self.steps.values())

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the software that the figures depend on; empty until the run is finished."""
        return dict((self.metrics or {}).get("versions", {}))

    @property
    def chosen_round(self) -> int | None:
        """The round that was chosen; None until the run is finished."""
        return int(self.metrics["chosen"]["round"]) if self.metrics else None

    @cached_property
    def selected(self) -> SelectedPredictions | None:
        """The predictions that the run's figures are about; None until a network is trained."""
        return select_predictions(self.rounds, self.chosen_round, self.member_titles, self.class_names)


def read_run_data(run: Run) -> RunData:
    """Reads what is there of a run, finished or not. The photos are neither listed nor opened.

    Raises:
        FovsfeError: the folder is not a run, or one of its files is missing or damaged.
    """
    if not run.arguments.exists():
        raise FovsfeError(
            f"{run.root} is not a run: it has no {run.arguments.name}; start one with fovsfe train"
        )
    recipe = load_recipe(str(run.recipe))
    metrics = read_json(run.metrics) if run.metrics.exists() else None
    dataset = read_facts(run.dataset) if metrics or run.dataset.exists() else None
    has_manifest = dataset is not None and run.manifest.exists()
    manifest = read_manifest(run.manifest) if has_manifest else pd.DataFrame(columns=COLUMNS)
    class_names = dataset.class_names if dataset else ()
    epoch_events = [event for event in _read_log(run.log_file) if event.get("event") == "epoch"]
    return RunData(
        run=run,
        arguments=read_json(run.arguments),
        recipe=recipe,
        dataset=dataset,
        manifest=manifest,
        findings=read_json(run.audit) if run.audit.exists() else [],
        rounds=[
            read_round(run, number, recipe, manifest, class_names, epoch_events)
            for number in range(1, recipe.rounds + 1)
            if run.round(number).exists()
        ],
        pseudo_labels=_read_pseudo_labels(run.pseudo_labels) if run.pseudo_labels.exists() else None,
        metrics=metrics,
        steps=run.stopwatch.read(),
    )


def predictions(run_data: RunData) -> pd.DataFrame:
    """Returns the held-out predictions that a run's figures are about, one row per photo.

    They are those of the chosen blend or, in an unfinished run, of the members trained so far. The columns
    are id, path, label (the true one), predicted, probability (of the predicted label), p_label (the
    probability of the true label) and fold (in which the photo was held out). There are no rows until a
    network is trained.
    """
    if run_data.selected is None:
        return pd.DataFrame(columns=PREDICTION_COLUMNS)
    held_out = run_data.selected.held_out
    photos = run_data.manifest.iloc[held_out.val_idx]
    class_names, rows = np.array(run_data.class_names, object), np.arange(len(held_out.y_true))
    predicted = held_out.probabilities.argmax(axis=1)
    return pd.DataFrame(
        {
            "id": photos["id"].to_numpy(),
            "path": photos["path"].to_numpy(),
            "label": class_names[held_out.y_true],
            "predicted": class_names[predicted],
            "probability": held_out.probabilities[rows, predicted],
            "p_label": held_out.probabilities[rows, held_out.y_true],
            "fold": photos["fold"].to_numpy(),
        }
    )


def mistakes(run_data: RunData) -> pd.DataFrame:
    """Returns the rows of `predictions` whose predicted label is wrong, the most confident first."""
    frame = predictions(run_data)
    wrong = frame[frame["predicted"] != frame["label"]]
    return wrong.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def _read_pseudo_labels(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file, dtype={"id": str, "label": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {file}: {error}") from error


def _read_log(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the events of a log, without the lines that a killed process has left half written."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
