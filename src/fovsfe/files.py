"""Local files that are written whole or not at all: the old content stays until the new one is complete."""

import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fovsfe.errors import FovsfeError

MISSING_STAMP = (0, 0)  # the stamp of a file that does not exist


def open_regular(file: Path) -> io.BufferedReader:
    """Opens a file for reading. A device, a pipe or a socket is not opened: reading it might never end.

    Raises OSError if there is no such file, it is none, or no file system accepts its name.
    """
    try:
        mode = file.stat().st_mode
    except ValueError as error:
        raise OSError(f"no name of a file: {error}") from error
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        raise OSError("a device, a pipe or a socket, not a file")
    # Should it have become a pipe meanwhile, opening it does not wait for a writer.
    return open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to, and renames it to `path` at the end of the block.

    If the block fails, the temporary file is removed and `path` is left as it was. Missing folders are
    created.

    Raises:
        FovsfeError: the folder cannot be written or the disk is full; `path` still holds what it held before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FovsfeError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
            " (its old content is untouched)"
        ) from error
    finally:
        # A disk that has just refused to write may refuse to delete too; the first error is to be reported.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all. Raises FovsfeError if it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Writes indented UTF-8 JSON, whole or not at all. Raises FovsfeError if it cannot be written."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON. Raises FovsfeError if the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {path}: {error}") from error


def file_stamp(file: Path) -> tuple[int, int]:
    """Returns when a file was last written (nanoseconds) and its size (bytes).

    If it does not exist, that is MISSING_STAMP.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        return MISSING_STAMP
    return status.st_mtime_ns, status.st_size
