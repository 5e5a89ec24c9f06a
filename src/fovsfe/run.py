"""The run folder: the path of every file of a run, and its log."""

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
    """A run folder. Every path of a run is named here and nowhere else."""

    root: Path

    @property
    def arguments(self) -> Path:
        """What was asked for: photos, weights, minutes, devices."""
        return self.root / "arguments.json"

    @property
    def recipe(self) -> Path:
        """The recipe with every key resolved."""
        return self.root / "recipe.toml"

    @property
    def photos(self) -> Path:
        """One row a photo: id, path, part, label, group, fold, fault, width, height."""
        return self.root / "photos.csv"

    @property
    def dataset(self) -> Path:
        """What holds for all photos: their root, layout, class names and the sample submission."""
        return self.root / "dataset.json"

    @property
    def audit(self) -> Path:
        """What the audit found."""
        return self.root / "audit.json"

    @property
    def metrics(self) -> Path:
        """Figures of every member, blend and round; its being there means that the run is done."""
        return self.root / "metrics.json"

    @property
    def pseudo_labels(self) -> Path:
        """What round 2 learns from beside the true labels."""
        return self.root / "pseudo_labels.csv"

    @property
    def submission(self) -> Path:
        """The chosen submission."""
        return self.root / "submission.csv"

    @property
    def bundle(self) -> Path:
        """The folder that is served."""
        return self.root / "bundle"

    @property
    def report(self) -> Path:
        """What happened, for people: one file that needs no network."""
        return self.root / "report.html"

    @property
    def tensorboard(self) -> Path:
        """For TensorBoard, where the recipe asks for it: `tensorboard --logdir` takes it."""
        return self.root / "tensorboard"

    @property
    def cache(self) -> Path:
        """Fitted photos and features; removed at the end of a run, made anew where missing."""
        return self.root / "cache"

    def named_submission(self, name: str) -> Path:
        """The submission of one member or blend."""
        return self.root / "submissions" / f"{name}.csv"

    def round(self, number: int) -> Path:
        """The folder of a round."""
        return self.root / f"round-{number}"

    def blend(self, number: int, name: str) -> Path:
        """A blend's out-of-fold answers: of a kind over all members, or "chosen"."""
        return self.round(number) / "blends" / f"{name}.csv"

    def member(self, number: int, title: str) -> Path:
        """The folder of a member in a round."""
        return self.round(number) / title

    def fold(self, number: int, title: str, fold: int) -> Path:
        """The folder of one network: a member's training on one fold."""
        return self.member(number, title) / f"fold-{fold}"

    def is_hardly_begun(self) -> bool:
        """Whether the folder is empty, or holds no more than a start that was killed at once left there."""
        names = {path.name for path in self.root.iterdir() if not path.name.endswith(".part")}
        return names <= {self.recipe.name}

    def sweep(self) -> None:
        """Removes what a killed process had half written."""
        for unfinished in list(self.root.rglob(".*.part")):
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink(missing_ok=True)

    def log(self, event: str, **facts: Any) -> None:
        """Appends one line to log.jsonl. Raises FovsfeError where the folder cannot be written."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        try:
            with (self.root / "log.jsonl").open("ab+") as file:
                # A process killed in mid-line leaves it open: it must not swallow the next one.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise FovsfeError(f"cannot write {self.root / 'log.jsonl'}: {error.strerror}") from error

    @property
    def spent(self) -> Stopwatch:
        """What each step has taken, over all sessions of this run."""
        return Stopwatch(self.root / "steps.json")
