"""Writes predictions as CSV or JSON lines, one row per photo, each at once; resumes a file that has rows."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fovsfe.arrays import Floats
from fovsfe.bundle.predictor import Prediction
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.escaping import csv_row, from_cell, visible, visible_json
from fovsfe.files import write_text

SUFFIXES = (".csv", ".jsonl")
BUNDLE_SUFFIX = ".bundle"  # of the file beside a table that says of which bundle its rows are
MAX_ROW = 2**20  # bytes; a longer row is none of a table of predictions

LabelSet = Callable[[Floats], list[str]]
"""probabilities of a photo, (classes,) -> the labels in its set, the most likely first"""


class PredictionFile:
    """A table of predictions that is being written.

    `done` holds the photos, as the table names them, whose rows were there when the file was opened.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        as_json: bool,
        class_names: Sequence[str],
        top: int,
        label_set: LabelSet | None = None,
    ) -> None:
        self.done: set[str] = set()
        self._label_set = label_set
        self._file, self._name, self._as_json, self._class_names = file, name, as_json, class_names
        self._is_terminal = file.isatty()
        self._top = min(top, len(class_names))

    def has(self, photo: str) -> bool:
        """Returns whether the photo had its row when the file was opened."""
        return photo in self.done

    def write(self, photo: str, prediction: Prediction) -> None:
        """Adds a row. Raises FovsfeError if it cannot be written."""
        top = top_labels(prediction, self._class_names, self._top)
        if self._as_json:
            labels = [{"label": label, "probability": probability} for label, probability in top]
            row = {"photo": photo, "label": top[0][0], "known": prediction.known, "top": labels}
            if self._label_set is not None:
                row["set"] = self._label_set(prediction.probabilities)
            self._write_row(visible_json(json.dumps(row, ensure_ascii=False)) + "\n")
        else:
            cells: list[str | float] = [cell for pair in top for cell in pair]
            if self._label_set is not None:
                cells.append(set_cell(self._label_set(prediction.probabilities)))
            self._write_row(csv_row([photo, "yes" if prediction.known else "no", *cells]))

    def begin(self) -> None:
        """Writes the header; JSON lines have none."""
        if not self._as_json:
            self._write_row(self._header)

    def resume(self, beside: Path, bundle: str) -> None:
        """Goes to the end of the rows that the file has; half a row at its end, of a full disk, is cut off.

        Args:
            beside: the file that says of which bundle the rows are; it is written if there are none.
            bundle: the fingerprint of the bundle whose rows will follow.

        Raises:
            FovsfeError: the file has rows of another bundle, has other columns or holds something else; it is
                left as it was.
        """
        end = 0
        for row in self._rows():
            text = row.decode(errors="surrogateescape")
            if end == 0 and not self._as_json and text != self._header:
                raise FovsfeError(f"{self._name} exists and has other columns; choose another --out")
            if end or self._as_json:
                self.done.add(self._photo_of(text))
            end += len(row)
        if self.done:
            written = beside.read_text(encoding="utf-8") if beside.is_file() else None
            require_bundle(written, bundle, self._name)
        else:
            write_text(beside, f"{bundle}\n")
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self.begin()

    def _rows(self) -> Iterator[bytes]:
        """Yields the whole rows of the file; in CSV, a row whose name has line breaks is several lines."""
        row, quotes = bytearray(), 0
        for line in self._file:
            row += line
            quotes += 0 if self._as_json else line.count(b'"')
            if not line.endswith(b"\n") or len(row) > MAX_ROW:
                break
            if quotes % 2 == 0:
                yield bytes(row)
                row.clear()
        if len(row) > MAX_ROW:
            raise self._something_else()

    @property
    def _header(self) -> str:
        return csv_row(column_names(self._top, self._label_set is not None))

    def _photo_of(self, line: str) -> str:
        try:
            if self._as_json:
                return str(json.loads(line)["photo"])
            return from_cell(next(csv.reader([line]))[0])
        except (ValueError, LookupError, TypeError, csv.Error, StopIteration) as error:
            raise self._something_else() from error

    def _something_else(self) -> FovsfeError:
        return FovsfeError(
            f"{self._name} exists and holds something other than predictions; choose another --out"
        )

    def _write_row(self, text: str) -> None:
        if self._is_terminal:
            text = f"{visible(text.removesuffix(chr(10)))}\n"
        try:
            self._file.write(text.encode(errors="surrogateescape"))
            self._file.flush()  # a row at a time: whatever ends this leaves whole rows
        except OSError as error:
            raise FovsfeError(f"cannot write {self._name}: {error.strerror or error}") from error


@contextmanager
def open_prediction_file(
    out: Path | None,
    bundle: str,
    class_names: Sequence[str],
    top: int,
    as_json: bool = False,
    label_set: LabelSet | None = None,
) -> Iterator[PredictionFile]:
    """Opens a table with the `top` most likely labels of each photo.

    Args:
        out: a .csv or .jsonl file, whose rows are kept; None for standard output.
        bundle: the fingerprint of the bundle that predicts; it stands in a file beside `out`.
        class_names: the labels.
        top: how many of the most likely labels a row has.
        as_json: JSON lines on standard output instead of CSV; a file's name says which it is.
        label_set: as `Bundle.label_set_at` returns it; None for a table without sets.

    Raises:
        UsageError: `out` ends in neither .csv nor .jsonl.
        FovsfeError: the file cannot be written, or has rows of another bundle or something else.
    """
    if out is None:
        rows = PredictionFile(sys.stdout.buffer, "standard output", as_json, class_names, top, label_set)
        rows.begin()
        yield rows
        return
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: the name must end in {' or '.join(SUFFIXES)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
        file = out.open("r+b")
    except OSError as error:
        raise FovsfeError(f"cannot write {out}: {error.strerror or error}") from error
    with file:
        is_json = out.suffix.lower() == ".jsonl"
        rows = PredictionFile(file, str(out), is_json, class_names, top, label_set)
        rows.resume(out.with_name(f"{out.name}{BUNDLE_SUFFIX}"), bundle)
        yield rows


def require_bundle(written: str | None, bundle: str, name: str) -> None:
    """Raises FovsfeError unless a table of predictions is of a bundle.

    Args:
        written: the fingerprint that was written with the table; None if there is none.
        bundle: the fingerprint of the bundle.
        name: the table's name.
    """
    if written is None or written.strip() != bundle:
        whose = (
            "of another bundle or --coverage" if written else "and nothing says that they are of this bundle"
        )
        raise FovsfeError(f"{name} has rows {whose}; choose another --out, or remove it to predict all anew")


def column_names(top: int, has_sets: bool = False) -> list[str]:
    """Returns the names of a table's columns, with `top` labels and their probabilities, and perhaps sets."""
    more = [f"{name}_{k}" for k in range(2, top + 1) for name in ("label", "probability")]
    return ["photo", "known", "label", "probability", *more, *(["set"] if has_sets else [])]


def set_cell(labels: Sequence[str]) -> str:
    """Returns a label set as one cell of a table: a JSON list, as a label may hold any character."""
    return json.dumps(labels, ensure_ascii=False)


def top_labels(prediction: Prediction, class_names: Sequence[str], top: int) -> list[tuple[str, float]]:
    """Returns the `top` most likely labels with their probabilities, to six digits."""
    order = prediction.probabilities.argsort()[::-1][:top]
    return [(class_names[label], float(f"{prediction.probabilities[label]:.6g}")) for label in order]
