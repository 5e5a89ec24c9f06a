"""The file that is submitted to a competition: every row of its sample, in that order, always filled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe.arrays import Floats
from fovsfe.photos.lists import probability_columns
from fovsfe.photos.names import PhotoNames
from fovsfe.tables import write_csv


def write_submission(
    path: Path,
    sample: pd.DataFrame | None,
    ids: Sequence[str],
    probabilities: Floats,
    class_names: Sequence[str],
    label_ids: Mapping[str, str],
    most_frequent: str,
) -> list[str]:
    """Writes a submission, and returns the ids that had no prediction and got the label `most_frequent`.

    Args:
        sample: its first column gives the rows and their order. If it has a column for each label, these get
            the probabilities, and those of other labels 0; else the second is replaced, and other columns
            stay. Without a sample, the columns are Id and Category and the rows are `ids`.
        ids: of the test photos.
        probabilities: (n, classes); a row of NaN for a photo that could not be read.
        label_ids: label -> what is written for it.
        most_frequent: the label of rows without a prediction; of probabilities, they get all the same.

    Ids and labels are written exactly as the sample and `label_ids` have them, because a competition compares
    them letter by letter: a label such as "=1+1" stays a formula for a spreadsheet.

    Raises:
        FovsfeError: the file cannot be written.
        ValueError: the shapes do not match.
    """
    if probabilities.shape != (len(ids), len(class_names)):
        raise ValueError(
            f"{probabilities.shape} probabilities for {len(ids)} photos of {len(class_names)} labels"
        )
    frame = pd.DataFrame({"Id": list(ids), "Category": ""}, dtype=object) if sample is None else sample.copy()
    rows = frame.iloc[:, 0].tolist()
    meant = PhotoNames(ids).find_all(rows)  # a sample may name a photo in several spellings
    predicted = {photo: row for photo, row in zip(ids, probabilities, strict=True) if np.isfinite(row).all()}
    found = [next((predicted[photo] for photo in meant[name] if photo in predicted), None) for name in rows]
    columns = probability_columns(list(frame.columns), dict(label_ids))
    if columns is None:
        most_likely = [most_frequent if row is None else class_names[int(row.argmax())] for row in found]
        frame[frame.columns[1]] = [label_ids[label] for label in most_likely]
    else:
        same = np.full(len(class_names), 1 / len(class_names))
        filled = np.array([same if row is None else row for row in found]).reshape(-1, len(class_names))
        for column in frame.columns[1:]:
            labels = [at for at, label in enumerate(class_names) if columns[label] == column]
            frame[column] = filled[:, labels].sum(axis=1)
    write_csv(path, frame)
    return [name for name, row in zip(rows, found, strict=True) if row is None]
