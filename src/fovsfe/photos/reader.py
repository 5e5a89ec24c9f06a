"""The bytes of a photo: of a file, or of an entry of a zip or tar, on this machine or at a URL."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from filelock import FileLock
from upath import UPath

from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.files import atomic_path, file_stamp
from fovsfe.photos.decode import SUFFIXES
from fovsfe.storage.locations import AnyPath, as_path, cache_root, filesystem_of, is_file, is_url
from fovsfe.storage.retry import retry

ARCHIVES = (".zip", ".tar")
OPEN_ARCHIVES = 64  # of a process; more than the shards whose photos are shuffled together
CACHE_GB = 20.0
LIMIT = "FOVSFE_CACHE_GB"

_IDENTITIES = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def read_bytes(root: AnyPath, path: str) -> bytes:
    """The encoded photo at `path` under `root`, also inside a zip or tar directly under it.

    Raises:
        OSError: there is no such photo, or it cannot be read.
        FovsfeError: a URL cannot be reached or refuses access.
    """
    archive, _, entry = path.partition("/")
    if not path:
        raise FileNotFoundError("the sample names a photo that is not there")
    if path.endswith("/"):
        raise IsADirectoryError(path)
    if not entry or not _is_archive(root, archive):
        return read_file(root / path)
    try:
        return _opened(root / archive).read(entry)
    except KeyError:
        raise FileNotFoundError(f"{path}: not in the archive") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise OSError(f"damaged in the archive: {error}") from error


def read_named(name: str) -> bytes:
    """The encoded photo that `name`, as `bundle.predict.expand` gives it, stands for. Raises as `read_bytes`
    does, and ValueError for a path that no system has."""
    inside = re.fullmatch(r"(.*/)?([^/]+\.(?:zip|tar)/.+)", name, re.IGNORECASE | re.DOTALL)
    if inside and (is_url(name) or not Path(name).exists()):
        return read_bytes(as_path(inside[1] or "."), inside[2])
    return read_file(as_path(name) if is_url(name) else Path(name))


def read_file(where: AnyPath) -> bytes:
    """A whole file, here or at a URL. Raises OSError, and FovsfeError where a URL cannot be reached."""
    if not isinstance(where, UPath):
        return where.read_bytes()
    fs, path = filesystem_of(str(where))
    data: bytes = retry(lambda: fs.cat_file(path), str(where))
    return data


def names_in(archive: AnyPath) -> list[str]:
    """The entries of a zip or tar that are named like photos. Raises FovsfeError where it cannot be read."""
    try:
        entries = _opened(archive).names()
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise FovsfeError(f"{archive}: cannot be read as an archive ({error}); download it again") from error
    return [e for e in entries if is_photo_name(e) and not any(is_hidden(part) for part in e.split("/"))]


def is_photo_name(name: str) -> bool:
    """Whether a file of this name is taken for a photo."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to the system and not to the photos."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def local_copy(where: AnyPath) -> Path:
    """The file at `where` as a file of this machine.

    One at a URL is fetched into the folder FOVSFE_CACHE unless it is there already, whole, and once for all
    processes. What was not used for longest gives way where more than FOVSFE_CACHE_GB would lie there.

    Raises FileNotFoundError, and FovsfeError where a URL cannot be reached or the cache cannot hold the file.
    """
    if isinstance(where, Path) and not isinstance(where, UPath):
        return where
    url = str(where)
    fs, path = filesystem_of(url)
    facts = retry(lambda: fs.info(path), url)
    identity = next((str(facts[key]) for key in _IDENTITIES if facts.get(key)), "")
    key = hashlib.sha256(f"{url} {identity} {facts['size']}".encode()).hexdigest()[:32]
    file = cache_root() / "archives" / f"{key}{PurePosixPath(path).suffix.lower()}"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            _make_room(file.parent, int(facts["size"]), url)
            with atomic_path(file) as temporary:
                retry(lambda: fs.get_file(path, str(temporary)), url)
        os.utime(file)
    return file


def _is_archive(root: AnyPath, name: str) -> bool:
    if not name.lower().endswith(ARCHIVES):
        return False
    return _is_file_there(str(root / name)) if isinstance(root, UPath) else not (root / name).is_dir()


@lru_cache(maxsize=4096)
def _is_file_there(url: str) -> bool:
    """Remembered, as asking costs a request."""
    return is_file(as_path(url))


def _make_room(folder: Path, size: int, url: str) -> None:
    limit = _limit()
    if size > limit:
        raise FovsfeError(
            f"{url}: has {size / 1e9:.3g} GB; set {LIMIT} to more than that, it is {limit / 1e9:g}"
        )
    with FileLock(folder / "room.lock"):
        there = sorted((*file_stamp(file), file) for file in folder.iterdir() if file.suffix in ARCHIVES)
        total = sum(each for _, each, _ in there)
        for _, each, file in there:
            if total + size <= limit:
                return
            file.unlink(missing_ok=True)
            total -= each


def _limit() -> float:
    text = os.environ.get(LIMIT) or str(CACHE_GB)
    try:
        return 1e9 * float(text)
    except ValueError:
        raise WrongUsage(f"{LIMIT}={text}: give a number of gigabytes") from None


class _Archive(Protocol):
    def names(self) -> list[str]: ...

    def read(self, entry: str) -> bytes: ...


class _Zip:
    """Threads may read from it together."""

    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file)

    def names(self) -> list[str]:
        return self._zip.namelist()

    def read(self, entry: str) -> bytes:
        return self._zip.read(entry)


class _Tar:
    """A tar whose entries are found at once: its headers are read through when it is opened."""

    def __init__(self, file: Path) -> None:
        with tarfile.open(file, "r:") as tar:
            self._where = {each.name: (each.offset_data, each.size) for each in tar if each.isfile()}
        self._file, self._lock = file.open("rb", buffering=0), threading.Lock()

    def names(self) -> list[str]:
        return list(self._where)

    def read(self, entry: str) -> bytes:
        offset, size = self._where[entry]
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


def _opened(archive: AnyPath) -> _Archive:
    return _open(str(archive), isinstance(archive, UPath), os.getpid())


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open(archive: str, remote: bool, process: int) -> _Archive:
    """One open archive a process: after a fork, parent and child would share one position in the file."""
    file = local_copy(UPath(archive) if remote else Path(archive))
    kinds: dict[str, Any] = {".zip": _Zip, ".tar": _Tar}
    opened: _Archive = kinds[PurePosixPath(archive).suffix.lower()](file)
    return opened
