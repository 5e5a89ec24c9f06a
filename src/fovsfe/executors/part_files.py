"""Answers as a table in parts: files of thousands of rows, in a folder or at a URL; no half ones."""

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from fovsfe.bundle.prediction_file import column_names, csv_row, top_labels
from fovsfe.bundle.predictor import Prediction
from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.storage.locations import as_path, exists, is_url
from fovsfe.storage.transfer import upload

SUFFIXES = (".csv", ".parquet")
ROWS = 10_000  # of a part

Row = list[Any]


class PartWriter:
    """One row a photo: the columns of `prediction_file`, and `fault`, why a photo has no answer.

    `faults` counts the photos without an answer, those of earlier sessions too.
    """

    def __init__(self, out: str, class_names: Sequence[str], top: int) -> None:
        self.faults = 0
        self._place = as_path(out)
        self._suffix = Path(out.rstrip("/")).suffix.lower()
        self._labels, self._top = class_names, min(top, len(class_names))
        self._columns = [*column_names(self._top), "fault"]
        self._rows: list[Row] = []
        self._done: set[str] = set()
        self._number = 0

    def go_on(self) -> None:
        """Takes note of the parts that are there. Raises FovsfeError where they are of another table."""
        there: list[Any] = list(self._place.glob(f"part-*{self._suffix}")) if exists(self._place) else []
        for file in sorted(there, key=str):
            try:
                photos, faults = self._read(file)
            except (OSError, ValueError, LookupError, UnicodeDecodeError, pa.ArrowException) as error:
                raise FovsfeError(
                    f"{file} holds other than these answers ({error}); choose another --out"
                ) from error
            self._done.update(photos)
            self.faults += sum(bool(fault) for fault in faults)
            self._number = 1 + int(file.stem.removeprefix("part-"))

    def has(self, photo: str) -> bool:
        """Whether the photo has its row."""
        return _written(photo) in self._done

    def write(self, photo: str, answer: Prediction) -> None:
        """A row with an answer. Raises FovsfeError where the part that it fills cannot be written."""
        cells = [cell for pair in top_labels(answer, self._labels, self._top) for cell in pair]
        self._add(photo, [answer.known, *cells, ""])

    def write_fault(self, photo: str, fault: str) -> None:
        """A row without one."""
        self.faults += 1
        self._add(photo, [*[None] * (len(self._columns) - 2), fault])

    def flush(self) -> None:
        """Writes what is left as a part. Raises FovsfeError where it cannot be written."""
        if not self._rows:
            return
        name = f"part-{self._number:06}{self._suffix}"
        with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
            self._dump(Path(folder) / name)
            upload(Path(folder) / name, self._place / name)
        self._rows, self._number = [], self._number + 1

    def _add(self, photo: str, cells: Row) -> None:
        self._rows.append([_written(photo), *cells])
        if len(self._rows) == ROWS:
            self.flush()

    def _dump(self, file: Path) -> None:
        if self._suffix == ".csv":
            known = {None: "", True: "yes", False: "no"}
            rows = ([row[0], known[row[1]], *row[2:]] for row in self._rows)
            text = "".join(csv_row(row) for row in [self._columns, *rows])
            file.write_text(text, encoding="utf-8", newline="")
            return
        kinds = {"known": pa.bool_(), **{f"probability{n}": pa.float64() for n in _endings(self._top)}}
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in self._columns])
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(zip(*self._rows, strict=True), schema, strict=True)
        ]
        parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), file)

    def _read(self, file: Any) -> tuple[list[str], list[str]]:
        data = file.read_bytes()
        if self._suffix == ".csv":
            header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
            photos, faults = [row[0] for row in rows], [row[-1] for row in rows]
        else:
            table = parquet.read_table(pa.BufferReader(data))
            header = table.column_names
            photos, faults = table["photo"].to_pylist(), table["fault"].to_pylist()
        if header != self._columns:
            raise ValueError("it has other columns")
        return photos, faults


@contextmanager
def open_parts(out: str, class_names: Sequence[str], top: int) -> Iterator[PartWriter]:
    """The table at `out`, whose parts are kept; what came in is written, however the block ends.

    Raises:
        WrongUsage: `out` ends neither in .csv nor in .parquet.
        FovsfeError: it cannot be written, or holds something else.
    """
    if Path(out.rstrip("/")).suffix.lower() not in SUFFIXES:
        raise WrongUsage(f"--out {out}: with --cluster, a folder of parts, named {' or '.join(SUFFIXES)}")
    parts = PartWriter(out, class_names, top)
    if not is_url(out) and Path(out).is_file():
        raise FovsfeError(f"{out} is a file; with --cluster, --out is a folder of parts: choose another")
    parts.go_on()
    try:
        yield parts
    finally:
        parts.flush()


def _endings(top: int) -> list[str]:
    return ["", *(f"_{k}" for k in range(2, top + 1))]


def _written(photo: str) -> str:
    """A photo's name as it stands in the table: in one line, and without bytes that are no UTF-8."""
    return " ".join(os.fsencode(photo).decode("utf-8", "backslashreplace").splitlines())
