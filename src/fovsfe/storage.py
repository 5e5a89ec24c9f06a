"""Places on other machines: URLs that fsspec knows, such as s3://bucket/run, reached with patience."""

import errno
import hashlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import fsspec
from filelock import FileLock, Timeout
from upath import UPath

from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.run import replacing

Say = Callable[[str], None]
Place = Path | UPath
Wanted = Literal["new", "there", "either"]
T = TypeVar("T")

PATIENCE = 600.0  # seconds for which a lost connection is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubled from one to the next
SECONDS_BETWEEN_LOOKS = 1.0  # of a mirror, for what has changed

LOG, CACHE = "log.jsonl", "cache"  # of a run: what tells which copy is ahead, and what is never put elsewhere
GONE = (0, 0)

# Where an object is there whole or not at all. Elsewhere a file gets its name once it is complete.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}
_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "azure"}
_CREDENTIALS = ("Credential", "Token", "Refresh", "Unauthorized", "Forbidden")  # in the names of their errors
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL}  # no pause cures them


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


def system(url: str) -> tuple[Any, str]:
    """The file system of a URL, as this process may use it, and the path there.

    Not that of a UPath: after a fork, a process needs one of its own.
    """
    of_url, path = fsspec.core.url_to_fs(url)
    return of_url, path


def exists(place: Place) -> bool:
    """Whether there is something at a path or URL. Raises FovsfeError where a URL cannot be reached."""
    return _asked(place, "exists")


def is_file(place: Place) -> bool:
    """Whether there is a file. Raises as `exists` does."""
    return _asked(place, "is_file")


def is_dir(place: Place) -> bool:
    """Whether there is a folder. Raises as `exists` does."""
    return _asked(place, "is_dir")


def _asked(place: Place, question: str) -> bool:
    ask: Callable[[], bool] = getattr(place, question)
    if isinstance(place, UPath):
        return patiently(ask, str(place))
    try:
        return ask()
    except OSError:  # a name that no system has
        return False


# ---- patience


def patiently(work: Callable[[], T], place: str, say: Say = lambda text: None) -> T:
    """What `work` gives; tries again, with growing pauses, while `place` cannot be reached.

    Raises FovsfeError where access is refused or waiting cures nothing, and after PATIENCE seconds.
    FileNotFoundError is the caller's to explain.
    """
    pause, until, told = FIRST_PAUSE, time.monotonic() + PATIENCE, False
    while True:
        try:
            result = work()
        except FileNotFoundError:
            raise
        except Exception as error:  # the libraries behind fsspec have no common class
            if not isinstance(error, OSError | EOFError) and not _is_of_a_library(error):
                raise
            if _is_refusal(error):
                raise FovsfeError(
                    f"{place}: access is refused ({_reason(error)}); check the credentials"
                ) from error
            if not _may_pass(error):
                raise FovsfeError(f"{place}: {_reason(error)}") from error
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
    named = _is_of_a_library(error) and any(word in type(error).__name__ for word in _CREDENTIALS)
    return isinstance(error, PermissionError) or named or _status(error) in (401, 403)


def _may_pass(error: Exception) -> bool:
    """Not a full disk, a path that cannot be, or a request that the server will never take."""
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return False
    status = _status(error)
    lasting = status == 501 or (400 <= status < 500 and status not in (408, 425, 429))
    return not lasting and getattr(error, "errno", None) not in _LASTING


def _status(error: Exception) -> int:
    """Of an HTTP answer; 0 of other errors."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 0


def _is_of_a_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# ---- files and folders


def put(file: Path, place: Place, say: Say = lambda text: None) -> None:
    """Puts a file at a path or URL, whole or not at all. Raises FovsfeError where that cannot be done."""
    if not isinstance(place, UPath):
        with replacing(place) as temporary:
            shutil.copyfile(file, temporary)
        return

    def upload() -> None:
        fs, path = system(str(place))
        if OBJECT_STORES & ({fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)):
            fs.put_file(str(file), path)
            return
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name}.{os.getpid()}.part"
        fs.makedirs(folder, exist_ok=True)
        fs.put_file(str(file), part)
        fs.mv(part, path)

    try:
        patiently(upload, str(place), say)
    except FileNotFoundError as error:
        raise FovsfeError(f"{place}: there is no such bucket or folder; make it first") from error


@contextmanager
def working(place: str, say: Say = lambda text: None, wanted: Wanted = "either") -> Iterator[Path]:
    """The folder of this machine in which a run at `place` works: that of a path is the path itself.

    That of a URL is a copy of what is there. While the block runs, every file that it writes is put there
    whole, in the order in which the files were written, so what is there is the run as it was at some moment;
    all of it is there when the block ends, however it ends. A copy of an earlier session that is ahead of the
    URL, by its log, is gone on with; any other gives way.

    Raises FovsfeError where a URL cannot be reached, another process of this machine works on it, it has
    something though a new run is wanted, or has nothing though one that is there is.
    """
    if not is_url(place):
        yield Path(place)
        return
    where = located(place)
    home = cache_root() / "runs" / hashlib.sha256(str(where).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FovsfeError(f"another process of this machine works on {place}; wait until it ends") from None
    try:
        mirror = _Mirror(home / where.name, str(where), say)
        there = mirror.begin(wanted)
        if there and wanted == "new":
            raise FovsfeError(f"{place} is not empty; go on with it: fovsfe resume {place}")
        if not there and wanted == "there":
            raise FovsfeError(f"{place} is not a run: nothing is there; start one with fovsfe train")
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
def fetched(place: str) -> Iterator[Path]:
    """A folder of this machine with what is in the folder `place`, for the length of the block.

    Raises FovsfeError where a URL cannot be reached or nothing is there.
    """
    if not is_url(place):
        yield Path(place)
        return
    where = located(place)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        folder = Path(name) / where.name
        folder.mkdir()
        if not _Mirror(folder, str(where), lambda text: None).fetch(folder):
            raise FovsfeError(f"{place}: nothing is there")
        yield folder


@contextmanager
def delivered(place: str) -> Iterator[Path]:
    """A folder of this machine to write to; at the end of the block its files are put at `place`, the one
    written last at last. Raises FovsfeError where a URL cannot be reached."""
    if not is_url(place):
        yield Path(place)
        return
    where = located(place)
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as name:
        yield Path(name)
        _Mirror(Path(name), str(where), lambda text: None).push()


class _Mirror:
    """Keeps a URL like a folder of this machine, from a thread of its own."""

    def __init__(self, folder: Path, url: str, say: Say) -> None:
        self._folder, self._url, self._say = folder, url, say
        self._sent: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def begin(self, wanted: Wanted) -> bool:
        """Makes the folder like the URL, unless it is ahead of it; gives whether there is anything."""
        log = self._folder / LOG
        if log.exists():
            there_too = self._log()
            if log.read_bytes().startswith(there_too) and (there_too or wanted == "there"):
                self.push()
                return True
        part = self._folder.with_name(f".{self._folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        there = self.fetch(part)
        if (self._folder / CACHE).exists():  # it need not be made anew
            (self._folder / CACHE).rename(part / CACHE)
        shutil.rmtree(self._folder, ignore_errors=True)
        part.rename(self._folder)
        return there > 0

    def fetch(self, into: Path) -> int:
        """Brings everything that is there into a folder; gives the number of files."""

        def names() -> list[str]:
            fs, root = system(self._url)
            fs.invalidate_cache()
            root = root.rstrip("/")
            found = [str(path).removeprefix(root).lstrip("/") for path in fs.find(root)]
            return [name for name in found if ".." in name.split("/") or not _is_unfinished(name)]

        def bring(name: str, file: Path) -> None:
            fs, root = system(self._url)
            fs.get_file(f"{root.rstrip('/')}/{name}", str(file))

        try:
            every = patiently(names, self._url, self._say)
        except FileNotFoundError:
            return 0
        for name in every:
            file = into / name
            if ".." in name.split("/"):
                raise FovsfeError(f"{self._url}: the name {name!r} leads out of the folder; remove it there")
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                patiently(partial(bring, name, file), f"{self._url}/{name}", self._say)
            except FileNotFoundError:
                continue  # removed meanwhile by who works there
            self._sent[name] = stamp(file)
        return len(every)

    def _log(self) -> bytes:
        """The run's log as it is there; empty where there is none."""
        fs, root = system(self._url)
        fs.invalidate_cache()
        try:
            data: bytes = patiently(lambda: fs.cat_file(f"{root.rstrip('/')}/{LOG}"), self._url, self._say)
        except FileNotFoundError:
            return b""
        return data

    def start(self) -> None:
        """Begins to watch the folder."""
        self._thread.start()

    def finish(self) -> None:
        """Stops watching and puts what is left. Raises FovsfeError where it could not be put."""
        self._ended.set()
        self._thread.join()
        try:
            self.push()
        except FovsfeError as error:
            raise FovsfeError(
                f"{error}; the run so far is in {self._folder}, and goes on from there on this machine"
            ) from error

    def push(self) -> None:
        """Puts every file that has changed, in the order in which they were written, and removes those that
        are gone."""
        stamps = {name: found for name in self._names() if (found := stamp(self._folder / name)) != GONE}
        for name in sorted(stamps, key=lambda name: stamps[name]):
            if self._sent.get(name) != stamps[name]:
                try:
                    put(self._folder / name, UPath(f"{self._url}/{name}"), self._say)
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
            fs, root = system(self._url)
            fs.rm_file(f"{root.rstrip('/')}/{name}")

        try:
            patiently(remove, f"{self._url}/{name}", self._say)
        except FileNotFoundError:
            return  # that is how it should be

    def _watch(self) -> None:
        warned = False
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.push()
                warned = False
            except (FovsfeError, OSError) as error:  # of this look: the next may do better
                if not warned:
                    self._say(f"warning: {error}; going on in {self._folder}")
                warned = True

    def _names(self) -> Iterator[str]:
        for parent, folders, names in os.walk(self._folder):
            here = Path(parent).relative_to(self._folder)
            folders[:] = [name for name in folders if not _is_unfinished(name)]
            if here == Path():
                folders[:] = [name for name in folders if name != CACHE]
            yield from ((here / name).as_posix() for name in names if not _is_unfinished(name))


def _is_unfinished(name: str) -> bool:
    """Whether a file, or a folder that it is in, has the name of what is still being written."""
    return any(part.startswith(".") for part in name.split("/"))


def stamp(file: Path) -> tuple[int, int]:
    """When a file was written (nanoseconds) and its size (bytes); GONE where it is no more."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return GONE
    return status.st_mtime_ns, status.st_size
