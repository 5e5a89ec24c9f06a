"""A run folder: the path of each of its files, its log and its stopwatch."""

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fovsfe.errors import FovsfeError
from fovsfe.stopwatch import Stopwatch


@dataclass(frozen=True)
class Run:
    """A run folder: where each file of a run is. Those of one network have their names in `training.task`."""

    root: Path

    @property
    def arguments_file(self) -> Path:
        """What the run was started with: photos, weights and minutes."""
        return self.root / "arguments.json"

    @property
    def recipe_file(self) -> Path:
        """The recipe with every key resolved."""
        return self.root / "recipe.toml"

    @property
    def fixes_file(self) -> Path:
        """The fixes of photos that the run began with, merged; not there if there were none."""
        return self.root / "fixes.csv"

    @property
    def manifest_file(self) -> Path:
        """The manifest: one row per photo (see photos.manifest)."""
        return self.root / "photos.csv"

    @property
    def dataset_file(self) -> Path:
        """What holds for all photos: root, layout, class names, sample submission (see photos.manifest)."""
        return self.root / "dataset.json"

    @property
    def audit_file(self) -> Path:
        """The findings of the audit."""
        return self.root / "audit.json"

    @property
    def search_file(self) -> Path:
        """What recipe `auto` probed, and its plan."""
        return self.root / "search.json"

    @property
    def metrics_file(self) -> Path:
        """The figures of every member, blend and round. A run that has this file is complete."""
        return self.root / "metrics.json"

    @property
    def log_file(self) -> Path:
        """What happened, one JSON object per line."""
        return self.root / "log.jsonl"

    @property
    def pseudo_labels_file(self) -> Path:
        """The pseudo-labels that round 2 is trained on, besides the true labels."""
        return self.root / "pseudo_labels.csv"

    @property
    def teacher_file(self) -> Path:
        """What the teacher of a student answers: a table of predictions, see `ensemble.predictions`."""
        return self.root / "teacher.csv"

    @property
    def unlabelled_file(self) -> Path:
        """The photos beside those of the manifest that a student learns from, with its columns."""
        return self.root / "unlabelled.csv"

    @property
    def alone_file(self) -> Path:
        """The held-out predictions of a student's network that was trained without a teacher."""
        return self.root / "alone.csv"

    @property
    def submission_file(self) -> Path:
        """The submission of the selected blend."""
        return self.root / "submission.csv"

    @property
    def held_out_file(self) -> Path:
        """The predictions for the held-out photos that the run's figures are about."""
        return self.root / "held_out.csv"

    @property
    def learning_curve_file(self) -> Path:
        """What more photos would bring, or why that cannot be said."""
        return self.root / "learning_curve.json"

    @property
    def bundle_folder(self) -> Path:
        """The folder of the bundle, which `fovsfe serve` and `fovsfe predict` use."""
        return self.root / "bundle"

    @property
    def report_file(self) -> Path:
        """The report for people, one HTML file that loads nothing from elsewhere."""
        return self.root / "report.html"

    @property
    def tensorboard_folder(self) -> Path:
        """The folder for `tensorboard --logdir`, if the recipe asks for it."""
        return self.root / "tensorboard"

    @property
    def cache_folder(self) -> Path:
        """Resized photos and features; removed at the end of a run, computed again if missing."""
        return self.root / "cache"

    def named_submission_file(self, name: str) -> Path:
        """Returns the path of the submission of one member or blend."""
        return self.root / "submissions" / f"{name}.csv"

    def round_folder(self, round_index: int) -> Path:
        """Returns the folder of a round."""
        return self.root / f"round-{round_index}"

    def blend_file(self, round_index: int) -> Path:
        """Returns the path of the selected blend of a round, with its parameters."""
        return self.round_folder(round_index) / "blend.json"

    def blend_predictions_file(self, round_index: int, name: str) -> Path:
        """Returns the path of a blend's out-of-fold predictions."""
        return self.round_folder(round_index) / "blends" / f"{name}.csv"

    def member_folder(self, round_index: int, member_name: str) -> Path:
        """Returns the folder of a member in a round."""
        return self.round_folder(round_index) / member_name

    def out_of_fold_file(self, round_index: int, member_name: str) -> Path:
        """Returns the path of a member's out-of-fold predictions."""
        return self.member_folder(round_index, member_name) / "out_of_fold.csv"

    def fold_folder(self, round_index: int, member_name: str, fold: int) -> Path:
        """Returns the folder of one network: a member trained on one fold."""
        return self.member_folder(round_index, member_name) / f"fold-{fold}"

    def is_unstarted(self) -> bool:
        """Returns whether the folder is empty but for what a start that was killed at once may have left."""
        names = {path.name for path in self.root.iterdir() if not path.name.endswith(".part")}
        return names <= {self.recipe_file.name, self.fixes_file.name}

    def remove_unfinished_files(self) -> None:
        """Removes the files that a killed process has left half written."""
        for unfinished in list(self.root.rglob(".*.part")):
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink(missing_ok=True)

    def log(self, event: str, **facts: Any) -> None:
        """Appends one line to log.jsonl. Raises FovsfeError if it cannot be written."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        try:
            with self.log_file.open("ab+") as file:
                # A process that was killed in the middle of a line must not spoil the next one.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise FovsfeError(f"cannot write {self.log_file}: {error.strerror}; free some space") from error

    @property
    def stopwatch(self) -> Stopwatch:
        """How much time and memory each step has taken, over all sessions of this run."""
        return Stopwatch(self.root / "steps.json")


def network_name(member_name: str, round_index: int, fold: int, folds: int) -> str:
    """Returns what people and the log call a network of a round: "densenet169, round 1, fold 2"."""
    return f"{member_name}, round {round_index}" + (f", fold {fold}" if folds > 1 else "")
