"""The file that is submitted to a competition: every row of its sample, in that order, always filled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe.arrays import Floats
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
        sample: its first column gives the rows and their order; its second is replaced; other columns stay.
            Without a sample, the columns are Id and Category and the rows are `ids`.
        ids: of the test photos.
        probabilities: (n, classes); a row of NaN for a photo that could not be read.
        label_ids: label -> what is written for it.
        most_frequent: the label of rows without a prediction.

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
    predicted = {
        photo: label_ids[class_names[row.argmax()]]
        for photo, row in zip(ids, probabilities, strict=True)
        if np.isfinite(row).all()
    }
    frame = pd.DataFrame({"Id": list(ids), "Category": ""}, dtype=object) if sample is None else sample.copy()
    rows = frame.iloc[:, 0].tolist()
    frame[frame.columns[1]] = [predicted.get(photo, label_ids[most_frequent]) for photo in rows]
    write_csv(path, frame)
    return [photo for photo in rows if photo not in predicted]
