"""Where the bundle of a run is, and the run of a bundle: commands take either."""

from pathlib import Path

from fovsfe.bundle.format import BUNDLE_FILE
from fovsfe.errors import FovsfeError
from fovsfe.run import Run
from fovsfe.storage.locations import as_path, exists

ARGUMENTS, BUNDLE = (path.name for path in (Run(Path()).arguments_file, Run(Path()).bundle_folder))


def find_bundle(location: str) -> str:
    """Returns where the bundle is that `location` names: a bundle itself, or a run that has one.

    `location` is a folder or a URL. Raises FovsfeError if it is a run without a bundle. A location that is
    neither is returned as it is; loading it then fails with a FovsfeError.
    """
    folder = as_path(location)
    if exists(folder / BUNDLE_FILE) or not exists(folder / ARGUMENTS):
        return location
    if not exists(folder / BUNDLE / BUNDLE_FILE):
        raise FovsfeError(f"run {location} has no bundle yet; complete it with fovsfe resume {location}")
    return f"{location.rstrip('/')}/{BUNDLE}"


def find_run(location: str) -> str:
    """Returns where the run is that `location` names: a run itself, or the bundle in its folder.

    `location` is a folder or a URL. Raises FovsfeError if it is a bundle elsewhere. A location that is
    neither is returned as it is; reading it then fails with a FovsfeError.
    """
    folder = as_path(location)
    if exists(folder / ARGUMENTS) or not exists(folder / BUNDLE_FILE):
        return location
    if folder.name != BUNDLE or not exists(folder.parent / ARGUMENTS):
        raise FovsfeError(f"bundle {location} is not in the folder of its run, which is needed: name the run")
    return str(folder.parent)
