"""Places on other machines: URLs that fsspec knows, such as s3://bucket/run, reached with patience."""

import hashlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import fsspec
from upath import UPath

from fovsfe.errors import FovsfeError, WrongUsage

Say = Callable[[str], None]
Place = Path | UPath
Wanted = Literal["new", "there", "either"]
T = TypeVar("T")

PATIENCE = 600.0  # seconds for which a lost connection is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubled from one to the next
SECONDS_BETWEEN_LOOKS = 1.0  # of a mirror, for what has changed

# Where an object is there whole or not at all. Elsewhere a file gets its name once it is complete.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}
_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "azure"}
_CREDENTIALS = ("Credential", "Token", "Refresh", "Unauthorized", "Forbidden")  # in the names of their errors


def is_url(place: str) -> bool:
    """Whether `place` is a URL and not a path of this machine."""
    return "://" in place


def located(place: str) -> Place:
    """A path of this machine, made absolute, or a URL that answers as a path does.

    Raises WrongUsage where no library for such a URL is known or installed.
    """
    if not is_url(place):
        return Path(place).resolve()
    try:
        where = UPath(place.rstrip("/"))
        _ = where.fs  # looks for the library
        return where
    except ImportError as error:
        extra = {"s3": "s3", "gs": "gs", "gcs": "gs"}.get(place.partition("://")[0])
        what = f"pip install 'fovsfe[{extra}]'" if extra else str(error)
        raise WrongUsage(f"{place}: the library for such URLs is not installed: {what}") from error
    except ValueError as error:
        raise WrongUsage(f"{place}: no such kind of URL is known: {error}") from error


def cache_root() -> Path:
    """The folder of this machine for copies of what lies elsewhere: FOVSFE_CACHE, or ~/.cache/fovsfe."""
    return Path(os.environ.get("FOVSFE_CACHE") or Path.home() / ".cache" / "fovsfe")


def patiently(work: Callable[[], T], place: str, say: Say = lambda text: None) -> T:
    """What `work` gives; tries again, with growing pauses, while `place` cannot be reached.

    Raises FovsfeError where access is refused or there is no such place, and after PATIENCE seconds.
    FileNotFoundError is the caller's to explain.
    """
    pause, until, told = FIRST_PAUSE, time.monotonic() + PATIENCE, False
    while True:
        try:
            result = work()
        except FileNotFoundError:
            raise
        except Exception as error:  # the libraries behind fsspec have no common class
            if _is_refusal(error):
                raise FovsfeError(
                    f"{place}: access is refused ({_reason(error)}); check the credentials"
                ) from error
            if not _may_pass(error):
                raise
            if time.monotonic() + pause > until:
                raise FovsfeError(
                    f"{place}: cannot be reached ({_reason(error)}); try again later"
                ) from error
            if not told:
                say(f"{place}: connection lost ({_reason(error)}); trying again")
            told = True
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if told:
                say(f"{place}: is back")
            return result


def _is_refusal(error: Exception) -> bool:
    name = type(error).__name__
    return isinstance(error, PermissionError) or (
        _is_of_a_library(error) and any(c in name for c in _CREDENTIALS)
    )


def _may_pass(error: Exception) -> bool:
    passing = not isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError)
    return (isinstance(error, OSError | EOFError) and passing) or _is_of_a_library(error)


def _is_of_a_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# ---- folders


@contextmanager
def working(place: str, say: Say = lambda text: None, wanted: Wanted = "either") -> Iterator[Path]:
    """The folder of this machine in which a run at `place` works: that of a path is the path itself.

    That of a URL is a copy of what is there. While the block runs, every file that it writes is put there
    whole, in the order in which the files were written, so what is there is the run as it was at some moment;
    all of it is there when the block ends, however it ends.

    Raises FovsfeError where a URL cannot be reached, or has something though a new run is wanted, or has
    nothing though one that is there is.
    """
    if not is_url(place):
        yield Path(place)
        return
    url = str(located(place))
    folder = cache_root() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
    _empty(folder)
    mirror = _Mirror(folder, url, say)
    there = mirror.fetch()
    if there and wanted == "new":
        raise FovsfeError(f"{place} is not empty; go on with it: fovsfe resume {place}")
    if not there and wanted == "there":
        raise FovsfeError(f"{place} is not a run: nothing is there; start one with fovsfe train")
    mirror.start()
    try:
        yield folder
    finally:
        mirror.finish()


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """A folder of this machine with what is in the folder `place`, for the length of the block.

    Raises FovsfeError where a URL cannot be reached or nothing is there.
    """
    if not is_url(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        if not _Mirror(Path(name), str(located(place)), lambda text: None).fetch():
            raise FovsfeError(f"{place}: nothing is there")
        yield Path(name)


@contextmanager
def delivered(place: str) -> Iterator[Path]:
    """A folder of this machine to write to; at the end of the block its files are put at `place`, the one
    written last at last. Raises FovsfeError where a URL cannot be reached."""
    if not is_url(place):
        yield Path(place)
        return
    url = str(located(place))
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        yield Path(name)
        _Mirror(Path(name), url, lambda text: None).push()


def put(file: Path, url: str, say: Say = lambda text: None) -> None:
    """Puts a file at `url`, whole or not at all. Raises FovsfeError where that cannot be reached."""

    def upload() -> None:
        fs, path = _system(url)
        if fs.protocol in OBJECT_STORES or OBJECT_STORES & set(fs.protocol):
            fs.put_file(str(file), path)
            return
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name}.{os.getpid()}.part"
        fs.makedirs(folder, exist_ok=True)
        fs.put_file(str(file), part)
        fs.mv(part, path)

    try:
        patiently(upload, url, say)
    except FileNotFoundError as error:
        raise FovsfeError(f"{url}: there is no such bucket or folder; make it first") from error


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, as this process may use it, and the path there."""
    system, path = fsspec.core.url_to_fs(url)
    return system, path


def _empty(folder: Path) -> None:
    """Removes an earlier copy, which may be older or newer than what is there; the cache stays."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.name == "cache":
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    folder.mkdir(parents=True, exist_ok=True)


class _Mirror:
    """Keeps a URL like a folder of this machine, from a thread of its own."""

    def __init__(self, folder: Path, url: str, say: Say) -> None:
        self._folder, self._url, self._say = folder, url, say
        self._sent: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failure: FovsfeError | None = None

    def fetch(self) -> int:
        """Brings everything that is there; gives the number of files."""

        def names() -> list[str]:
            fs, root = _system(self._url)
            fs.invalidate_cache()
            root = root.rstrip("/")
            found = [str(path).removeprefix(root).lstrip("/") for path in fs.find(root)]
            return [name for name in found if not name.rpartition("/")[2].startswith(".")]

        def bring(name: str) -> None:
            fs, root = _system(self._url)
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(f"{root.rstrip('/')}/{name}", str(file))

        try:
            every = patiently(names, self._url, self._say)
        except FileNotFoundError:
            return 0
        for name in every:
            patiently(lambda name=name: bring(name), f"{self._url}/{name}", self._say)  # type: ignore[misc]
            self._sent[name] = _stamp(self._folder / name)
        return len(every)

    def start(self) -> None:
        """Begins to watch the folder."""
        self._thread.start()

    def finish(self) -> None:
        """Stops watching and puts what is left. Raises FovsfeError where it could not be put."""
        self._ended.set()
        self._thread.join()
        if self._failure is None:
            self.push()
            return
        raise FovsfeError(f"{self._failure}; the run so far is in {self._folder}")

    def push(self) -> None:
        """Puts every file that has changed, in the order in which they were written, and removes those that
        are gone."""
        stamps = {name: stamp for name in self._names() if (stamp := _stamp(self._folder / name)) != (0, 0)}
        for name in sorted(stamps, key=lambda name: stamps[name]):
            if self._sent.get(name) != stamps[name]:
                try:
                    put(self._folder / name, f"{self._url}/{name}", self._say)
                except FovsfeError:
                    if (self._folder / name).exists():
                        raise
                    continue  # removed meanwhile
                self._sent[name] = stamps[name]
        for name in [name for name in self._sent if not (self._folder / name).exists()]:
            self._remove(name)
            del self._sent[name]

    def _remove(self, name: str) -> None:
        def remove() -> None:
            fs, root = _system(self._url)
            fs.rm_file(f"{root.rstrip('/')}/{name}")

        try:
            patiently(remove, f"{self._url}/{name}", self._say)
        except FileNotFoundError:
            return  # that is how it should be

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.push()
            except FovsfeError as error:
                self._failure = error
                self._say(f"warning: {error}; going on in {self._folder} alone")
                return

    def _names(self) -> Iterator[str]:
        for file in self._folder.rglob("*"):
            name = file.relative_to(self._folder).as_posix()
            if file.is_file() and not name.startswith("cache/") and not file.name.startswith("."):
                yield name


def _stamp(file: Path) -> tuple[int, int]:
    """When a file was written (nanoseconds) and its size (bytes); zeros where it is gone."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
