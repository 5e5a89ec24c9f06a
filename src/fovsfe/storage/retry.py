"""Repeats calls while a connection is lost, and tells a lost connection from errors that are permanent."""

import errno
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_exponential,
    wait_random_exponential,
)

from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError

T = TypeVar("T")

RETRY_SECONDS = 600.0  # for which a lost connection is tried again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries, doubled from one to the next

# The libraries behind fsspec have no common class of errors: they are known by the names of their modules.
_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "azure"}
_CREDENTIALS = ("Credential", "Token", "Refresh", "Unauthorized", "Forbidden")  # in the names of their errors
_STATUS_NAMES = ("status", "status_code", "code")
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL}


def retry(work: Callable[[], T], location: str, notify: Notify = no_notification) -> T:
    """Returns what `work` returns; calls it again, with growing pauses, while `location` cannot be reached.

    Args:
        work: a function without arguments that may be called many times.
        location: the path or URL, for the messages.
        notify: gets a line when the connection is lost and when it is back.

    Raises:
        FovsfeError: access is refused, the error is permanent, or RETRY_SECONDS are over.
        FileNotFoundError: there is no such file; the caller knows what that means.
    """

    def notify_once(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            notify(f"{location}: connection lost ({_reason(state.outcome.exception())}); trying again")

    # Half of each pause is fixed and half is random, so that many processes do not come back all at once.
    half, longest_half = FIRST_PAUSE / 2, LONGEST_PAUSE / 2
    retrying = Retrying(
        retry=retry_if_exception(_is_temporary),
        wait=wait_exponential(half, longest_half) + wait_random_exponential(half, longest_half),
        stop=stop_before_delay(RETRY_SECONDS),
        before_sleep=notify_once,
        reraise=True,
    )
    try:
        result = retrying(work)
    except FileNotFoundError:
        raise
    except Exception as error:
        if not _is_of_storage(error):
            raise
        if _is_refusal(error):
            raise FovsfeError(
                f"{location}: access is refused ({_reason(error)}); check the credentials"
            ) from error
        if _is_temporary(error):
            raise FovsfeError(f"{location}: cannot be reached ({_reason(error)}); try again later") from error
        raise FovsfeError(f"{location}: {_reason(error)}") from error
    if retrying.statistics["attempt_number"] > 1:
        notify(f"{location}: is back")
    return result


def _is_temporary(error: BaseException) -> bool:
    """Returns whether the same call may succeed later.

    It will not after a missing file, a refusal, a full disk, an impossible path, or a request that the server
    never accepts.
    """
    if not _is_of_storage(error) or _is_refusal(error):
        return False
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | FileExistsError):
        return False
    status = _http_status(error)
    permanent = status == 501 or (400 <= status < 500 and status not in (408, 425, 429))
    return not permanent and getattr(error, "errno", None) not in _PERMANENT


def _is_of_storage(error: BaseException) -> bool:
    """Returns whether an error comes from reading or writing, and not from a mistake in the program."""
    return isinstance(error, OSError | EOFError) or _is_of_library(error)


def _is_of_library(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _is_refusal(error: BaseException) -> bool:
    about_credentials = _is_of_library(error) and any(word in type(error).__name__ for word in _CREDENTIALS)
    return isinstance(error, PermissionError) or about_credentials or _http_status(error) in (401, 403)


def _http_status(error: BaseException) -> int:
    """Returns the status of the HTTP response behind an error; 0 if there is none.

    aiohttp, gcsfs and azure give their errors an attribute, each of another name; requests and botocore keep
    the response, botocore as a dict.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    found = (getattr(each, name, None) for each in (error, response) for name in _STATUS_NAMES)
    return next((status for status in found if isinstance(status, int)), 0)


def _reason(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
