"""cli.options: values that are checked in plain words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.cli.options import at_least, one_of
from fovsfe.errors import UsageError


@given(st.text())
def test_a_number_is_in_range_or_wrong_usage(text):
    try:
        value = at_least("--minutes", float, 0.5)(text)
    except UsageError as error:
        assert str(error).startswith("--minutes ")
    else:
        assert 0.5 <= value < float("inf")


def test_whole_numbers_and_numbers():
    assert at_least("--top", int, 1)("3") == 3
    assert at_least("--minutes", float, 0.5)("0.5") == 0.5
    with pytest.raises(UsageError, match=r"^--top 0: must be a whole number, 1 or more$"):
        at_least("--top", int, 1)("0")


def test_one_of_some_words():
    assert one_of("--precision", ("fp32", "int8"))("int8") == "int8"
    with pytest.raises(UsageError, match=r'^--precision int: did you mean "int8"\? it can be fp32, int8$'):
        one_of("--precision", ("fp32", "int8"))("int")
