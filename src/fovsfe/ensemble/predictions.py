"""A member's predictions as a file, and the predictions of many side by side."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe.ensemble.blend import Floats
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path


def predictions_frame(ids: Sequence[str], class_names: Sequence[str], probabilities: Floats) -> pd.DataFrame:
    """float (n, classes) -> a table of predictions: the index is the photos' ids, a column a label.

    Raises ValueError where ids or labels repeat, shapes differ or a number is not finite.
    """
    if len(set(ids)) != len(ids) or len(set(class_names)) != len(class_names):
        raise ValueError("a table of predictions needs unique ids and unique labels")
    if not np.isfinite(probabilities).all():
        raise ValueError("a prediction is not a finite number")
    values = np.asarray(probabilities, dtype=np.float64)
    return pd.DataFrame(
        values, index=pd.Index(list(ids), name="id", dtype="object"), columns=list(class_names)
    )


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write a `table`: columns id and one a label, every float64 so that `read` gives it back to the bit."""
    write_csv(path, frame.reset_index(names="id", allow_duplicates=True))


def read_predictions(path: Path) -> pd.DataFrame:
    """What `write` wrote. Raises FovsfeError where the file is not a table of predictions."""
    again = "remove it and run `fovsfe resume`"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
        if header[:1] != ["id"] or len(header) < 2:
            raise FovsfeError(
                f"{path} is not a table of predictions: its first line is not id,LABEL,...; {again}"
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
        raise FovsfeError(f"cannot read the predictions in {path}: {error}; {again}") from error


def stack_predictions(frames: Sequence[pd.DataFrame]) -> Floats:
    """Tables of predictions of the same photos -> float64 (members, n, classes).

    Raises ValueError where their ids or labels differ, in order too.
    """
    first = frames[0]
    for number, frame in enumerate(frames):
        if not frame.index.equals(first.index) or list(frame.columns) != list(first.columns):
            raise ValueError(f"table {number} of predictions has other photos or labels than the first")
    return np.stack([frame.to_numpy(dtype=np.float64) for frame in frames])


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all. Raises FovsfeError where that can not be."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
