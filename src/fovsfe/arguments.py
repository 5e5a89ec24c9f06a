"""What was asked of a training beside the recipe, by the command line or from Python."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from fovsfe.errors import UsageError
from fovsfe.storage.locations import as_path, is_url, name_of


class RunArguments(BaseModel):
    """arguments.json: what was asked for, beside the recipe."""

    photos: str
    """a path of this machine, or a URL"""
    weights: str
    """"hub", "none", or a folder of pretrained weights"""
    minutes: float | None
    """the time budget of the whole command; None: no limit"""
    follow_links: bool = False
    """whether a list of photos, or shards, may lead out of their folder"""
    layout: str | None = None
    """the layout to read the photos in; None for the likeliest"""
    group_by: str | None = None
    """the regular expression whose first group tells which photos belong together"""
    encoding: str = ""
    """that of lists; "" to detect it"""
    fixes: tuple[str, ...] = ()
    """files of fixes, as they were given; the run keeps what they come to"""
    negatives: str | None = None
    """a folder of photos of something else, which are never learned, to measure how many are named"""
    teacher: str | None = None
    """the run whose answers a student learns from, in a folder or at a URL; None: there is no teacher"""
    unlabelled: str | None = None
    """more photos for which the teacher answers: a folder or an archive, here or at a URL"""
    alone: str | None = None
    """a run of the student's network without a teacher, to compare with"""


def run_arguments(
    photos: str,
    weights: str,
    minutes: float | None,
    follow_links: bool = False,
    layout: str | None = None,
    group_by: str | None = None,
    encoding: str = "",
    negatives: str | None = None,
    fixes: Sequence[str] = (),
) -> RunArguments:
    """Returns the arguments of a run, with paths that stay right wherever the run is resumed from.

    Raises UsageError for weights or negatives at a URL, and for negatives that are no folder.
    """
    if negatives is not None and (is_url(negatives) or not Path(negatives).is_dir()):
        raise UsageError(f"--negatives {negatives}: there is no such folder on this machine")
    return RunArguments(
        photos=str(as_path(photos)),
        weights=weights_source(weights),
        minutes=minutes,
        follow_links=follow_links,
        layout=layout,
        group_by=group_by,
        encoding=encoding,
        negatives=negatives and str(as_path(negatives)),
        fixes=tuple(str(as_path(file)) for file in fixes),
    )


def student_arguments(
    of_teacher: RunArguments,
    teacher: str,
    weights: str | None,
    minutes: float | None,
    unlabelled: str | None = None,
    alone: str | None = None,
) -> RunArguments:
    """Returns the arguments of a student: those of its teacher, but for what is given.

    Raises UsageError for weights at a URL.
    """
    return of_teacher.model_copy(
        update={
            "weights": of_teacher.weights if weights is None else weights_source(weights),
            "minutes": minutes,
            "teacher": str(as_path(teacher)),
            "unlabelled": unlabelled and str(as_path(unlabelled)),
            "alone": alone and str(as_path(alone)),
        }
    )


def weights_source(weights: str) -> str:
    """Returns "hub", "none", or the path of a folder of weights that stays right wherever a run is resumed.

    Raises UsageError for a URL.
    """
    if is_url(weights):
        raise UsageError(f"--weights {weights}: copy the weights into a folder, which all nodes see")
    return weights if weights in ("hub", "none") else str(as_path(weights))


def default_location(photos: str, recipe: str) -> str:
    """Returns where a run goes if no one says where: "runs/PHOTOS-RECIPE" in the working directory."""
    return f"runs/{name_of(photos)}-{Path(recipe).stem}"
