"""The file that is handed in: every row the sample asks for, in its order, always filled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.predictions import write_csv


def write_submission(
    path: Path,
    sample: pd.DataFrame | None,
    ids: Sequence[str],
    probabilities: Floats,
    class_names: Sequence[str],
    label_ids: Mapping[str, str],
    most_frequent: str,
) -> list[str]:
    """Write a submission; returns the ids that had no prediction and got the label `most_frequent`.

    ids: the test photos; probabilities (n, classes), a row of NaN where a photo could not be read. The first
    column of `sample` gives the rows and their order, its second is replaced; other columns stay. Without a
    sample, the columns are Id and Category and the rows are `ids`. Labels are written as `label_ids` says.
    Raises FovsfeError where the file can not be written, ValueError where shapes differ.
    """
    if probabilities.shape != (len(ids), len(class_names)):
        raise ValueError(
            f"{probabilities.shape} probabilities for {len(ids)} photos of {len(class_names)} labels"
        )
    predicted: list[bool] = np.asarray(np.isfinite(probabilities).all(axis=1)).tolist()
    answers = {
        photo: label_ids[class_names[row.argmax()]]
        for photo, row, known in zip(ids, probabilities, predicted, strict=True)
        if known
    }
    frame = pd.DataFrame({"Id": list(ids), "Category": ""}, dtype=object) if sample is None else sample.copy()
    rows = frame.iloc[:, 0].tolist()
    frame[frame.columns[1]] = [answers.get(photo, label_ids[most_frequent]) for photo in rows]
    write_csv(path, frame)
    return [photo for photo in rows if photo not in answers]
