"""What a person asks of a training, as the command line and the Python API take it."""

from pathlib import Path

from fovsfe.context import RunArguments
from fovsfe.storage.locations import as_path


def run_arguments(photos: str, weights: str, minutes: float | None) -> RunArguments:
    """Returns the arguments of a run, with paths that stay right wherever the run is resumed from."""
    weights = weights if weights in ("hub", "none") else str(as_path(weights))
    return RunArguments(photos=str(as_path(photos)), weights=weights, minutes=minutes)


def default_location(photos: str, recipe: str) -> str:
    """Returns where a run goes if no one says where: "runs/PHOTOS-RECIPE" in the working directory."""
    return f"runs/{as_path(photos).name}-{Path(recipe).stem}"
