"""storage.locations: paths are made absolute, and a URL without its library says what to install."""

import fsspec
import pytest

from fovsfe.errors import UsageError
from fovsfe.storage import locations
from fovsfe.storage.locations import as_path, is_url


def test_a_path_is_itself_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_path("photos") == tmp_path / "photos"
    assert not is_url("C:/photos")
    assert is_url("s3://photos")


def test_an_unknown_kind_of_url_is_named():
    with pytest.raises(UsageError, match="nonsense://x: no such kind of URL"):
        as_path("nonsense://x")


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    def missing(name, **options):
        raise ImportError("install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    monkeypatch.setattr(locations, "UPath", lambda location: missing(location))
    with pytest.raises(UsageError, match=r"pip install 'fovsfe\[gs\]'"):
        as_path("gs://bucket/photos")
