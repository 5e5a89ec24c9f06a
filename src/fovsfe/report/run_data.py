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
from fovsfe.photos.manifest import COLUMNS, ListingFacts, read_facts, read_manifest
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.report.reported import ReportedPredictions, find_reported_predictions
from fovsfe.report.round_data import HeldOutPredictions, RoundData, read_held_out, read_round
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
    facts: ListingFacts | None
    """None until the photos are listed"""
    manifest: pd.DataFrame
    """the photos, as `photos.manifest.COLUMNS`; no rows until they are audited"""
    findings: list[dict[str, Any]]
    """of the audit: kind, severity, ids, detail"""
    rounds: list[RoundData]
    pseudo_labels: pd.DataFrame | None
    """id, label, confidence, ... of what round 2 is also trained on"""
    search: dict[str, Any] | None
    """what was probed, and the plan, as in search.json; None if nothing was searched for"""
    metrics: dict[str, Any] | None
    """None until the run is finished"""
    held_out: HeldOutPredictions | None
    """what the figures of a finished run are of: predictions that no choice has touched"""
    learning_curve: dict[str, Any] | None
    """what more photos would bring, as in learning_curve.json; None until the run is finished"""
    steps: dict[str, dict[str, float]]
    """by step: "seconds" and "peak_mb", as in `stopwatch.Stopwatch`"""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels, in the order of all probabilities; empty until the photos are listed."""
        return self.facts.class_names if self.facts else ()

    @property
    def root(self) -> AnyPath:
        """What the manifest's paths are relative to."""
        return self.facts.location if self.facts else as_path(self.arguments["photos"])

    @cached_property
    def sha256(self) -> dict[str, str]:
        """path -> SHA-256 of the photo's content, by which it is known."""
        return dict(zip(self.manifest["path"], self.manifest["sha256"], strict=True))

    @property
    def member_names(self) -> list[str]:
        """The names of all members, in the recipe's order."""
        return [member.unique_name for member in self.recipe.members]

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
    def selected_round_index(self) -> int | None:
        """The round that was selected; None until the run is finished."""
        return int(self.metrics["selected"]["round"]) if self.metrics else None

    @cached_property
    def reported(self) -> ReportedPredictions | None:
        """The predictions that the run's figures are about; None until a network is trained."""
        return find_reported_predictions(
            self.rounds, self.selected_round_index, self.member_names, self.class_names, self.held_out
        )


def read_run_data(run: Run) -> RunData:
    """Reads what is there of a run, finished or not. The photos are neither listed nor opened.

    Raises:
        FovsfeError: the folder is not a run, or one of its files is missing or damaged.
    """
    if not run.arguments_file.exists():
        raise FovsfeError(
            f"{run.root} is not a run: it has no {run.arguments_file.name}; start one with fovsfe train"
        )
    recipe = load_recipe(str(run.recipe_file))
    metrics = read_json(run.metrics_file) if run.metrics_file.exists() else None
    last_round = len(metrics["rounds"]) if metrics else recipe.rounds  # a run may be finished without round 2
    facts = read_facts(run.dataset_file) if metrics or run.dataset_file.exists() else None
    has_manifest = facts is not None and run.manifest_file.exists()
    manifest = read_manifest(run.manifest_file) if has_manifest else pd.DataFrame(columns=COLUMNS)
    class_names = facts.class_names if facts else ()
    epoch_events = [event for event in _read_log(run.log_file) if event.get("event") == "epoch"]
    return RunData(
        run=run,
        arguments=read_json(run.arguments_file),
        recipe=recipe,
        facts=facts,
        manifest=manifest,
        findings=read_json(run.audit_file) if run.audit_file.exists() else [],
        rounds=[
            read_round(run, round_index, recipe, manifest, class_names, epoch_events)
            for round_index in range(1, last_round + 1)
            if run.round_folder(round_index).exists()
        ],
        pseudo_labels=(
            _read_pseudo_labels(run.pseudo_labels_file)
            if last_round == 2 and run.pseudo_labels_file.exists()
            else None
        ),
        search=read_json(run.search_file) if run.search_file.exists() else None,
        metrics=metrics,
        held_out=(
            read_held_out(run.held_out_file, manifest, class_names)
            if metrics and run.held_out_file.exists()
            else None
        ),
        learning_curve=read_json(run.learning_curve_file) if run.learning_curve_file.exists() else None,
        steps=run.stopwatch.read(),
    )


def predictions(run_data: RunData) -> pd.DataFrame:
    """Returns the held-out predictions that a run's figures are about, one row per photo.

    They are those of the selected blend or, in an unfinished run, of the members trained so far. The columns
    are id, path, label (the true one), predicted, probability (of the predicted label), p_label (the
    probability of the true label) and fold (in which the photo was held out). There are no rows until a
    network is trained.
    """
    if run_data.reported is None:
        return pd.DataFrame(columns=PREDICTION_COLUMNS)
    held_out = run_data.reported.held_out
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


def learning_curve(run_data: RunData) -> pd.DataFrame:
    """Returns the accuracy by the number of labelled photos: photos, accuracy, low, high.

    `low` and `high` are the 95% interval of what is predicted, NaN of what was measured.
    """
    curve = run_data.learning_curve or {}
    points = [*reversed(curve.get("measured", [])), *curve.get("predicted", [])]
    rows = [(each["photos"], each["accuracy"], *(each["interval"] or (np.nan, np.nan))) for each in points]
    return pd.DataFrame(rows, columns=["photos", "accuracy", "low", "high"])


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
