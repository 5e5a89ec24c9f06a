"""Paths of this machine and URLs, by one interface."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from upath import UPath

from fovsfe.errors import WrongUsage
from fovsfe.storage.retry import retry

AnyPath = Path | UPath


def is_url(location: str) -> bool:
    """Whether `location` is a URL and not a path of this machine."""
    return "://" in location


def as_path(location: str) -> AnyPath:
    """A path of this machine, made absolute, or a URL that answers as a path does.

    Raises WrongUsage where no library for such a URL is known or installed.
    """
    if not is_url(location):
        return Path(location).resolve()
    try:
        where = UPath(location.rstrip("/"))
        _ = where.fs  # looks for the library
        return where
    except ImportError as error:
        extra = {"s3": "s3", "gs": "gs", "gcs": "gs"}.get(location.partition("://")[0])
        what = f"pip install 'fovsfe[{extra}]'" if extra else str(error)
        raise WrongUsage(f"{location}: the library for such URLs is not installed: {what}") from error
    except ValueError as error:
        raise WrongUsage(f"{location}: no such kind of URL is known: {error}") from error


def cache_root() -> Path:
    """The folder of this machine for copies of what lies elsewhere: FOVSFE_CACHE, or ~/.cache/fovsfe."""
    return Path(os.environ.get("FOVSFE_CACHE") or Path.home() / ".cache" / "fovsfe")


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system of a URL, as this process may use it, and the path there.

    Not that of a UPath: after a fork, a process needs one of its own.
    """
    of_url, path = fsspec.core.url_to_fs(url)
    return of_url, path


def exists(location: AnyPath) -> bool:
    """Whether there is something at a path or URL. Raises FovsfeError where a URL cannot be reached."""
    return _query(location, "exists")


def is_file(location: AnyPath) -> bool:
    """Whether there is a file. Raises as `exists` does."""
    return _query(location, "is_file")


def is_dir(location: AnyPath) -> bool:
    """Whether there is a folder. Raises as `exists` does."""
    return _query(location, "is_dir")


def _query(location: AnyPath, method: str) -> bool:
    query: Callable[[], bool] = getattr(location, method)
    if isinstance(location, UPath):
        return retry(query, str(location))
    try:
        return query()
    except OSError:  # a name that no system has
        return False
