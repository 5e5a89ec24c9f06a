"""The types of the functions through which long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""`progress(done, total)`: called each time when more of the work is done"""

Notify = Callable[[str], None]
"""`notify(text)`: gets one line that a person may want to see"""


def no_progress(done: int, total: int) -> None:
    """A Progress for callers that show none."""


def no_notification(text: str) -> None:
    """A Notify for callers that show none."""
