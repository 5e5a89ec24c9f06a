"""Labels for photos that have none, out of the ensemble's own answers: what round 2 learns from."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from fovsfe.ensemble.blend import Floats


def pseudo_labels(
    probabilities: Floats,
    ids: Sequence[str],
    class_names: Sequence[str],
    kind: Literal["all", "confident"],
    confidence: float,
    soft: bool,
) -> pd.DataFrame:
    """(n, classes) of the photos `ids` -> a table: id, label (the likeliest), confidence (its probability).

    "all" keeps every photo, "confident" those with at least `confidence` (0 to 1). Where `soft`, a column
    "p:LABEL" for every label gives the whole distribution. Lee 2013, "Pseudo-Label".
    """
    highest = probabilities.max(axis=1)
    least = confidence if kind == "confident" else 0.0
    keep = np.flatnonzero(highest >= least)
    answers = probabilities[keep].argmax(axis=1)
    frame = pd.DataFrame(
        {
            "id": pd.Series([ids[row] for row in keep.tolist()], dtype=object),
            "label": pd.Series([class_names[answer] for answer in answers.tolist()], dtype=object),
            "confidence": highest[keep],
        }
    )
    if soft:
        whole = pd.DataFrame(probabilities[keep], columns=[f"p:{label}" for label in class_names])
        frame = pd.concat([frame, whole], axis=1)
    return frame
