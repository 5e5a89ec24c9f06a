"""photos.manifest: what looks like a number or like nothing is text still."""

import csv

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fovsfe.errors import FovsfeError
from fovsfe.photos import manifest


def test_texts_are_read_as_they_were_written(tmp_path):
    row = {"id": "007", "path": "1.0/NA.jpg", "split": "train", "label": "NA", "group": 3, "fold": -1}
    row |= {"fault": "", "width": 640, "height": 480, "bytes": 9, "sha256": "0" * 64}
    pd.DataFrame([row], columns=manifest.COLUMNS).to_csv(tmp_path / "photos.csv", index=False)
    assert manifest.read_manifest(tmp_path / "photos.csv").to_dict("records") == [row]


WILD = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12)
FORMULAS = st.builds(
    str.__add__, st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n", "'", "'=", ","]), WILD
)


@given(st.lists(WILD | FORMULAS, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back_and_none_is_a_formula(tmp_path, texts):
    row = {"split": "train", "group": 0, "fold": -1, "fault": "", "width": 1, "height": 1}
    row |= {"bytes": 1, "sha256": "007"}
    rows = [row | {"id": text, "path": text, "label": text} for text in texts]
    manifest.write_manifest(tmp_path / "photos.csv", pd.DataFrame(rows))
    assert manifest.read_manifest(tmp_path / "photos.csv")["label"].tolist() == texts
    with (tmp_path / "photos.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["label"] for row in csv.DictReader(file)]
    assert not any(cell[:1] in tuple("=+-@\t\r\n") and cell for cell in cells)


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "photos.csv").write_bytes(b"")
    for file in (tmp_path / "photos.csv", tmp_path / "gone.csv"):
        with pytest.raises(FovsfeError, match=f"cannot read .*{file.name}"):
            manifest.read_manifest(file)
