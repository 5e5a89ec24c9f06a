"""The runs below a folder, each with the facts that `fovsfe runs` lists."""

import csv
import io
import json
import os
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from fovsfe.errors import FovsfeError
from fovsfe.photos.reader import read_text
from fovsfe.recipe import Recipe, builtin_recipes, load_recipe
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath, as_path, filesystem_of, is_dir, is_url
from fovsfe.storage.retry import retry

FILES = Run(Path())  # paths relative to a run, which may be at a URL


class RunFacts(BaseModel):
    """A run as `fovsfe runs` lists it."""

    run: str
    """the folder or URL"""
    date: datetime | None = None
    """the time of its start"""
    recipe: str = ""
    """the name of a built-in recipe, or "custom" for any other"""
    photos: int = 0
    """the number of labelled photos; 0 until they are listed"""
    state: Literal["complete", "unfinished", "damaged"] = "damaged"
    accuracy: float | None = None
    """of the selected blend on held-out photos; None until the run is complete"""
    interval: tuple[float, float] | None = None
    """95% interval of the accuracy"""
    minutes: float = 0.0
    """over all sessions"""


def list_runs(folder: str) -> list[RunFacts]:
    """Returns the runs below a folder or URL, the latest first. Raises FovsfeError if it is not there."""
    if not is_dir(as_path(folder)):
        raise FovsfeError(f"{folder} is not a folder")
    runs = [_read_facts(run) for run in (_runs_at(folder) if is_url(folder) else _runs_below(folder))]
    first = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda facts: (facts.date or first, facts.run), reverse=True)


def _runs_below(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        if FILES.arguments_file.name in names and FILES.recipe_file.name in names:
            folders.clear()
            yield os.path.normpath(parent)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _runs_at(url: str) -> Iterator[str]:
    fs, path = filesystem_of(str(as_path(url)))
    for name in sorted(retry(lambda: fs.find(path), url)):
        if PurePosixPath(name).name == FILES.arguments_file.name:
            yield str(fs.unstrip_protocol(str(PurePosixPath(name).parent)))


def _read_facts(run: str) -> RunFacts:
    folder = as_path(run)
    try:
        metrics = _read_json(folder, FILES.metrics_file)
        steps = _read_json(folder, FILES.stopwatch.path) or {}
        return RunFacts(
            run=run,
            date=_start(folder),
            recipe=_recipe_name(read_text(folder / FILES.recipe_file.as_posix()) or ""),
            photos=_count_labelled(read_text(folder / FILES.manifest_file.as_posix()) or ""),
            state="complete" if metrics else "unfinished",
            accuracy=metrics["selected"]["accuracy"] if metrics else None,
            interval=metrics["selected"]["interval"] if metrics else None,
            minutes=round(sum(step["seconds"] for step in steps.values()) / 60, 2),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return RunFacts(run=run)


def _start(folder: AnyPath) -> datetime | None:
    """Returns the time of the first line of the log."""
    first, _, _ = (read_text(folder / FILES.log_file.as_posix()) or "").partition("\n")
    return datetime.fromisoformat(json.loads(first)["time"]) if first else None


def _recipe_name(text: str) -> str:
    try:
        recipe = Recipe.model_validate(tomllib.loads(text))
    except ValidationError:  # of another version of fovsfe
        return "custom"
    if recipe.search is not None:
        return "auto"  # which has got members meanwhile
    return next((name for name in builtin_recipes() if load_recipe(name) == recipe), "custom")


def _count_labelled(manifest: str) -> int:
    return sum(row["split"] == "train" for row in csv.DictReader(io.StringIO(manifest)))


def _read_json(folder: AnyPath, file: Path) -> Any:
    text = read_text(folder / file.as_posix())
    return None if text is None else json.loads(text)
