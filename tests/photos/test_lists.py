"""photos.lists: which columns say what, however they are called."""

import pandas as pd
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.lists import (
    find_columns,
    is_probabilities,
    is_sample_name,
    probability_columns,
    read_rows,
    read_table,
)
from fovsfe.photos.names import PhotoNames
from fovsfe.photos.passed_over import GUESSED_ENCODING, POSSIBLE_GROUPS, PassedOver

NAMES = PhotoNames(f"images/{i}.jpg" for i in range(6))


def frame(header, *rows):
    return pd.DataFrame([list(map(str, row)) for row in rows], columns=header, dtype=object)


@pytest.mark.parametrize(
    ("header", "path", "label"),
    [
        (["file", "label"], "file", "label"),
        (["Image ID", "Class Name"], "Image ID", "Class Name"),
        (["id", "breed"], "id", "breed"),
        (["id_code", "diagnosis"], "id_code", "diagnosis"),
        (["what it is", "which photo"], "which photo", "what it is"),
        (["name", "label"], "name", "label"),
        (["filename", "name"], "filename", "name"),
        (["photo", "has_cactus"], "photo", "has_cactus"),
        (["image", "width", "label", "group"], "image", "label"),
    ],
)
def test_columns_by_name_or_by_what_is_in_them(header, path, label):
    rows = [[f"{i}" if name == path else "xy"[i % 2] for name in header] for i in range(6)]
    columns = find_columns(frame(header, *rows), NAMES)
    assert columns is not None and (columns.path, columns.label) == (path, (label,))


def test_a_table_of_something_else_is_no_list():
    assert find_columns(frame(["file", "label"], ["98.jpg", "a"], ["99.jpg", "b"]), NAMES) is None
    columns = find_columns(
        frame(["file", "width", "height"], *([f"{i}.jpg", 10, 20] for i in range(6))), NAMES
    )
    assert columns is not None and columns.label == ()
    beside = find_columns(frame(["file", "stars"], *([f"{i}.jpg", i % 2] for i in range(6))), NAMES, True)
    assert beside is not None and beside.label == ()


def test_one_column_for_each_label():
    cells = frame(["file", "a", "b"], *([f"{i}.jpg", i % 2, 1 - i % 2] for i in range(5)), ["5.jpg", 1, 1])
    columns = find_columns(cells, NAMES)
    assert columns is not None and columns.label == ("a", "b")
    rows = read_rows("cars.csv", cells, columns, PassedOver())
    assert [row.label for row in rows] == ["b", "a", "b", "a", "b", ""]


def test_columns_that_may_be_groups_are_named():
    cells = frame(["file", "label", "patient_id"], *([f"{i}.jpg", "ab"[i % 2], i // 2] for i in range(6)))
    columns, passed_over = find_columns(cells, NAMES), PassedOver()
    assert columns is not None and columns.group is None
    read_rows("cars.csv", cells, columns, passed_over)
    assert passed_over.examples[POSSIBLE_GROUPS] == ['"patient_id" of 3 values']


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nfile;label\n0.jpg;a, b\n1.jpg;c\n",
        'file,label\n0.jpg, "a, b"\n1.jpg, c\n\n',
        "file\tlabel\r\n0.jpg\ta, b\r\n1.jpg\tc\r\n",
        '"file";"label"\n"0.jpg";"a, b"\n1.jpg;c',
        '"what, when, where",file;label;x\n'.replace('"what, when, where",', "") + "0.jpg;a, b;\n1.jpg;c;\n",
        '[{"file": "0.jpg", "label": "a, b"}, {"file": "1.jpg", "label": "c"}]',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_the_delimiter(tmp_path, text, encoding):
    name = "cars.json" if text.startswith("[") else "cars.csv"
    (tmp_path / name).write_bytes(text.encode(encoding))
    cells = read_table(tmp_path, name, "", PassedOver())
    assert cells["file"].str.strip().tolist() == ["0.jpg", "1.jpg"]
    assert cells["label"].str.strip().tolist() == ["a, b", "c"]


def test_a_broken_byte_in_a_label_is_named_and_one_elsewhere_is_a_doubt(tmp_path):
    rows = "".join(f"{i}.jpg,Приора,ок\n" for i in range(4)).encode()
    for line, is_read in ((b"4.jpg,\xd0\x9e\xd0\xba\xd0\xb0,\xff\n", True), (b"4.jpg,\xff,x\n", False)):
        (tmp_path / "cars.csv").write_bytes(b"file,label,note\n" + rows + line)
        passed_over = PassedOver()
        cells = read_table(tmp_path, "cars.csv", "", passed_over)
        columns = find_columns(cells, NAMES)
        assert columns is not None and passed_over.counts == {GUESSED_ENCODING: 1}
        if is_read:
            assert {row.label for row in read_rows("cars.csv", cells, columns, passed_over)} == {
                "Приора",
                "Ока",
            }
        else:
            with pytest.raises(FovsfeError, match=r"row 6: 4\.jpg"):
                read_rows("cars.csv", cells, columns, passed_over)


def test_samples():
    for name in (
        "sampleSubmission.csv",
        "sample.csv",
        "sample_submission_stage_1.csv",
        "SubmissionFormat.csv",
    ):
        assert is_sample_name(name)
    assert not is_sample_name("train.csv") and not is_sample_name("cars.csv")
    assert is_probabilities(frame(["id", "a", "b"], ["1", "0.5", "0"]))
    assert not is_probabilities(frame(["id", "a", "b"], ["1", "7", "Public"]))


def test_columns_of_probabilities():
    assert probability_columns(["id", "label"], {"a": "a", "b": "b"}) is None
    assert probability_columns(["id", "label", "Usage"], {"a": "a", "b": "b"}) is None
    assert probability_columns(["id", "C7", "c0", "c9"], {"Нива": "c7", "Приора": "c0"}) == {
        "Нива": "C7",
        "Приора": "c0",
    }
    with pytest.raises(FovsfeError, match='none for "b"'):
        probability_columns(["id", "a", "c"], {"a": "a", "b": "b"})
