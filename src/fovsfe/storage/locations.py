"""Storage back-ends: paths of this machine and URLs, through the one interface of fsspec.

A new back-end is a scheme, with the extra to install for it, in `_EXTRAS`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from upath import UPath

from fovsfe.errors import UsageError
from fovsfe.storage.retry import retry

AnyPath = Path | UPath

_EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs"}  # the extra of fovsfe that installs the library for a scheme


def is_url(location: str) -> bool:
    """Returns whether `location` is a URL and not a path of this machine."""
    return "://" in location


def as_path(location: str) -> AnyPath:
    """Returns an absolute path of this machine, or a URL that behaves like a path.

    Raises UsageError if no library for such a URL is known or installed.
    """
    if not is_url(location):
        return Path(location).resolve()
    try:
        url = UPath(location.rstrip("/"))
        _ = url.fs  # loads the library
        return url
    except ImportError as error:
        extra = _EXTRAS.get(location.partition("://")[0])
        remedy = f"pip install 'fovsfe[{extra}]'" if extra else str(error)
        raise UsageError(f"{location}: the library for such URLs is not installed: {remedy}") from error
    except ValueError as error:
        raise UsageError(f"{location}: no such kind of URL is known: {error}") from error


def name_of(location: str) -> str:
    """Returns the last part of a path or URL: "photos" of s3://bucket/photos."""
    return as_path(location).name


def cache_root() -> Path:
    """Returns the local folder for copies of remote files: FOVSFE_CACHE, or ~/.cache/fovsfe."""
    return Path(os.environ.get("FOVSFE_CACHE") or Path.home() / ".cache" / "fovsfe")


def filesystem_of(url: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL, for this process, and the path in it.

    The file system of a UPath would not do: after a fork, a process needs one of its own.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, path


def exists(location: AnyPath) -> bool:
    """Returns whether a path or URL exists. Raises FovsfeError if a URL cannot be reached."""
    return _query(location, "exists")


def is_file(location: AnyPath) -> bool:
    """Returns whether a path or URL is a file. Raises as `exists` does."""
    return _query(location, "is_file")


def is_dir(location: AnyPath) -> bool:
    """Returns whether a path or URL is a folder. Raises as `exists` does."""
    return _query(location, "is_dir")


def _query(location: AnyPath, method: str) -> bool:
    query: Callable[[], bool] = getattr(location, method)
    if isinstance(location, UPath):
        return retry(query, str(location))
    try:
        return query()
    except OSError:  # a name that no file system accepts
        return False
