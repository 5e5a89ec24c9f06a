"""Reads the bytes of photos: of files, or of entries of a zip or tar, on this machine or at a URL."""

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
from typing import Protocol

from filelock import FileLock
from upath import UPath

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.files import atomic_path, file_stamp
from fovsfe.photos.decode import SUFFIXES
from fovsfe.storage.locations import AnyPath, as_path, cache_root, filesystem_of, is_file, is_url
from fovsfe.storage.retry import retry

ARCHIVES = (".zip", ".tar")
OPEN_ARCHIVES = 64  # in one process: more than the shards whose photos are shuffled together
CACHE_GB = 20.0
LIMIT = "FOVSFE_CACHE_GB"

# What changes in a file system's facts about a file when the file changes.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def read_bytes(root: AnyPath, path: str) -> bytes:
    """Returns the encoded photo at `path` under `root`, which may be inside a zip or tar directly under it.

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
        return _archive(root / archive).read(entry)
    except KeyError:
        raise FileNotFoundError(f"{path}: not in the archive") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise OSError(f"damaged in the archive: {error}") from error


def read_encoded(name: str) -> bytes:
    """Returns the encoded photo at a path or URL, which may lead into a zip or tar, as in "photos.zip/1.jpg".

    Raises as `read_bytes` does, and ValueError for a path that no file system accepts.
    """
    inside = re.fullmatch(r"(.*/)?([^/]+\.(?:zip|tar)/.+)", name, re.IGNORECASE | re.DOTALL)
    if inside and (is_url(name) or not Path(name).exists()):
        return read_bytes(as_path(inside[1] or "."), inside[2])
    return read_file(as_path(name) if is_url(name) else Path(name))


def read_file(location: AnyPath) -> bytes:
    """Returns the content of a file or URL. Raises OSError, and FovsfeError if a URL cannot be reached."""
    if not isinstance(location, UPath):
        return location.read_bytes()
    fs, path = filesystem_of(str(location))
    data: bytes = retry(lambda: fs.cat_file(path), str(location))
    return data


def read_text(location: AnyPath) -> str | None:
    """Returns the text of a UTF-8 file or URL, or None if it does not exist. Raises as `read_file` does."""
    try:
        return read_file(location).decode()
    except FileNotFoundError:
        return None


def photo_names(archive: AnyPath) -> list[str]:
    """Returns the photos in a zip or tar, by name. Raises FovsfeError if the archive cannot be read."""
    try:
        entries = _archive(archive).names()
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise FovsfeError(f"{archive}: cannot be read as an archive ({error}); download it again") from error
    return [name for name in entries if is_photo_name(name) and not any(map(is_hidden, name.split("/")))]


def is_photo_name(name: str) -> bool:
    """Returns whether a file of this name counts as a photo."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to the system and not to the photos."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def local_copy(location: AnyPath) -> Path:
    """Returns a local file with the content of a file or URL.

    A URL is downloaded into the folder FOVSFE_CACHE, whole, once for all processes. If the cache would grow
    over FOVSFE_CACHE_GB, the least recently used files are removed.

    Raises:
        FileNotFoundError: nothing is there.
        FovsfeError: a URL cannot be reached, or the file does not fit into the cache.
    """
    if isinstance(location, Path) and not isinstance(location, UPath):
        return location
    url = str(location)
    fs, path = filesystem_of(url)
    facts = retry(lambda: fs.info(path), url)
    version = next((str(facts[key]) for key in _VERSIONS if facts.get(key)), "")
    key = hashlib.sha256(f"{url} {version} {facts['size']}".encode()).hexdigest()[:32]
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
    return _is_remote_file(str(root / name)) if isinstance(root, UPath) else not (root / name).is_dir()


@lru_cache(maxsize=4096)
def _is_remote_file(url: str) -> bool:
    """Returns whether a URL is a file; remembers the answer, because it costs a request."""
    return is_file(as_path(url))


def _make_room(folder: Path, size: int, url: str) -> None:
    """Removes the least recently used archives until `size` bytes fit into the cache."""
    limit = _limit()
    if size > limit:
        raise FovsfeError(
            f"{url}: {size / 1e9:.3g} GB do not fit into the cache; set {LIMIT}, now {limit / 1e9:g}, to more"
        )
    with FileLock(folder / "room.lock"):
        oldest_first = sorted(
            (*file_stamp(file), file) for file in folder.iterdir() if file.suffix in ARCHIVES
        )
        total = sum(file_size for _, file_size, _ in oldest_first)
        for _, file_size, file in oldest_first:
            if total + size <= limit:
                return
            file.unlink(missing_ok=True)
            total -= file_size


def _limit() -> float:
    text = os.environ.get(LIMIT) or str(CACHE_GB)
    try:
        return 1e9 * float(text)
    except ValueError:
        raise UsageError(f"{LIMIT}={text}: give a number of gigabytes") from None


class _Archive(Protocol):
    def names(self) -> list[str]: ...

    def read(self, entry: str) -> bytes: ...


class _Zip:
    """A zip, from which several threads may read at the same time."""

    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file)

    def names(self) -> list[str]:
        return self._zip.namelist()

    def read(self, entry: str) -> bytes:
        return self._zip.read(entry)


class _Tar:
    """A tar with random access: all its headers are read when it is opened."""

    def __init__(self, file: Path) -> None:
        with tarfile.open(file, "r:") as tar:
            self._positions = {entry.name: (entry.offset_data, entry.size) for entry in tar if entry.isfile()}
        self._file, self._lock = file.open("rb", buffering=0), threading.Lock()

    def names(self) -> list[str]:
        return list(self._positions)

    def read(self, entry: str) -> bytes:
        offset, size = self._positions[entry]
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


def _archive(location: AnyPath) -> _Archive:
    return _open(str(location), isinstance(location, UPath), os.getpid())


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open(location: str, remote: bool, process: int) -> _Archive:
    """Opens an archive, once in each `process`: after a fork, two would share one position in the file."""
    file = local_copy(UPath(location) if remote else Path(location))
    return _Zip(file) if file.suffix.lower() == ".zip" else _Tar(file)
