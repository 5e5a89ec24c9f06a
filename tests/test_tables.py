"""tables: what was written is read, and what people open has no formulas."""

import csv

import pandas as pd

from fovsfe.tables import plain_texts, write_csv

FRAME = pd.DataFrame({"id": ["=1+1", "a\rb", "a,b", 'q"\n"', "'@x"], "number": [-1, 0, 1, 2, 3]})


def read(file):
    return pd.read_csv(file, dtype={"id": str}, keep_default_na=False)


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_csv(tmp_path / "a.csv", FRAME)
    pd.testing.assert_frame_equal(read(tmp_path / "a.csv"), FRAME, check_dtype=False)
    write_csv(tmp_path / "b.csv", FRAME.iloc[[0, 2]])
    assert (tmp_path / "b.csv").read_text() == 'id,number\n=1+1,-1\n"a,b",1\n'


def test_a_table_for_people_has_no_formula_and_gives_its_texts_back(tmp_path):
    write_csv(tmp_path / "a.csv", FRAME, for_people=True)
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["'=1+1", "a\rb", "a,b", 'q"\n"', "''@x"]
    pd.testing.assert_frame_equal(plain_texts(read(tmp_path / "a.csv")), FRAME, check_dtype=False)
