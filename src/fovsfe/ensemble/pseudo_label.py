"""Pseudo-labels: the ensemble's own predictions as labels of photos that have none, for training in round
2."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from fovsfe.arrays import Floats


def pseudo_labels(
    probabilities: Floats,
    ids: Sequence[str],
    class_names: Sequence[str],
    kind: Literal["all", "confident"],
    confidence: float,
    soft: bool,
) -> pd.DataFrame:
    """Returns pseudo-labels as a table: id, label (the most likely one), confidence (its probability).

    Lee 2013, "Pseudo-Label: the simple and efficient semi-supervised learning method for deep neural
    networks".

    Args:
        probabilities: (n, classes), of the photos `ids`.
        kind: "all" keeps every photo, "confident" those with a probability of at least `confidence`.
        confidence: from 0 to 1.
        soft: adds a column "p:LABEL" for every label, with its probability.
    """
    highest = probabilities.max(axis=1)
    min_probability = confidence if kind == "confident" else 0.0
    keep = np.flatnonzero(highest >= min_probability)
    predicted = probabilities[keep].argmax(axis=1)
    frame = pd.DataFrame(
        {
            "id": pd.Series([ids[row] for row in keep.tolist()], dtype=object),
            "label": pd.Series([class_names[label] for label in predicted.tolist()], dtype=object),
            "confidence": highest[keep],
        }
    )
    if soft:
        distribution = pd.DataFrame(probabilities[keep], columns=[f"p:{label}" for label in class_names])
        frame = pd.concat([frame, distribution], axis=1)
    return frame
