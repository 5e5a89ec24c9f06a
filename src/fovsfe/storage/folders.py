"""Local folders that stand for a folder at a URL: kept in sync, downloaded, or uploaded on exit."""

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError
from fovsfe.run import Run
from fovsfe.storage.locations import as_path, cache_root, is_url
from fovsfe.storage.mirror import Mirror

Expected = Literal["new", "existing", "either"]
"""whether a run must not, must or may exist already"""


@contextmanager
def synced_folder(
    location: str, notify: Notify = no_notification, expected: Expected = "either"
) -> Iterator[Path]:
    """Yields the local folder in which a run at `location` works. For a path, that is the path itself.

    For a URL it is a copy of what is there. While the block runs, each file that it writes is uploaded whole,
    in the order in which the files were written, so the URL always holds the run as it was at some moment.
    When the block ends, in whatever way, everything has been uploaded; when the process ends, the copy of a
    complete run is removed. If an earlier session has left a local copy that is ahead of the URL by its log,
    that copy is continued; any other copy is replaced.

    Raises:
        FovsfeError: a URL cannot be reached; another process of this machine uses it; there is a run though
            `expected` is "new", or none though it is "existing".
    """
    if not is_url(location):
        yield Path(location)
        return
    url = as_path(location)
    home = cache_root() / "runs" / hashlib.sha256(str(url).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FovsfeError(
            f"another process of this machine works on {location}; wait until it ends"
        ) from None
    try:
        folder = home / url.name
        mirror = Mirror(folder, str(url), notify)
        found = mirror.prepare(resuming=expected == "existing")
        if found and expected == "new":
            raise FovsfeError(f"{location} is not empty; resume it with: fovsfe resume {location}")
        if not found and expected == "existing":
            raise FovsfeError(f"{location} is not a run: nothing is there; start one with fovsfe train")
        mirror.start_watching()
        try:
            yield folder
        finally:
            mirror.stop()
        if Run(folder).metrics_file.exists():  # nothing is left to resume, but it may be shown
            atexit.register(_remove_complete, home, folder)
    finally:
        lock.release()


def _remove_complete(home: Path, folder: Path) -> None:
    """Removes the local copy of a run, unless another process uses it or has begun another run there."""
    with suppress(Timeout), FileLock(home.with_suffix(".lock")).acquire(timeout=0):
        if Run(folder).metrics_file.exists():
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def downloaded(location: str) -> Iterator[Path]:
    """Yields a local folder with the content of the folder at `location`.

    For a path, that is the path itself. Raises FovsfeError if a URL cannot be reached or nothing is there.
    """
    if not is_url(location):
        yield Path(location)
        return
    url = as_path(location)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        folder = Path(name) / url.name
        folder.mkdir()
        if not Mirror(folder, str(url), no_notification).download(folder):
            raise FovsfeError(f"{location}: nothing is there")
        yield folder


@contextmanager
def upload_on_exit(location: str, replaces: str = "") -> Iterator[Path]:
    """Yields a local folder to write to; when the block ends, uploads its files to `location`, oldest first.

    For a path, that is the path itself.

    Args:
        location: a path or URL.
        replaces: a file that marks a folder of the same kind, such as "bundle.json". With it, the new folder
            takes the place of the one at a URL: files that only the old one has are removed. Without it, they
            are kept.

    Raises:
        FovsfeError: a URL cannot be reached, or there are files, but not the one that `replaces` names.
    """
    if not is_url(location):
        yield Path(location)
        return
    url = as_path(location)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        mirror = Mirror(Path(name), str(url), no_notification)
        if replaces:
            names = mirror.mark_remote_outdated()
            if names and replaces not in names:
                raise FovsfeError(f"{location} has files, but no {replaces}: choose another folder")
        yield Path(name)
        mirror.push()
