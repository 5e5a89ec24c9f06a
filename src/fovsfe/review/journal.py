"""What has been decided, press by press: a file of fixes that only grows, and that one program writes."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from fovsfe.errors import FovsfeError
from fovsfe.escaping import csv_row
from fovsfe.photos.fixes import COLUMNS, Fix, decisions, read_rows, signed, write_fixes


class Stale(Exception):
    """A photo has been decided upon since it was shown."""


class Journal:
    """A file of fixes. Each decision is on disk when `press` returns; threads may use it at the same time."""

    def __init__(self, file: Path, start: Iterable[Fix] = ()) -> None:
        """Opens the file, or creates it with the fixes `start`; no other program can open it then.

        Raises FovsfeError if one has opened it, it cannot be written, or says what is no fix.
        """
        self.file = file
        self._writing = Lock()
        self._is_open = FileLock(file.with_name(f".{file.name}.lock"))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._is_open.acquire(timeout=0)
        except Timeout:
            raise FovsfeError(
                f"{file} is open in another fovsfe review; end it, or give another --fixes"
            ) from None
        except OSError as error:
            raise FovsfeError(
                f"cannot write {file}: {error.strerror or error}; give another --fixes"
            ) from error
        if file.exists():
            _mend_end(file)
            self.rows = read_rows(str(file))
            if file.read_bytes().splitlines()[:1] != [",".join(COLUMNS).encode()]:
                write_fixes(file, self.rows)  # as a spreadsheet has saved it
        else:
            self.rows = list(start)
            write_fixes(file, self.rows)
        self.decided = decisions(self.rows)
        self._presses: dict[tuple[str, str], int] = {}

    def version(self, photo: str, sha256: str) -> int:
        """Returns how many decisions about a photo this program has taken."""
        return self._presses.get((photo, sha256), 0)

    def press(self, fix: Fix, version: int) -> None:
        """Adds a decision, with who took it and when; it is on disk then.

        Args:
            fix: the decision.
            version: of the photo when it was shown.

        Raises:
            Stale: there is a later one.
            FovsfeError: the disk is full or the file gone; nothing has been added.
        """
        with self._writing:
            key = fix.id, fix.sha256
            if version != self.version(*key):
                raise Stale(self.decided[key].described() if key in self.decided else "taken back")
            fix = signed(fix)
            _append(self.file, csv_row(tuple(vars(fix).values())).encode())
            self.rows.append(fix)
            self.decided.pop(key, None)
            if fix.action != "undo":
                self.decided[key] = fix
            self._presses[key] = version + 1

    def close(self) -> None:
        """Lets other programs open the file."""
        self._is_open.release()


def _append(file: Path, row: bytes) -> None:
    """Adds a whole row at the end of a file, or nothing. Raises FovsfeError."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND)  # by name: an editor may have replaced it
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                row = b"\n" + row
            try:
                written = os.write(descriptor, row)
                if written < len(row):
                    raise OSError(None, "the disk is full")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FovsfeError(
            f"cannot write {file}: {error.strerror or error}; nothing was decided: free some space, or put it"
            " back"
        ) from error


def _mend_end(file: Path) -> None:
    """Removes a last row that is cut off: the machine went down while it was written."""
    data = file.read_bytes()
    if not data or data.endswith(b"\n"):
        return
    end = data.rfind(b"\n") + 1
    last = data[end:].decode("utf-8", "replace")
    if len(next(csv.reader([last]), [])) < len(COLUMNS) and end and data.startswith(b"id,"):
        with file.open("r+b") as opened:
            opened.truncate(end)
