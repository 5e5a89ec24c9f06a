"""Writes predictions as a table in parts: whole files of 10,000 rows, in a folder or at a URL."""

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

from fovsfe.bundle.prediction_file import LabelSet, column_names, require_bundle, set_cell, top_labels
from fovsfe.bundle.predictor import Prediction
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.escaping import csv_row, from_cell
from fovsfe.files import write_text
from fovsfe.photos.reader import read_text
from fovsfe.storage.locations import as_path, exists, is_url
from fovsfe.storage.transfer import upload

SUFFIXES = (".csv", ".parquet")
BUNDLE_FILE = "_bundle"  # readers of a folder of parts pass over what begins with "_"
ROWS_PER_PART = 10_000

Row = list[Any]


class PartWriter:
    """Writes one row per photo: the columns of `prediction_file`, and `fault`, why it has no prediction.

    `faults` counts the photos without a prediction, those of earlier sessions too.
    """

    def __init__(self, out: str, class_names: Sequence[str], top: int, label_set: LabelSet | None) -> None:
        self.faults = 0
        self._label_set = label_set
        self._location = as_path(out)
        self._suffix = Path(out.rstrip("/")).suffix.lower()
        self._labels, self._top = class_names, min(top, len(class_names))
        self._columns = [*column_names(self._top, label_set is not None), "fault"]
        self._rows: list[Row] = []
        self._done: set[str] = set()
        self._number = 0

    def load_existing_parts(self, bundle: str) -> None:
        """Reads which photos have their row already, to resume after the last part.

        Without parts, it writes the fingerprint of the bundle whose rows will follow. Raises FovsfeError if
        the parts are of another bundle or another table.
        """
        location = self._location
        files: list[Any] = list(location.glob(f"part-*{self._suffix}")) if exists(location) else []
        if files:
            require_bundle(read_text(location / BUNDLE_FILE), bundle, str(location))
        else:
            with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
                write_text(Path(folder) / BUNDLE_FILE, f"{bundle}\n")
                upload(Path(folder) / BUNDLE_FILE, location / BUNDLE_FILE)
        for file in sorted(files, key=str):
            try:
                photos, faults = self._read(file)
            except (OSError, ValueError, LookupError, UnicodeDecodeError, pa.ArrowException) as error:
                raise FovsfeError(
                    f"{file} holds something other than these predictions ({error}); choose another --out"
                ) from error
            self._done.update(photos)
            self.faults += sum(bool(fault) for fault in faults)
            self._number = 1 + int(file.stem.removeprefix("part-"))

    def has(self, photo: str) -> bool:
        """Returns whether the photo had its row when the table was opened."""
        return _name_in_table(photo) in self._done

    def write(self, photo: str, prediction: Prediction) -> None:
        """Adds a row with a prediction. Raises FovsfeError if it completes a part that cannot be written."""
        cells: Row = [cell for pair in top_labels(prediction, self._labels, self._top) for cell in pair]
        if self._label_set is not None:
            cells.append(set_cell(self._label_set(prediction.probabilities)))
        self._add(photo, [prediction.known, *cells, ""])

    def write_fault(self, photo: str, fault: str) -> None:
        """Adds a row of a photo that cannot be read. Raises FovsfeError as `write` does."""
        self.faults += 1
        self._add(photo, [*[None] * (len(self._columns) - 2), fault])

    def flush(self) -> None:
        """Writes the remaining rows as a part. Raises FovsfeError if it cannot be written."""
        if not self._rows:
            return
        name = f"part-{self._number:06}{self._suffix}"
        with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
            self._dump(Path(folder) / name)
            upload(Path(folder) / name, self._location / name)
        self._rows, self._number = [], self._number + 1

    def _add(self, photo: str, cells: Row) -> None:
        self._rows.append([_name_in_table(photo), *cells])
        if len(self._rows) == ROWS_PER_PART:
            self.flush()

    def _dump(self, file: Path) -> None:
        if self._suffix == ".csv":
            known = {None: "", True: "yes", False: "no"}
            rows = ([row[0], known[row[1]], *row[2:]] for row in self._rows)
            text = "".join(csv_row(row) for row in [self._columns, *rows])
            file.write_text(text, encoding="utf-8", newline="")
            return
        schema = pa.schema([(name, _parquet_type(name)) for name in self._columns])
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(zip(*self._rows, strict=True), schema, strict=True)
        ]
        parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), file)

    def _read(self, file: Any) -> tuple[list[str], list[str]]:
        data = file.read_bytes()
        if self._suffix == ".csv":
            header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
            photos, faults = [from_cell(row[0]) for row in rows], [row[-1] for row in rows]
        else:
            table = parquet.read_table(pa.BufferReader(data))
            header = table.column_names
            photos, faults = table["photo"].to_pylist(), table["fault"].to_pylist()
        if header != self._columns:
            raise ValueError("it has other columns")
        return photos, faults


@contextmanager
def open_parts(
    out: str, bundle: str, class_names: Sequence[str], top: int, label_set: LabelSet | None = None
) -> Iterator[PartWriter]:
    """Opens the table at `out` and keeps its parts; however the block ends, all its rows are written.

    Args:
        out: a folder or URL whose name ends in .csv or .parquet.
        bundle: the fingerprint of the bundle that predicts; it stands in a file of the folder.
        class_names: the labels.
        top: how many of the most likely labels a row has.
        label_set: as `Bundle.label_set_at` returns it; None for a table without sets.

    Raises:
        UsageError: `out` ends neither in .csv nor in .parquet.
        FovsfeError: the table cannot be written, or `out` holds rows of another bundle or something else.
    """
    if Path(out.rstrip("/")).suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: with --cluster, the name must end in {' or '.join(SUFFIXES)}")
    parts = PartWriter(out, class_names, top, label_set)
    if not is_url(out) and Path(out).is_file():
        raise FovsfeError(f"{out} is a file; with --cluster, --out is a folder of parts: choose another")
    parts.load_existing_parts(bundle)
    try:
        yield parts
    finally:
        parts.flush()


def _parquet_type(column: str) -> pa.DataType:
    if column == "known":
        return pa.bool_()
    return pa.float64() if column.startswith("probability") else pa.string()


def _name_in_table(photo: str) -> str:
    """Returns a photo's name as the table has it: bytes that are not UTF-8 are escaped."""
    return os.fsencode(photo).decode("utf-8", "backslashreplace")
