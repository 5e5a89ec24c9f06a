"""storage.retry: a lost connection is tried again for a while, a permanent error is reported at once."""

import errno
import os
from unittest.mock import Mock

import aiohttp
import pytest
import requests
from botocore.exceptions import ClientError

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


class AzureError(Exception):
    """As azure.core.exceptions.HttpResponseError, which is not installed here."""

    __module__ = "azure.core.exceptions"

    def __init__(self, status_code):
        super().__init__("from Azure")
        self.status_code = status_code
        self.response = Mock(status_code=status_code)


class GcsError(Exception):
    """As gcsfs.retry.HttpError, which is not installed here."""

    __module__ = "gcsfs.retry"

    def __init__(self, code):
        super().__init__("from Google")
        self.code = code


def of_botocore(status):
    response = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")


def of_requests(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


def of_aiohttp(status):
    return aiohttp.ClientResponseError(Mock(real_url="http://x"), (), status=status)


@pytest.mark.parametrize("error_of", [AzureError, GcsError, of_aiohttp, of_botocore, of_requests])
@pytest.mark.parametrize(
    ("status", "tries", "message"),
    [
        (401, 1, "access is refused"),
        (403, 1, "access is refused"),
        (400, 1, "az://x: "),
        (501, 1, "az://x: "),
        (429, 2, ""),
        (503, 2, ""),
    ],
)
def test_the_status_of_a_response_decides_whatever_the_library(
    fast_retries, error_of, status, tries, message
):
    errors, tried = [error_of(status)], []

    def work():
        tried.append(1)
        if errors:
            raise errors.pop()
        return 42

    if message:
        with pytest.raises(FovsfeError, match=message):
            retry(work, "az://x")
    else:
        assert retry(work, "az://x") == 42
    assert len(tried) == tries
