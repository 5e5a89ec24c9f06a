"""A folder of this machine that stands for one at a URL: kept in sync, downloaded, or uploaded on exit."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from fovsfe.errors import FovsfeError
from fovsfe.storage.locations import as_path, cache_root, is_url
from fovsfe.storage.mirror import Mirror
from fovsfe.storage.retry import Notify

Expected = Literal["new", "existing", "either"]
"""whether a run must not, must or may be there already"""


@contextmanager
def synced_folder(
    location: str, notify: Notify = lambda text: None, expected: Expected = "either"
) -> Iterator[Path]:
    """The folder of this machine in which a run at `location` works: that of a path is the path itself.

    That of a URL is a copy of what is there. While the block runs, every file that it writes is put there
    whole, in the order in which the files were written, so what is there is the run as it was at some moment;
    all of it is there when the block ends, however it ends. A copy of an earlier session that is ahead of the
    URL, by its log, is gone on with; any other gives way.

    Raises FovsfeError where a URL cannot be reached, another process of this machine works on it, it has
    something though a new run is expected, or has nothing though one that is there is.
    """
    if not is_url(location):
        yield Path(location)
        return
    where = as_path(location)
    home = cache_root() / "runs" / hashlib.sha256(str(where).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FovsfeError(
            f"another process of this machine works on {location}; wait until it ends"
        ) from None
    try:
        mirror = Mirror(home / where.name, str(where), notify)
        there = mirror.begin(resumes=expected == "existing")
        if there and expected == "new":
            raise FovsfeError(f"{location} is not empty; go on with it: fovsfe resume {location}")
        if not there and expected == "existing":
            raise FovsfeError(f"{location} is not a run: nothing is there; start one with fovsfe train")
        mirror.start()
        try:
            yield home / where.name
        finally:
            mirror.finish()
        if (home / where.name / "metrics.json").exists():  # nothing is left to go on with
            shutil.rmtree(home, ignore_errors=True)
    finally:
        lock.release()


@contextmanager
def downloaded(location: str) -> Iterator[Path]:
    """A folder of this machine with what is in the folder `location`, for the length of the block.

    Raises FovsfeError where a URL cannot be reached or nothing is there.
    """
    if not is_url(location):
        yield Path(location)
        return
    where = as_path(location)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        folder = Path(name) / where.name
        folder.mkdir()
        if not Mirror(folder, str(where), lambda text: None).fetch(folder):
            raise FovsfeError(f"{location}: nothing is there")
        yield folder


@contextmanager
def upload_on_exit(location: str) -> Iterator[Path]:
    """A folder of this machine to write to; at the end of the block its files are put at `location`, the one
    written last at last. Raises FovsfeError where a URL cannot be reached."""
    if not is_url(location):
        yield Path(location)
        return
    where = as_path(location)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        yield Path(name)
        Mirror(Path(name), str(where), lambda text: None).push()
