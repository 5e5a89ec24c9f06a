"""photos.table: what looks like a number or like nothing is text still."""

import pandas as pd
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos import manifest


def test_texts_are_read_as_they_were_written(tmp_path):
    row = {"id": "007", "path": "1.0/NA.jpg", "part": "train", "label": "NA", "group": 3, "fold": -1}
    row |= {"fault": "", "width": 640, "height": 480}
    pd.DataFrame([row], columns=manifest.COLUMNS).to_csv(tmp_path / "photos.csv", index=False)
    assert manifest.read_manifest(tmp_path / "photos.csv").to_dict("records") == [row]


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "photos.csv").write_bytes(b"")
    for file in (tmp_path / "photos.csv", tmp_path / "gone.csv"):
        with pytest.raises(FovsfeError, match=f"cannot read .*{file.name}"):
            manifest.read_manifest(file)
