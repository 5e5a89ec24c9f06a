"""photos.csv: one row a photo, as the audit and the split have left it."""

from pathlib import Path

import pandas as pd

from fovsfe.errors import FovsfeError

COLUMNS = ["id", "path", "part", "label", "group", "fold", "fault", "width", "height"]
_TEXTS = ("id", "path", "part", "label", "fault")


def read(file: Path) -> pd.DataFrame:
    """The photos of a run: COLUMNS; ids, paths, parts, labels and faults are text, however they look.

    Raises FovsfeError where the file cannot be read.
    """
    try:
        return pd.read_csv(file, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {file}: {error}") from error
