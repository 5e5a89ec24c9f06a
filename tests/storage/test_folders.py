"""storage.folders: a run at a URL works in a local folder, and everything of it is at the URL in the end."""

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.storage.folders import downloaded, synced_folder, upload_on_exit


def test_missing_credentials_are_one_line(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    refused = pytest.raises(
        FovsfeError, match=r"access is refused \(.*credentials.*\); check the credentials"
    )
    with refused, synced_folder(f"{bucket}/run"):
        pass


def test_where_no_server_answers_it_is_tried_and_then_reported(fast_retries, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(FovsfeError, match="cannot be reached"), synced_folder(f"{bucket}/run"):
        pass


def test_a_path_works_in_itself(tmp_path):
    with synced_folder(str(tmp_path / "run"), expected="new") as folder:
        assert folder == tmp_path / "run"


def test_at_the_end_all_is_there_but_the_cache_and_unfinished_files(location, remote_files):
    with pytest.raises(KeyboardInterrupt), synced_folder(location) as folder:
        (folder / "cache").mkdir()
        (folder / "cache" / "photos.bin").write_bytes(b"large")
        (folder / ".metrics.json.7.part").write_bytes(b"half")
        (folder / "metrics.json").write_bytes(b"{}")
        raise KeyboardInterrupt
    assert remote_files(location) == {"metrics.json": b"{}"}


def test_another_machine_continues_and_what_it_removes_is_gone(location, tmp_path, monkeypatch, remote_files):
    with synced_folder(location) as folder:
        (folder / "checkpoint.pt").write_bytes(b"state")
        (folder / "arguments.json").write_bytes(b"{}")
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "another machine"))
    with synced_folder(location, expected="existing") as folder:
        assert tmp_path / "another machine" in folder.parents
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
            "checkpoint.pt": b"state",
            "arguments.json": b"{}",
        }
        (folder / "checkpoint.pt").unlink()
        (folder / "result.json").write_bytes(b"done")
    assert remote_files(location) == {"arguments.json": b"{}", "result.json": b"done"}


def test_an_older_copy_on_this_machine_counts_for_nothing_but_its_cache(location):
    with synced_folder(location) as folder:
        (folder / "arguments.json").write_bytes(b"old")
        (folder / "cache").mkdir()
        (folder / "cache" / "48x64.bin").write_bytes(b"pixels")
    (folder / "left.json").write_bytes(b"never put there")
    fs, root = fsspec.core.url_to_fs(location)
    fs.pipe_file(f"{root}/arguments.json", b"newer")
    with synced_folder(location) as folder:
        assert (folder / "arguments.json").read_bytes() == b"newer"
        assert not (folder / "left.json").exists()
        assert (folder / "cache" / "48x64.bin").exists()


def test_what_is_there_is_not_overwritten_by_a_new_run(location):
    with synced_folder(location) as folder:
        (folder / "arguments.json").write_text("{}")
    refused = pytest.raises(FovsfeError, match="is not empty; resume it with: fovsfe resume")
    with refused, synced_folder(location, expected="new"):
        pass


def test_a_run_that_is_not_there_is_named(location):
    refused = pytest.raises(FovsfeError, match="is not a run: nothing is there")
    with refused, synced_folder(location, expected="existing"):
        pass


def test_two_processes_of_a_machine_do_not_work_on_one_run(location, remote_files):
    with synced_folder(location) as folder:
        (folder / "arguments.json").write_text("{}")
        with (
            pytest.raises(FovsfeError, match="another process of this machine works on"),
            synced_folder(location),
        ):
            pass
        assert (folder / "arguments.json").exists()
    assert remote_files(location) == {"arguments.json": b"{}"}


COMPLETE = """
import sys
from fovsfe.storage.folders import synced_folder
with synced_folder(sys.argv[1]) as folder:
    (folder / "metrics.json").write_text("{}")
assert (folder / "metrics.json").exists()  # to be shown
print(folder)
"""


def test_of_a_complete_run_no_copy_is_left_when_the_process_ends(location):
    ended = subprocess.run(
        [sys.executable, "-c", COMPLETE, location], capture_output=True, text=True, check=True
    )
    assert not Path(ended.stdout.strip()).exists()
    with synced_folder(location, expected="existing") as folder:
        assert (folder / "metrics.json").read_text() == "{}"


def test_an_uploaded_folder_can_be_downloaded(location):
    with upload_on_exit(location) as folder:
        (folder / "members").mkdir()
        (folder / "members" / "a.onnx").write_bytes(b"network")
        (folder / "bundle.json").write_bytes(b"{}")
    with downloaded(location) as folder:
        assert (folder / "members" / "a.onnx").read_bytes() == b"network"
        assert (folder / "bundle.json").read_bytes() == b"{}"
    assert not folder.exists()


def test_a_new_folder_takes_the_place_of_an_older_one(location, remote_files):
    for member in ("a", "b"):
        with upload_on_exit(location, replaces="bundle.json") as folder:
            (folder / "members").mkdir()
            (folder / "members" / f"{member}.onnx").write_bytes(b"network")
            (folder / "bundle.json").write_bytes(member.encode())
    assert remote_files(location) == {"bundle.json": b"b", "members/b.onnx": b"network"}


def test_other_files_at_a_url_are_neither_replaced_nor_removed(location, remote_files):
    with upload_on_exit(location) as folder:
        (folder / "photo.jpg").write_bytes(b"a photo")
    refused = pytest.raises(FovsfeError, match=r"has files, but no bundle\.json")
    with refused, upload_on_exit(location, replaces="bundle.json"):
        pass
    with upload_on_exit(location) as folder:
        (folder / "index.html").write_bytes(b"a page")
    assert remote_files(location) == {"photo.jpg": b"a photo", "index.html": b"a page"}


def test_where_nothing_is_nothing_is_downloaded(location):
    with pytest.raises(FovsfeError, match="nothing is there"), downloaded(location):
        pass
