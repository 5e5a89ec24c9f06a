"""The nearest word to a mistyped one."""

from collections.abc import Iterable


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns 'did you mean "..."? ' with the nearest of the choices, or "" if none is near."""
    from fovsfe.validation import nearest  # loads pydantic, which only a mistyped word needs

    near = nearest(word, list(choices))
    return f'did you mean "{near}"? ' if near else ""
