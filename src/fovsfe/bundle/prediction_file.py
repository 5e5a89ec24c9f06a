"""Answers as CSV or JSON lines: one row a photo, written as they come, continued where a file has some."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fovsfe.bundle.predictor import Prediction
from fovsfe.errors import FovsfeError, WrongUsage

SUFFIXES = (".csv", ".jsonl")


class PredictionFile:
    """Where answers go. `done` are the photos that were there at the beginning."""

    def __init__(
        self, file: BinaryIO, name: str, as_json: bool, class_names: Sequence[str], top: int
    ) -> None:
        self.done: set[str] = set()
        self._file, self._name, self._as_json, self._labels = file, name, as_json, class_names
        self._top = min(top, len(class_names))

    def write(self, photo: str, answer: Prediction) -> None:
        """Adds a row. Raises FovsfeError where it cannot be written."""
        top = top_labels(answer, self._labels, self._top)
        if self._as_json:
            each = [{"label": label, "probability": probability} for label, probability in top]
            row = {"photo": photo, "label": top[0][0], "known": answer.known, "top": each}
            self._put(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            pairs = [cell for pair in top for cell in pair]
            self._put(csv_row([photo, "yes" if answer.known else "no", *pairs]))

    def begin(self) -> None:
        """The header, where there is one."""
        if not self._as_json:
            self._put(self._header)

    def go_on(self) -> None:
        """Goes to the end of the rows that are there; half a row at the end, of a full disk, is cut off."""
        whole = 0
        for each in self._file:
            if not each.endswith(b"\n"):
                break
            text = each.decode(errors="surrogateescape")
            if whole == 0 and not self._as_json and text != self._header:
                raise FovsfeError(
                    f"{self._name} is there and has other columns than are asked for; choose another --out"
                )
            if whole or self._as_json:
                self.done.add(self._photo(text))
            whole += len(each)
        self._file.seek(whole)
        self._file.truncate()
        if whole == 0:
            self.begin()

    @property
    def _header(self) -> str:
        return csv_row(column_names(self._top))

    def _photo(self, line: str) -> str:
        try:
            return str(json.loads(line)["photo"] if self._as_json else next(csv.reader([line]))[0])
        except (ValueError, LookupError, TypeError, csv.Error, StopIteration) as error:
            raise FovsfeError(
                f"{self._name} is there and holds other than answers; choose another --out"
            ) from error

    def _put(self, text: str) -> None:
        try:
            self._file.write(text.encode(errors="surrogateescape"))
            self._file.flush()  # a row at a time: whatever ends this leaves whole rows
        except OSError as error:
            raise FovsfeError(f"cannot write {self._name}: {error.strerror or error}") from error


@contextmanager
def open_prediction_file(out: Path | None, class_names: Sequence[str], top: int) -> Iterator[PredictionFile]:
    """Rows with the `top` likeliest labels, to a file, whose rows are kept, or as CSV to standard output.

    Raises:
        WrongUsage: `out` ends neither in .csv nor in .jsonl.
        FovsfeError: it cannot be written, or holds something else.
    """
    if out is None:
        rows = PredictionFile(sys.stdout.buffer, "standard output", False, class_names, top)
        rows.begin()
        yield rows
        return
    if out.suffix.lower() not in SUFFIXES:
        raise WrongUsage(f"--out {out}: its name ends in {' or '.join(SUFFIXES)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
        file = out.open("r+b")
    except OSError as error:
        raise FovsfeError(f"cannot write {out}: {error.strerror or error}") from error
    with file:
        rows = PredictionFile(file, str(out), out.suffix.lower() == ".jsonl", class_names, top)
        rows.go_on()
        yield rows


def column_names(top: int) -> list[str]:
    """The names of a table's columns."""
    more = [f"{name}_{k}" for k in range(2, top + 1) for name in ("label", "probability")]
    return ["photo", "known", "label", "probability", *more]


def top_labels(answer: Prediction, class_names: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The `top` likeliest labels with their probabilities, six digits of each."""
    order = answer.probabilities.argsort()[::-1][:top]
    return [(class_names[label], float(f"{answer.probabilities[label]:.6g}")) for label in order]


def csv_row(cells: Sequence[object]) -> str:
    """One CSV row. A name with a line break in it gets a blank there, so that a row stays one line."""
    text = io.StringIO()
    flat = [" ".join(cell.splitlines()) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(text, lineterminator="\n").writerow(flat)
    return text.getvalue()
