"""Locations to write to, and what lies there, for the tests of storage."""

import time

import fsspec
import pytest

from fovsfe.storage import mirror, retry


@pytest.fixture
def fast_retries(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(mirror, "POLL_SECONDS", 0.05)


@pytest.fixture(params=["s3", "file"])
def location(request, bucket, tmp_path):
    return f"{bucket}/a run" if request.param == "s3" else f"file://{tmp_path}/elsewhere/a run"


@pytest.fixture
def remote_files():
    """Returns a function that gives what lies at a URL: names and contents."""

    def read(url):
        fs, root = fsspec.core.url_to_fs(url)
        fs.invalidate_cache()
        return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}

    return read


@pytest.fixture
def wait_until():
    """Returns a function that waits until a condition holds, for at most a minute."""

    def wait(holds):
        end = time.monotonic() + 60
        while not holds() and time.monotonic() < end:
            time.sleep(0.05)
        assert holds()

    return wait
