"""storage.mirror: a URL follows its local folder, and a lost connection does not end the work."""

import os

import fsspec
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.storage import mirror, retry, transfer
from fovsfe.storage.folders import downloaded, synced_folder


@pytest.fixture
def set_filesystem_of(monkeypatch):
    """Replaces `filesystem_of` wherever a file is uploaded, downloaded or removed."""

    def replace(function):
        for module in (mirror, transfer):
            monkeypatch.setattr(module, "filesystem_of", function)

    return replace


def test_what_is_written_is_uploaded_while_the_block_runs(fast_retries, location, remote_files, wait_until):
    with synced_folder(location, expected="new") as folder:
        (folder / "round-1").mkdir()
        (folder / "round-1" / "checkpoint.pt").write_bytes(b"one")
        wait_until(lambda: remote_files(location) == {"round-1/checkpoint.pt": b"one"})
        (folder / "round-1" / "checkpoint.pt").write_bytes(b"two!")
        wait_until(lambda: remote_files(location) == {"round-1/checkpoint.pt": b"two!"})


def test_files_arrive_in_the_order_in_which_they_were_written(monkeypatch, location):
    order = []
    monkeypatch.setattr(mirror, "upload", lambda file, url, notify: order.append(file.name))
    with synced_folder(location) as folder:
        for index, name in enumerate(["z", "checkpoint", "a"]):
            (folder / name).write_text("x")
            os.utime(folder / name, ns=(index, index))
    assert order == ["z", "checkpoint", "a"]


def test_half_a_folder_is_not_uploaded(location, remote_files):
    with synced_folder(location) as folder:
        (folder / ".bundle.part" / "members").mkdir(parents=True)
        (folder / ".bundle.part" / "members" / "a.onnx").write_bytes(b"half")
    assert remote_files(location) == {}


def test_a_lost_connection_does_not_end_the_work(
    fast_retries, monkeypatch, location, remote_files, wait_until, set_filesystem_of
):
    real, lines, broken = mirror.filesystem_of, [], [False]

    def unreliable(url):
        if broken[0]:
            raise ConnectionError("unplugged")
        return real(url)

    monkeypatch.setattr(retry, "RETRY_SECONDS", 30.0)
    set_filesystem_of(unreliable)
    with synced_folder(location, lines.append) as folder:
        broken[0] = True
        (folder / "checkpoint.pt").write_bytes(b"state")
        wait_until(lambda: lines)
        broken[0] = False
    assert remote_files(location) == {"checkpoint.pt": b"state"}
    assert "connection lost (unplugged); trying again" in lines[0]
    assert lines[-1].endswith("is back")


def test_where_it_is_never_reached_again_the_run_is_here(
    fast_retries, location, wait_until, set_filesystem_of
):
    lines = []

    def gone(url):
        raise ConnectionError("unplugged")

    refused = pytest.raises(FovsfeError, match="cannot be reached")
    with refused as caught, synced_folder(location, lines.append) as folder:
        set_filesystem_of(gone)
        (folder / "metrics.json").write_bytes(b"{}")
        wait_until(lambda: any("continuing in" in text for text in lines))
    assert str(folder) in str(caught.value)
    assert (folder / "metrics.json").exists()


def test_a_copy_that_is_ahead_is_continued_and_another_gives_way(
    fast_retries, location, remote_files, set_filesystem_of
):
    real = mirror.filesystem_of

    def gone(url):
        raise ConnectionError("unplugged")

    with synced_folder(location) as folder:
        (folder / "log.jsonl").write_text("one\n")
    with pytest.raises(FovsfeError, match="can be resumed from there"), synced_folder(location) as folder:
        set_filesystem_of(gone)
        (folder / "log.jsonl").write_text("one\ntwo\n")
        (folder / "checkpoint.pt").write_bytes(b"state")
    set_filesystem_of(real)
    with synced_folder(location, expected="existing") as folder:
        assert (folder / "checkpoint.pt").read_bytes() == b"state"
        assert remote_files(location)["checkpoint.pt"] == b"state"
        (folder / "log.jsonl").write_text("one\ntwo\nthree\n")
    fs, root = fsspec.core.url_to_fs(location)
    fs.pipe_file(f"{root}/log.jsonl", b"one\ntwo\nanother machine\n")
    fs.rm_file(f"{root}/checkpoint.pt")
    with synced_folder(location) as folder:
        assert not (folder / "checkpoint.pt").exists()
        assert (folder / "log.jsonl").read_text() == "one\ntwo\nanother machine\n"


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, monkeypatch, bucket):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/run/arguments.json", b"{}")
    monkeypatch.setattr(type(fs), "find", lambda self, root: ["/run/arguments.json", "/run/../../evil"])
    with pytest.raises(FovsfeError, match="leads out of the folder"), downloaded("memory://run"):
        pass
    assert not list(tmp_path.rglob("evil"))
