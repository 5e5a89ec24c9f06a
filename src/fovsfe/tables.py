"""Tables as CSV files, which are written whole or not at all."""

import csv
from pathlib import Path

import pandas as pd

from fovsfe.escaping import from_cell, to_cell
from fovsfe.files import atomic_path


def write_csv(path: Path, frame: pd.DataFrame, for_people: bool = False) -> None:
    """Writes a table as CSV without its index, whole or not at all.

    Args:
        path: the file.
        frame: the table.
        for_people: whether its texts are written as `escaping.to_cell` does, so that a spreadsheet does not
            run them; `plain_texts` gives them back.

    Raises FovsfeError if that fails.
    """
    if for_people:
        frame = frame.map(lambda value: to_cell(value) if isinstance(value, str) else value)
    texts = [*map(str, frame.columns), *frame.select_dtypes(exclude="number").to_numpy().ravel()]
    # Python 3.11 leaves a carriage return without quotes, and pandas then reads it as the end of the row.
    has_return = any(isinstance(text, str) and "\r" in text for text in texts)
    with atomic_path(path) as temporary:
        frame.to_csv(
            temporary,
            index=False,
            lineterminator="\n",
            encoding="utf-8",
            quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL,
        )


def plain_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a table that was written for people with its texts as they were."""
    return frame.map(lambda value: from_cell(value) if isinstance(value, str) else value)
