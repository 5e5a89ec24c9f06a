"""The nearest word to a mistyped one."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns 'did you mean "..."? ' with the nearest of the choices, or "" if none is near."""
    for nearest in difflib.get_close_matches(word, list(choices), n=1):
        return f'did you mean "{nearest}"? '
    return ""
