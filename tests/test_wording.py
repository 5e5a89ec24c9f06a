"""wording: one thing is singular, and any other number of them plural."""

import pytest

from fovsfe.wording import counted


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos"), (12345, "12,345 photos")]
)
def test_a_count_in_words(count, words):
    assert counted(count, "photo") == words


def test_what_several_are_called():
    assert counted(1, "list that is", "lists that are") == "1 list that is"
    assert counted(3, "list that is", "lists that are") == "3 lists that are"
