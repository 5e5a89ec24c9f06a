"""Text of files and strangers, made harmless where it is shown: in a terminal, and in a spreadsheet."""

import csv
import io
import re
from collections.abc import Sequence

# Control characters but for tabs, which a terminal obeys; those that turn the direction of writing, so that a
# name looks like another; line breaks, which forge lines; and halves of characters, which cannot be printed.
_CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # with which a spreadsheet begins a formula
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f]")  # the control characters that JSON need not escape


def visible(text: str) -> str:
    r"""Returns a text in one line, with each control character as its escape sequence, such as \x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_json(document: str) -> str:
    """Returns the same JSON document without control characters that a terminal obeys."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def to_cell(text: str) -> str:
    """Returns a text as a cell that no spreadsheet runs as a formula: an apostrophe is put before it.

    `from_cell` gives the text back, also one that began with an apostrophe itself.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """Returns the text of which `to_cell` made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_row(cells: Sequence[object]) -> str:
    """Returns one row of CSV, its texts as `to_cell` writes them; a line break stands in quotes."""
    row = [to_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    # Python 3.11 leaves a carriage return without quotes, and then cannot read the row.
    has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
    text = io.StringIO()
    csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    ).writerow(row)
    return text.getvalue()
