"""escaping: names from outside are shown, and neither obeyed by a terminal nor run by a spreadsheet."""

import csv
import io
import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from fovsfe.escaping import csv_row, from_cell, to_cell, visible, visible_json

TEXT = st.text(st.characters(blacklist_characters="\0"), max_size=30)
BEGINNINGS = st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n", "'", "''", "'=", "＝", '"'])


def test_a_control_character_is_shown():
    assert visible("a\x1b[31m\x07b\nc\u202ed\x9be\udcff") == r"a\x1b[31m\x07b\nc\u202ed\x9be\udcff"
    assert visible("ВАЗ-2109, é\t写真 😀") == "ВАЗ-2109, é\t写真 😀"


@given(TEXT)
def test_any_text_is_one_line_that_can_be_printed(text):
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert all(unicodedata.category(letter) not in ("Cc", "Cs") or letter == "\t" for letter in shown)


@given(TEXT)
def test_json_stays_the_same(text):
    document = json.dumps({text: [text]}, ensure_ascii=False)
    assert json.loads(visible_json(document)) == {text: [text]}
    assert not any("\x7f" <= letter <= "\x9f" for letter in visible_json(document))


@given(BEGINNINGS, TEXT)
def test_no_cell_is_a_formula_and_each_gives_its_text_back(beginning, text):
    cell = to_cell(beginning + text)
    assert from_cell(cell) == beginning + text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


@given(st.lists(st.builds(str.__add__, BEGINNINGS, TEXT), min_size=1, max_size=4))
def test_a_row_gives_its_texts_back(texts):
    (row,) = csv.reader(io.StringIO(csv_row(texts), newline=""))
    assert [from_cell(cell) for cell in row] == texts


def test_numbers_stay_numbers():
    assert csv_row(["a", -0.5, "-0.5", None]) == "a,-0.5,'-0.5,\n"
