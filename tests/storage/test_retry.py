"""storage.retry: a lost connection is tried again for a while, a permanent error is reported at once."""

import errno
import os

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.storage.retry import retry


def test_what_fails_for_a_while_is_tried_again(fast_retries):
    failures, lines = [ConnectionError("reset"), TimeoutError("slow")], []

    def work():
        if failures:
            raise failures.pop()
        return 42

    assert retry(work, "s3://x", lines.append) == 42
    assert lines == ["s3://x: connection lost (slow); trying again", "s3://x: is back"]


def test_after_a_while_it_gives_up(fast_retries):
    def work():
        raise ConnectionError("no route")

    with pytest.raises(FovsfeError, match=r"s3://x: cannot be reached \(no route\)"):
        retry(work, "s3://x")


def test_a_refusal_is_not_tried_again():
    tries = []

    def work():
        tries.append(1)
        raise PermissionError("Forbidden")

    with pytest.raises(FovsfeError, match=r"s3://x: access is refused \(Forbidden\); check the credentials"):
        retry(work, "s3://x")
    assert tries == [1]


def test_a_bug_is_no_lost_connection():
    def work():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        retry(work, "s3://x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENAMETOOLONG])
def test_a_permanent_error_is_reported_at_once(code):
    tries = []

    def work():
        tries.append(1)
        raise OSError(code, os.strerror(code))

    with pytest.raises(FovsfeError, match=os.strerror(code)):
        retry(work, "s3://x")
    assert tries == [1]
