"""Predictions as a table and as a CSV file, which gives every float64 back to the bit."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe.arrays import Floats
from fovsfe.errors import FovsfeError
from fovsfe.tables import write_csv


def predictions_frame(ids: Sequence[str], class_names: Sequence[str], probabilities: Floats) -> pd.DataFrame:
    """Returns (n, classes) probabilities as a table: the index holds the photos' ids, each label is a column.

    Raises ValueError if ids or labels repeat, the shapes do not match or a number is not finite.
    """
    if len(set(ids)) != len(ids) or len(set(class_names)) != len(class_names):
        raise ValueError("a table of predictions needs unique ids and unique labels")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not a finite number")
    values = np.asarray(probabilities, dtype=np.float64)
    return pd.DataFrame(
        values, index=pd.Index(list(ids), name="id", dtype="object"), columns=list(class_names)
    )


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Writes a `predictions_frame` as CSV: a column id, and one for each label.

    Raises FovsfeError if the file cannot be written.
    """
    write_csv(path, frame.reset_index(names="id", allow_duplicates=True))


def read_predictions(path: Path) -> pd.DataFrame:
    """Returns what `write_predictions` wrote, to the bit.

    Raises FovsfeError if the file cannot be read or is not a table of predictions.
    """
    remedy = "remove it and run `fovsfe resume`"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
        if header[:1] != ["id"] or len(header) < 2:
            raise FovsfeError(
                f"{path} is not a table of predictions: its first line is not id,LABEL,...; {remedy}"
            )
        # numbered columns: a label may be called "id" too, and pandas would rename it
        columns = range(len(header))
        frame = pd.read_csv(
            path,
            header=0,
            names=list(columns),
            dtype=str,
            index_col=False,
            keep_default_na=False,
        )
        # numpy turns text into the nearest float64; what pandas does by itself depends on its version
        values = frame[list(columns[1:])].to_numpy(dtype=object).astype(np.float64)
        return predictions_frame(frame[0].tolist(), header[1:], values)
    except (ValueError, OSError) as error:
        raise FovsfeError(f"cannot read the predictions in {path}: {error}; {remedy}") from error


def stack_predictions(frames: Sequence[pd.DataFrame]) -> Floats:
    """Returns the predictions of several members for the same photos as float64 (members, n, classes).

    Raises ValueError if their ids or labels differ, or are in another order.
    """
    first = frames[0]
    for index, frame in enumerate(frames):
        if not frame.index.equals(first.index) or list(frame.columns) != list(first.columns):
            raise ValueError(f"table {index} of predictions has other photos or labels than the first")
    return np.stack([frame.to_numpy(dtype=np.float64) for frame in frames])
