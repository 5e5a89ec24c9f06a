"""Tries again while a connection is lost, and tells a lost connection from what no retry mends."""

import errno
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential_jitter

from fovsfe.errors import FovsfeError

Notify = Callable[[str], None]
"""is told one line that a person may want to see"""

T = TypeVar("T")

RETRY_SECONDS = 600.0  # for which a lost connection is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubled from one to the next

_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "azure"}
_CREDENTIALS = ("Credential", "Token", "Refresh", "Unauthorized", "Forbidden")  # in the names of their errors
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL}


def retry(work: Callable[[], T], location: str, notify: Notify = lambda text: None) -> T:
    """Returns what `work` returns; tries again, with growing pauses, while `location` cannot be reached.

    Args:
        work: is called without arguments; may be called many times.
        location: the path or URL, for the messages.
        notify: is told when the connection is lost, and when it is back.

    Raises:
        FovsfeError: access is refused, the error is a permanent one, or RETRY_SECONDS are over.
        FileNotFoundError: for the caller to explain.
    """

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            notify(f"{location}: connection lost ({_reason(state.outcome.exception())}); trying again")

    retrying = Retrying(
        retry=retry_if_exception(_is_temporary),
        wait=wait_exponential_jitter(FIRST_PAUSE, LONGEST_PAUSE, jitter=FIRST_PAUSE),
        stop=stop_before_delay(RETRY_SECONDS),
        before_sleep=tell,
        reraise=True,
    )
    try:
        result = retrying(work)
    except Exception as error:
        if _is_temporary(error):
            raise FovsfeError(f"{location}: cannot be reached ({_reason(error)}); try again later") from error
        if isinstance(error, FileNotFoundError) or not _is_of_storage(error):
            raise
        if _is_refusal(error):
            raise FovsfeError(
                f"{location}: access is refused ({_reason(error)}); check the credentials"
            ) from error
        raise FovsfeError(f"{location}: {_reason(error)}") from error
    if retrying.statistics["attempt_number"] > 1:
        notify(f"{location}: is back")
    return result


def _is_temporary(error: BaseException) -> bool:
    """Whether the same call may succeed later: not a missing file, a refusal, a full disk, a path that cannot
    be, or a request that the server will never take."""
    if not _is_of_storage(error) or _is_refusal(error):
        return False
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | FileExistsError):
        return False
    status = _status(error)
    lasting = status == 501 or (400 <= status < 500 and status not in (408, 425, 429))
    return not lasting and getattr(error, "errno", None) not in _PERMANENT


def _is_of_storage(error: BaseException) -> bool:
    """The libraries behind fsspec have no common class of errors."""
    return isinstance(error, OSError | EOFError) or _is_of_a_library(error)


def _is_refusal(error: BaseException) -> bool:
    named = _is_of_a_library(error) and any(word in type(error).__name__ for word in _CREDENTIALS)
    return isinstance(error, PermissionError) or named or _status(error) in (401, 403)


def _status(error: BaseException) -> int:
    """Of an HTTP answer; 0 of other errors."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 0


def _is_of_a_library(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _reason(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
