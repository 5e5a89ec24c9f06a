"""Rows are whole, photos may have any name, and a file that has rows is resumed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fovsfe.bundle.prediction_file import PredictionFile, open_prediction_file
from fovsfe.bundle.predictor import Prediction
from fovsfe.errors import FovsfeError, UsageError

BUNDLE = "a1"  # its fingerprint
LABELS = ("ВАЗ-2109", 'a,"b"', "Ford")
PREDICTION = Prediction(np.array([0.25, 0.6, 0.15]), True, (None,))
UNKNOWN = Prediction(np.array([0.3, 0.3, 0.4]), False, (None,))
NAMES = ["a.jpg", 'b, "c".jpg', "папка/é.jpg", "\udcff.jpg", " ", "#", "x" * 5000]


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as text:
        return list(csv.DictReader(text))


def test_csv(tmp_path: Path) -> None:
    with open_prediction_file(tmp_path / "deep" / "a.csv", BUNDLE, LABELS, 2) as rows:
        for name in NAMES:
            rows.write(name, PREDICTION)
        rows.write("last", UNKNOWN)
    table = read(tmp_path / "deep" / "a.csv")
    assert [row["photo"] for row in table] == [*NAMES, "last"]
    assert table[0] == {
        "photo": "a.jpg",
        "known": "yes",
        "label": 'a,"b"',
        "probability": "0.6",
        "label_2": "ВАЗ-2109",
        "probability_2": "0.25",
    }
    assert (table[-1]["label"], table[-1]["known"]) == ("Ford", "no")


def test_json_lines(tmp_path: Path) -> None:
    with open_prediction_file(tmp_path / "a.jsonl", BUNDLE, LABELS, 9) as rows:
        for name in NAMES:
            rows.write(name, PREDICTION)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    each = [json.loads(line) for line in lines]
    assert [row["photo"] for row in each] == NAMES
    assert each[0]["known"] is True and each[0]["label"] == 'a,"b"'
    assert [part["probability"] for part in each[0]["top"]] == [0.6, 0.25, 0.15]


def test_label_sets(tmp_path: Path) -> None:
    """In CSV they are JSON, as a label may hold any character."""

    def label_set(probabilities: np.ndarray) -> list[str]:
        return [LABELS[i] for i in np.argsort(-probabilities)[:2]]

    for name in ("a.csv", "a.jsonl"):
        with open_prediction_file(tmp_path / name, BUNDLE, LABELS, 1, label_set=label_set) as rows:
            rows.write("a.jpg", PREDICTION)
    assert json.loads(read(tmp_path / "a.csv")[0]["set"]) == ['a,"b"', "ВАЗ-2109"]
    assert json.loads((tmp_path / "a.jsonl").read_text("utf-8"))["set"] == ['a,"b"', "ВАЗ-2109"]
    with (
        pytest.raises(FovsfeError, match="other columns"),
        open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1),
    ):
        pass


def test_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_prediction_file(None, BUNDLE, LABELS, 1) as rows:
        rows.write("a.jpg", PREDICTION)
        assert capsysbinary.readouterr().out.splitlines() == [
            b"photo,known,label,probability",
            b'a.jpg,yes,"a,""b""",0.6',
        ]


def test_json_lines_on_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_prediction_file(None, BUNDLE, LABELS, 1, as_json=True) as rows:
        rows.write("a.jpg", PREDICTION)
        (line,) = capsysbinary.readouterr().out.splitlines()
    assert json.loads(line) == {
        "photo": "a.jpg",
        "label": 'a,"b"',
        "known": True,
        "top": [{"label": 'a,"b"', "probability": 0.6}],
    }


@pytest.mark.parametrize("name", ["a.csv", "a.JSONL"])
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_resumes(tmp_path: Path, name: str, cut: int) -> None:
    """After any end: half a row is written anew, and no row is there twice."""
    file = tmp_path / name
    with open_prediction_file(file, BUNDLE, LABELS, 2) as rows:
        assert rows.done == set()
        for photo in NAMES:
            rows.write(photo, PREDICTION)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - cut])
    with open_prediction_file(file, BUNDLE, LABELS, 2) as rows:
        assert rows.done == set(NAMES[:-1] if cut else NAMES)
        for photo in NAMES:
            if photo not in rows.done:
                rows.write(photo, PREDICTION)
    assert file.read_bytes() == whole


def test_a_row_can_be_read_before_the_next(tmp_path: Path) -> None:
    with open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1) as rows:
        rows.write("a.jpg", PREDICTION)
        assert len(read(tmp_path / "a.csv")) == 1


WILD = st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=20)
FORMULAS = st.builds(
    str.__add__, st.sampled_from(["=", "+", "-", "@", "\t", "\r", "'", "'=", '"', "\n"]), WILD
)


@given(st.lists(WILD | FORMULAS, max_size=5, unique=True), st.integers(0, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_has_its_row_when_resumed_and_is_no_formula(
    tmp_path: Path, photos: list[str], cut: int
) -> None:
    photos = [name.encode(errors="ignore").decode() for name in photos]
    photos = list(dict.fromkeys(name for name in photos if name))
    for file in (tmp_path / "a.csv", tmp_path / "a.jsonl"):
        file.unlink(missing_ok=True)
        with open_prediction_file(file, BUNDLE, ("=1+1", "-2", "+x"), 3) as rows:
            for photo in photos:
                rows.write(photo, PREDICTION)
        whole = file.read_bytes()
        with open_prediction_file(file, BUNDLE, LABELS, 3) as rows:
            assert rows.done == set(photos)
        file.write_bytes(whole[: len(whole) - cut])
        with open_prediction_file(file, BUNDLE, ("=1+1", "-2", "+x"), 3) as rows:
            for photo in photos:
                if not rows.has(photo):
                    rows.write(photo, PREDICTION)
        assert file.read_bytes() == whole
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as text:
        cells = [cell for row in csv.reader(text) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_a_terminal_does_not_obey_what_stands_in_a_name(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with open_prediction_file(None, BUNDLE, ("\x1b[2J", "b", "c"), 1) as rows:
        monkeypatch.setattr(rows, "_is_terminal", True)
        rows.write("a\x1b]0;b\x07\nc\udcff.jpg", PREDICTION)
    written = capsysbinary.readouterr().out
    assert b"\x1b" not in written and b"\x07" not in written and written.count(b"\n") == 2


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_name_with_a_line_break_has_its_row_when_resumed(tmp_path: Path, name: str) -> None:
    photos = ["a\nb.jpg", "c\r\nd.jpg", "\u2028e.jpg", 'q"\n".jpg']
    with open_prediction_file(tmp_path / name, BUNDLE, LABELS, 1) as rows:
        assert not any(map(rows.has, photos))
        for photo in photos:
            rows.write(photo, PREDICTION)
    with open_prediction_file(tmp_path / name, BUNDLE, LABELS, 1) as rows:
        assert all(map(rows.has, photos))
        assert not rows.has("d.jpg")


@pytest.mark.parametrize("text", ["my,own,table\n", "photo,known,label,probability,label_2,probability_2\n"])
def test_another_table_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with (
        pytest.raises(FovsfeError, match="other columns"),
        open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1),
    ):
        pass
    assert (tmp_path / "a.csv").read_text() == text


def test_a_table_that_is_spoilt_is_left_alone(tmp_path: Path) -> None:
    """A quote without its other half would make one row of all the rest, which would then be cut off."""
    with open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1) as rows:
        rows.write("a.jpg", PREDICTION)
    spoilt = (tmp_path / "a.csv").read_text() + 'b",yes,c,1\n' + "c.jpg,yes,d,1\n" * 100_000
    (tmp_path / "a.csv").write_text(spoilt)
    with (
        pytest.raises(FovsfeError, match="something other than predictions"),
        open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1),
    ):
        pass
    assert (tmp_path / "a.csv").read_text() == spoilt


@pytest.mark.parametrize("text", ["notes\n", "[1]\n", "{}\n", "3\n"])
def test_other_lines_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with (
        pytest.raises(FovsfeError, match="something other than predictions"),
        open_prediction_file(tmp_path / "a.jsonl", BUNDLE, LABELS, 1),
    ):
        pass
    assert (tmp_path / "a.jsonl").read_text() == text


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"\.csv or \.jsonl"),
        open_prediction_file(tmp_path / "a.txt", BUNDLE, LABELS, 1),
    ):
        pass
    (tmp_path / "a.csv").mkdir()
    with (
        pytest.raises(FovsfeError, match="cannot write"),
        open_prediction_file(tmp_path / "a.csv", BUNDLE, LABELS, 1),
    ):
        pass


def test_a_full_disk() -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        rows = PredictionFile(full, "full.csv", False, LABELS, 1)
        with pytest.raises(FovsfeError, match="cannot write full"):
            rows.begin()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_table_belongs_to_one_bundle(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with open_prediction_file(file, "b1", LABELS, 1) as rows:
        rows.write("a.jpg", PREDICTION)
    whole = file.read_bytes() + b'"half a row'
    file.write_bytes(whole)
    with (
        pytest.raises(
            FovsfeError, match=f"{name} has rows of another bundle or --coverage; choose another --out"
        ),
        open_prediction_file(file, "b2", LABELS, 1),
    ):
        pass
    assert file.read_bytes() == whole
    with open_prediction_file(file, "b1", LABELS, 1) as rows:
        assert rows.has("a.jpg")


def test_a_table_that_nothing_says_the_bundle_of_is_left_alone(tmp_path: Path) -> None:
    with open_prediction_file(tmp_path / "a.csv", "b1", LABELS, 1) as rows:
        rows.write("a.jpg", PREDICTION)
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    with (
        pytest.raises(FovsfeError, match="nothing says that they are of this bundle"),
        open_prediction_file(tmp_path / "b.csv", "b1", LABELS, 1),
    ):
        pass


def test_a_table_without_rows_takes_those_of_any_bundle(tmp_path: Path) -> None:
    for bundle in ("b1", "b2"):
        with open_prediction_file(tmp_path / "a.csv", bundle, LABELS, 1) as rows:
            assert rows.done == set()
    assert (tmp_path / "a.csv.bundle").read_text() == "b2\n"
