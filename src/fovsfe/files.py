"""Files of this machine, written whole or not at all: what was there before stays until the new one is whole."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fovsfe.errors import FovsfeError

GONE = (0, 0)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` at the end, removed on failure.

    Raises:
        FovsfeError: the folder cannot be written or the disk is full; what `path` held before is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FovsfeError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
            " (what was there before is untouched)"
        ) from error
    finally:
        # A disk that has just refused us may refuse this too; the first error is the one to report.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text whole or not at all. Raises FovsfeError where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, UTF-8, whole or not at all. Raises FovsfeError where it cannot be written."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON. Raises FovsfeError where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {path}: {error}") from error


def file_stamp(file: Path) -> tuple[int, int]:
    """When a file was written (nanoseconds) and its size (bytes); GONE where it is no more."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return GONE
    return status.st_mtime_ns, status.st_size
