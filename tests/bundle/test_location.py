"""bundle.location: a run for its bundle, and a bundle for its run."""

from pathlib import Path

import pytest
import s3fs

from fovsfe.bundle.location import find_bundle, find_run
from fovsfe.errors import FovsfeError


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As much of a run with a bundle as is looked at."""
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    (tmp_path / "run" / "arguments.json").write_text("{}")
    (tmp_path / "run" / "bundle" / "bundle.json").write_text("{}")
    return tmp_path / "run"


def test_a_run_and_its_bundle_name_each_other(run_folder: Path) -> None:
    bundle = run_folder / "bundle"
    for location in (str(run_folder), f"{run_folder}/", str(bundle)):
        assert find_bundle(location) == str(bundle)
    for location in (str(run_folder), str(bundle), f"{bundle}/"):
        assert find_run(location) == str(run_folder)


def test_at_a_url(run_folder: Path, bucket: str) -> None:
    s3fs.S3FileSystem().put(str(run_folder), f"{bucket}/run", recursive=True)
    assert find_bundle(f"{bucket}/run/") == f"{bucket}/run/bundle"
    assert find_run(f"{bucket}/run/bundle") == f"{bucket}/run"


def test_a_run_without_a_bundle(run_folder: Path) -> None:
    (run_folder / "bundle" / "bundle.json").unlink()
    with pytest.raises(
        FovsfeError, match=f"run {run_folder} has no bundle yet; .*fovsfe resume {run_folder}"
    ):
        find_bundle(str(run_folder))


def test_a_bundle_elsewhere(run_folder: Path) -> None:
    bundle = run_folder / "bundle"
    other = bundle.rename(run_folder / "other")
    with pytest.raises(FovsfeError, match="name the run"):
        find_run(str(other))
    bundle = other.rename(run_folder.parent / "bundle")
    with pytest.raises(FovsfeError, match="name the run"):
        find_run(str(bundle))


def test_neither_is_left_as_it_is(tmp_path: Path) -> None:
    for location in (str(tmp_path), str(tmp_path / "nowhere")):
        assert find_bundle(location) == find_run(location) == location
