"""The run folder: where things are, what is done, and writing that never leaves half a file."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fovsfe.errors import FovsfeError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` at the end, removed on failure.

    Raises:
        FovsfeError: the folder cannot be written or the disk is full; what `path` held before is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FovsfeError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
            " (what was there before is untouched)"
        ) from error
    finally:
        # A disk that has just refused us may refuse this too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text whole or not at all. Raises FovsfeError where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, UTF-8, whole or not at all. Raises FovsfeError where it cannot be written."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON. Raises FovsfeError where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {path}: {error}") from error


@dataclass(frozen=True)
class Run:
    """A run folder. Every path of a run is named here and nowhere else."""

    root: Path

    @property
    def command(self) -> Path:
        """What was asked for: photos, weights, minutes, devices."""
        return self.root / "command.json"

    @property
    def recipe(self) -> Path:
        """The recipe with every key resolved."""
        return self.root / "recipe.toml"

    @property
    def photos(self) -> Path:
        """One row a photo: id, path, part, label, group, fold, fault, width, height."""
        return self.root / "photos.csv"

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
    def spent(self) -> "Stopwatch":
        """What each step has taken, over all sessions of this run."""
        return Stopwatch(self.root / "steps.json")


@dataclass(frozen=True)
class Stopwatch:
    """Seconds and memory by step, kept in a file so that a resumed run goes on counting."""

    path: Path

    def read(self) -> dict[str, dict[str, float]]:
        """By step so far: "seconds", and "peak_mb", the most memory that a process had held by its end (MB,
        0 where the system does not tell)."""
        return read_json(self.path) if self.path.exists() else {}

    @property
    def seconds(self) -> float:
        """Of all steps so far."""
        return sum(step["seconds"] for step in self.read().values())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the time of the block to step `name`, also when the block fails or is interrupted."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(FovsfeError):  # what stopped the block is what to report
                self._add(name, time.monotonic() - start)
            raise
        self._add(name, time.monotonic() - start)

    def _add(self, name: str, seconds: float) -> None:
        every = self.read()
        before = every.get(name, {"seconds": 0.0, "peak_mb": 0.0})
        now = {
            "seconds": round(before["seconds"] + seconds, 3),
            "peak_mb": max(before["peak_mb"], round(_peak_mb())),
        }
        write_json(self.path, every | {name: now})


def _peak_mb() -> float:
    """The most memory that this process, or one that it has waited for, has held so far, in MB."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / unit
    )
