"""Reads the bytes of photos: of files, or of entries of a zip or tar, on this machine or at a URL."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock

from filelock import FileLock
from upath import UPath

from fovsfe import machine
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.files import MISSING_STAMP, atomic_path, file_stamp, open_regular
from fovsfe.photos import archives
from fovsfe.photos.archives import Archive, BadArchive
from fovsfe.photos.decode import HEAD_BYTES
from fovsfe.storage.locations import AnyPath, as_path, cache_root, filesystem_of, is_file, is_url
from fovsfe.storage.retry import retry

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
OPEN_ARCHIVES = 64  # in one process: more than the shards whose photos are shuffled together
MAX_BYTES = 256 * 2**20  # of one encoded photo: only uncompressed ones of 85 million pixels have as many
CACHE_GB = 20.0
CACHE_VARIABLE = "FOVSFE_CACHE_GB"

# What changes in a file system's facts about a file when the file changes.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified", "created")
_ARCHIVE_IN_PATH = re.compile(r"\.(?:zip|tar|tar\.gz|tgz)(?=/)", re.IGNORECASE)


def read_bytes(root: AnyPath, path: str) -> bytes:
    """Returns the encoded photo at `path` under `root`, which may lead into a zip or tar.

    Raises:
        OSError: there is no such photo, it cannot be read, it has over MAX_BYTES, or `path` leads out of
            `root`.
        FovsfeError: a URL cannot be reached or refuses access; or memory, disk or open files of this machine
            are used up.
    """
    if not path:
        raise FileNotFoundError("the sample names a photo that is not there")
    if leads_out(path):
        raise OSError("leads out of its folder, and is refused")
    if path.endswith("/"):
        raise IsADirectoryError(path)
    return _read(path, lambda part: root / part)


def read_unchanged(root: AnyPath, path: str, sha256: str) -> bytes:
    """Returns what `read_bytes` does if it is the content that has this SHA-256, in hexadecimal.

    Raises as `read_bytes` does, and OSError if the content is another.
    """
    data = read_bytes(root, path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise OSError("not the photo that it was when the run began: its content has changed")
    return data


def photo_stamp(root: AnyPath, path: str) -> tuple[int, int]:
    """Returns when a photo of this machine, or its archive, was last written (nanoseconds), and its bytes.

    Nothing is read but the directory of an archive. Raises as `read_bytes` does, and OSError at a URL.
    """
    here = local_path(root)
    if here is None or not path or leads_out(path):
        raise OSError("not on this machine")
    for found in _ARCHIVE_IN_PATH.finditer(path):
        archive, entry = here / path[: found.end()], path[found.end() + 1 :]
        if is_file(archive):
            try:
                return file_stamp(archive)[0], open_archive(archive).size(entry)
            except KeyError:
                raise FileNotFoundError(f"{entry}: not in the archive") from None
            except BadArchive as error:
                raise OSError(_reason(error, archive)) from error
    status = (here / path).stat()
    return status.st_mtime_ns, status.st_size


def read_encoded(name: str) -> bytes:
    """Returns the encoded photo at a path or URL, which may lead into a zip or tar, as in "photos.zip/1.jpg".

    Raises as `read_bytes` does.
    """
    return _read(name, lambda part: as_path(part) if is_url(part) else Path(part))


def leads_out(path: str) -> bool:
    """Returns whether a path under a folder leads out of it by its letters alone, as "../1.jpg" does."""
    return path.startswith("/") or is_url(path) or ".." in path.split("/")


def read_file(location: AnyPath, limit: int | None = None) -> bytes:
    """Returns the content of a file or URL, which is not a device, a pipe or a socket.

    Raises OSError, also if the file has more than `limit` bytes, and FovsfeError if a URL cannot be reached.
    """
    if (file := local_path(location)) is not None:
        with open_regular(file) as stream:
            return _limited(stream.read() if limit is None else stream.read(limit + 1), limit)
    fs, path = filesystem_of(str(location))

    def read() -> bytes:
        if limit is None:
            data: bytes = fs.cat_file(path)
            return data
        with fs.open(path, "rb") as stream:
            beginning: bytes = stream.read(limit + 1)
            return beginning

    return _limited(retry(read, str(location)), limit)


def read_text(location: AnyPath) -> str | None:
    """Returns the text of a UTF-8 file or URL, or None if it does not exist. Raises as `read_file` does."""
    try:
        return read_file(location).decode()
    except FileNotFoundError:
        return None


def read_head(location: AnyPath) -> bytes:
    """Returns the first HEAD_BYTES of a file or URL. Raises as `read_file` does."""
    if (file := local_path(location)) is not None:
        with open_regular(file) as stream:
            return stream.read(HEAD_BYTES)
    fs, path = filesystem_of(str(location))
    head: bytes = retry(lambda: fs.cat_file(path, start=0, end=HEAD_BYTES), str(location))
    return head


def local_path(location: AnyPath) -> Path | None:
    """Returns a path, or a file:// URL, as a path of this machine; None for another URL."""
    if not isinstance(location, UPath):
        return location
    return Path(location.path) if location.protocol in ("file", "local") else None


def is_archive_name(name: str) -> bool:
    """Returns whether a file of this name counts as an archive."""
    return name.lower().endswith(ARCHIVES)


def root_of(location: AnyPath) -> AnyPath:
    """Returns the folder that the paths of photos at `location` are under: that of an archive, or itself."""
    return location.parent if is_archive_name(location.name) and is_file(location) else location


def open_archive(location: AnyPath) -> Archive:
    """Returns a zip or tar, here or at a URL; those that were used last stay open.

    Raises BadArchive, a FovsfeError, if it cannot be read as an archive, OSError if there is none, and
    FovsfeError if a URL cannot be reached or the cache has no room.
    """
    return _open_archives.get(location)


def local_copy(location: AnyPath) -> Path:
    """Returns a local file with the content of a file or URL.

    A URL is downloaded into the folder FOVSFE_CACHE, whole, once for all processes. If the cache would grow
    over FOVSFE_CACHE_GB, the least recently used files are removed.

    Raises:
        FileNotFoundError: nothing is there.
        FovsfeError: a URL cannot be reached, or the file does not fit into the cache.
    """
    if (here := local_path(location)) is not None:
        return here
    url = str(location)
    fs, path = filesystem_of(url)
    facts = retry(lambda: fs.info(path), url)
    version = next((str(facts[key]) for key in _VERSIONS if facts.get(key)), "")
    suffix = next((each for each in ARCHIVES if path.lower().endswith(each)), PurePosixPath(path).suffix)
    file = _cache_file(f"{url} {version} {facts['size']}", suffix)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            _make_room(file.parent, int(facts["size"]), url)
            with atomic_path(file) as temporary:
                retry(lambda: fs.get_file(path, str(temporary)), url)
        os.utime(file)
    return file


def _read(path: str, at: Callable[[str], AnyPath]) -> bytes:
    """Reads a photo; `at` returns where the beginning of `path` is that may be an archive's."""
    try:
        for found in _ARCHIVE_IN_PATH.finditer(path):
            archive, entry = path[: found.end()], path[found.end() + 1 :]
            if _is_file(at(archive)):
                return _read_entry(at(archive), entry)
        if is_archive_name(path) and _is_file(at(path)):
            open_archive(at(path))
            raise OSError("an archive without photos")
        return read_file(at(path), MAX_BYTES)
    except BadArchive as error:
        raise OSError(_reason(error, at(path))) from error
    except OSError as error:
        if machine.is_exhausted(error):
            raise FovsfeError(f"{path}: cannot be read now: {error.strerror} on this machine") from error
        raise


def _read_entry(location: AnyPath, entry: str) -> bytes:
    try:
        archive = open_archive(location)
        _check_size(archive.size(entry), MAX_BYTES)
        return _limited(archive.read(entry, MAX_BYTES + 1), MAX_BYTES)
    except KeyError:
        raise FileNotFoundError(f"{entry}: not in the archive") from None
    except BadArchive as error:
        raise OSError(f"damaged in the archive: {_reason(error, location)}") from error
    except (OSError, FovsfeError):
        raise
    except Exception as error:  # with hostile bytes, the libraries raise every kind of exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"damaged in the archive: {reason}") from error


def _reason(error: BadArchive, location: AnyPath) -> str:
    """Returns why an archive cannot be read, without its name, which the photo's has already."""
    return str(error).removeprefix(f"{location}: ")


def _limited(data: bytes, limit: int | None) -> bytes:
    _check_size(len(data), limit)
    return data


def _check_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise OSError(f"larger than the limit of {limit // 2**20} MB")


def _is_file(location: AnyPath) -> bool:
    here = local_path(location)
    return _is_remote_file(str(location)) if here is None else is_file(here)


@lru_cache(maxsize=4096)
def _is_remote_file(url: str) -> bool:
    """Returns whether a URL is a file; remembers the answer, because it costs a request."""
    return is_file(as_path(url))


class _OpenArchives:
    """The archives that were used last: at most OPEN_ARCHIVES, with MAX_ENTRIES in all but the last."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._archives: OrderedDict[tuple[str, tuple[int, int]], Archive] = OrderedDict()
        self._lock = Lock()

    def get(self, location: AnyPath) -> Archive:
        here = local_path(location)
        key = (str(location), MISSING_STAMP if here is None else file_stamp(here))
        with self._lock:
            if key in self._archives:
                self._archives.move_to_end(key)
                return self._archives[key]
        archive = archives.open_archive(_unpacked(local_copy(location)))
        with self._lock:
            self._archives[key] = archive
            entries = sum(len(each.names) for each in self._archives.values()) - len(archive.names)
            while entries > archives.MAX_ENTRIES or len(self._archives) > OPEN_ARCHIVES:
                _, oldest = self._archives.popitem(last=False)
                entries -= len(oldest.names)
        return archive


_open_archives = _OpenArchives()
# A fork would share its position in each file, and its lock may be held at that moment.
os.register_at_fork(after_in_child=_open_archives.clear)


def _unpacked(file: Path) -> Path:
    """Returns a tar.gz as a tar in the cache, for entries to be read in any order; other files as they are.

    Raises BadArchive if it is damaged, and FovsfeError if it does not fit into the cache.
    """
    if not file.name.lower().endswith((".gz", ".tgz")):
        return file
    limit, size = _limit(), 0
    tar = _cache_file(f"{file.absolute()} {file_stamp(file)}", ".tar")
    with open_regular(file) as packed, FileLock(tar.with_suffix(".lock")):
        if not tar.exists():
            with atomic_path(tar) as temporary, temporary.open("wb") as out:
                for chunk in _gunzip(packed, file):
                    size += len(chunk)
                    if size > limit:
                        raise _no_room(str(file), size, limit)
                    out.write(chunk)
                _make_room(tar.parent, size, str(file))
        os.utime(tar)
    return tar


def _gunzip(packed: io.BufferedReader, file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(packed) as stream:
            while chunk := stream.read(archives.CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise BadArchive(f"{file}: cannot be read as an archive ({error}); download it again") from error


def _cache_file(key: str, suffix: str) -> Path:
    """Returns a path in the cache of archives. Raises FovsfeError if there can be no cache."""
    folder = cache_root() / "archives"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FovsfeError(f"cannot write {folder}: {error.strerror}; set FOVSFE_CACHE") from error
    return folder / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + suffix.lower())


def _make_room(folder: Path, size: int, url: str) -> None:
    """Removes the least recently used archives until `size` bytes fit into the cache."""
    limit = _limit()
    if size > limit:
        raise _no_room(url, size, limit)
    with FileLock(folder / "room.lock"):
        oldest_first = sorted(
            (*file_stamp(file), file) for file in folder.iterdir() if is_archive_name(file.name)
        )
        total = sum(file_size for _, file_size, _ in oldest_first)
        for _, file_size, file in oldest_first:
            if total + size <= limit:
                return
            file.unlink(missing_ok=True)
            total -= file_size


def _no_room(name: str, size: int, limit: float) -> FovsfeError:
    return FovsfeError(
        f"{name}: {size / 1e9:.3g} GB do not fit into the cache; set {CACHE_VARIABLE}, now {limit / 1e9:g},"
        " to more"
    )


def _limit() -> float:
    text = os.environ.get(CACHE_VARIABLE) or str(CACHE_GB)
    try:
        return 1e9 * float(text)
    except ValueError:
        raise UsageError(f"{CACHE_VARIABLE}={text}: give a number of gigabytes") from None
