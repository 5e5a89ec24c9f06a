"""storage: a folder and its URL stay alike, files are whole there, and a lost connection ends nothing."""

import errno
import os
import time

import fsspec
import pytest

from fovsfe import storage
from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.storage.folders import downloaded, synced_folder, upload_on_exit
from fovsfe.storage.locations import as_path, is_url
from fovsfe.storage.retry import retry
from fovsfe.storage.transfer import upload


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(storage, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(storage, "PATIENCE", 0.3)
    monkeypatch.setattr(storage, "SECONDS_BETWEEN_LOOKS", 0.05)


@pytest.fixture(params=["s3", "file"])
def place(request, bucket, tmp_path):
    return f"{bucket}/a run" if request.param == "s3" else f"file://{tmp_path}/elsewhere/a run"


def there(url):
    """What lies at a URL: names and contents."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


# ---- places


def test_a_path_is_itself_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_path("photos") == tmp_path / "photos"
    assert not is_url("C:/photos")
    assert is_url("s3://photos")


def test_an_unknown_kind_of_url_is_named():
    with pytest.raises(WrongUsage, match="nonsense://x: no such kind of URL"):
        as_path("nonsense://x")


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    def missing(name, **options):
        raise ImportError("install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    monkeypatch.setattr(storage, "UPath", lambda place: missing(place))
    with pytest.raises(WrongUsage, match=r"pip install 'fovsfe\[gs\]'"):
        as_path("gs://bucket/photos")


# ---- patience


def test_what_fails_for_a_while_is_tried_again(hasty):
    failures, said = [ConnectionError("reset"), TimeoutError("slow")], []

    def work():
        if failures:
            raise failures.pop()
        return 42

    assert retry(work, "s3://x", said.append) == 42
    assert said == ["s3://x: connection lost (slow); trying again", "s3://x: is back"]


def test_patience_ends(hasty):
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


def test_a_fault_of_the_program_is_no_lost_connection():
    def work():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        retry(work, "s3://x")


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


def test_a_bucket_that_is_not_there_is_one_line(bucket, tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(FovsfeError, match="there is no such bucket or folder"):
        upload(tmp_path / "x", as_path("s3://no-such-bucket-at-all/x"))


def test_where_nobody_listens_it_is_tried_and_then_said(hasty, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(FovsfeError, match="cannot be reached"), synced_folder(f"{bucket}/run"):
        pass


# ---- working folders


def test_a_path_works_in_itself(tmp_path):
    with synced_folder(str(tmp_path / "run"), expected="new") as folder:
        assert folder == tmp_path / "run"


def test_what_is_written_is_put_there_while_the_block_runs(hasty, place):
    with synced_folder(place, expected="new") as folder:
        (folder / "round-1").mkdir()
        (folder / "round-1" / "checkpoint.pt").write_bytes(b"one")
        until(lambda: there(place) == {"round-1/checkpoint.pt": b"one"})
        (folder / "round-1" / "checkpoint.pt").write_bytes(b"two!")
        until(lambda: there(place) == {"round-1/checkpoint.pt": b"two!"})


def test_at_the_end_all_is_there_but_the_cache_and_unfinished_files(place):
    with pytest.raises(KeyboardInterrupt), synced_folder(place) as folder:
        (folder / "cache").mkdir()
        (folder / "cache" / "photos.bin").write_bytes(b"large")
        (folder / ".metrics.json.7.part").write_bytes(b"half")
        (folder / "metrics.json").write_bytes(b"{}")
        raise KeyboardInterrupt
    assert there(place) == {"metrics.json": b"{}"}


def test_another_machine_goes_on_and_what_it_removes_is_gone(place, tmp_path, monkeypatch):
    with synced_folder(place) as folder:
        (folder / "checkpoint.pt").write_bytes(b"state")
        (folder / "arguments.json").write_bytes(b"{}")
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "another machine"))
    with synced_folder(place, expected="existing") as folder:
        assert tmp_path / "another machine" in folder.parents
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
            "checkpoint.pt": b"state",
            "arguments.json": b"{}",
        }
        (folder / "checkpoint.pt").unlink()
        (folder / "result.json").write_bytes(b"done")
    assert there(place) == {"arguments.json": b"{}", "result.json": b"done"}


def test_an_older_copy_on_this_machine_counts_for_nothing_but_its_cache(place):
    with synced_folder(place) as folder:
        (folder / "arguments.json").write_bytes(b"old")
        (folder / "cache").mkdir()
        (folder / "cache" / "48x64.bin").write_bytes(b"pixels")
    (folder / "left.json").write_bytes(b"never put there")
    fs, root = fsspec.core.url_to_fs(place)
    fs.pipe_file(f"{root}/arguments.json", b"newer")
    with synced_folder(place) as folder:
        assert (folder / "arguments.json").read_bytes() == b"newer"
        assert not (folder / "left.json").exists()
        assert (folder / "cache" / "48x64.bin").exists()


def test_files_arrive_in_the_order_in_which_they_were_written(monkeypatch, place):
    order = []
    monkeypatch.setattr(storage, "put", lambda file, url, say: order.append(file.name))
    with synced_folder(place) as folder:
        for number, name in enumerate(["z", "checkpoint", "a"]):
            (folder / name).write_text("x")
            os.utime(folder / name, ns=(number, number))
    assert order == ["z", "checkpoint", "a"]


def test_what_is_there_is_not_overwritten_by_a_new_run(place):
    with synced_folder(place) as folder:
        (folder / "arguments.json").write_text("{}")
    refused = pytest.raises(FovsfeError, match="is not empty; go on with it: fovsfe resume")
    with refused, synced_folder(place, expected="new"):
        pass


def test_a_run_that_is_not_there_is_named(place):
    refused = pytest.raises(FovsfeError, match="is not a run: nothing is there")
    with refused, synced_folder(place, expected="existing"):
        pass


def test_a_lost_connection_does_not_end_the_work(hasty, monkeypatch, place):
    real, said, broken = storage.filesystem_of, [], [False]

    def system(url):
        if broken[0]:
            raise ConnectionError("unplugged")
        return real(url)

    monkeypatch.setattr(storage, "PATIENCE", 30.0)
    monkeypatch.setattr(storage, "system", system)
    with synced_folder(place, said.append) as folder:
        broken[0] = True
        (folder / "checkpoint.pt").write_bytes(b"state")
        until(lambda: said)
        broken[0] = False
    assert there(place) == {"checkpoint.pt": b"state"}
    assert "connection lost (unplugged); trying again" in said[0]
    assert said[-1].endswith("is back")


def test_where_it_is_never_reached_again_the_run_is_here(hasty, monkeypatch, place):
    said = []

    def gone(url):
        raise ConnectionError("unplugged")

    refused = pytest.raises(FovsfeError, match="cannot be reached")
    with refused as caught, synced_folder(place, said.append) as folder:
        monkeypatch.setattr(storage, "system", gone)
        (folder / "metrics.json").write_bytes(b"{}")
        until(lambda: any("alone" in text for text in said))
    assert str(folder) in str(caught.value)
    assert (folder / "metrics.json").exists()


def test_a_copy_that_is_ahead_is_gone_on_with_and_another_gives_way(hasty, monkeypatch, place):
    real = storage.filesystem_of

    def gone(url):
        raise ConnectionError("unplugged")

    with synced_folder(place) as folder:
        (folder / "log.jsonl").write_text("one\n")
    with pytest.raises(FovsfeError, match="goes on from there"), synced_folder(place) as folder:
        monkeypatch.setattr(storage, "system", gone)
        (folder / "log.jsonl").write_text("one\ntwo\n")
        (folder / "checkpoint.pt").write_bytes(b"state")
    monkeypatch.setattr(storage, "system", real)
    with synced_folder(place, expected="existing") as folder:
        assert (folder / "checkpoint.pt").read_bytes() == b"state"
        assert there(place)["checkpoint.pt"] == b"state"
        (folder / "log.jsonl").write_text("one\ntwo\nthree\n")
    fs, root = fsspec.core.url_to_fs(place)
    fs.pipe_file(f"{root}/log.jsonl", b"one\ntwo\nanother machine\n")
    fs.rm_file(f"{root}/checkpoint.pt")
    with synced_folder(place) as folder:
        assert not (folder / "checkpoint.pt").exists()
        assert (folder / "log.jsonl").read_text() == "one\ntwo\nanother machine\n"


def test_two_processes_of_a_machine_do_not_work_on_one_run(place):
    with synced_folder(place) as folder:
        (folder / "arguments.json").write_text("{}")
        with (
            pytest.raises(FovsfeError, match="another process of this machine works on"),
            synced_folder(place),
        ):
            pass
        assert (folder / "arguments.json").exists()
    assert there(place) == {"arguments.json": b"{}"}


def test_of_a_complete_run_no_copy_is_left(place):
    with synced_folder(place) as folder:
        (folder / "metrics.json").write_text("{}")
    assert not folder.exists()
    with synced_folder(place, expected="existing") as folder:
        assert (folder / "metrics.json").read_text() == "{}"


def test_half_a_folder_is_not_put_there(place):
    with synced_folder(place) as folder:
        (folder / ".bundle.part" / "members").mkdir(parents=True)
        (folder / ".bundle.part" / "members" / "a.onnx").write_bytes(b"half")
    assert there(place) == {}


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, monkeypatch, bucket):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/run/arguments.json", b"{}")
    monkeypatch.setattr(type(fs), "find", lambda self, root: ["/run/arguments.json", "/run/../../evil"])
    with pytest.raises(FovsfeError, match="leads out of the folder"), downloaded("memory://run"):
        pass
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENAMETOOLONG])
def test_what_waiting_cannot_cure_is_said_at_once(code):
    tries = []

    def work():
        tries.append(1)
        raise OSError(code, os.strerror(code))

    with pytest.raises(FovsfeError, match=os.strerror(code)):
        retry(work, "s3://x")
    assert tries == [1]


# ---- folders to read and to hand in


def test_a_delivered_folder_can_be_fetched(place):
    with upload_on_exit(place) as folder:
        (folder / "members").mkdir()
        (folder / "members" / "a.onnx").write_bytes(b"network")
        (folder / "bundle.json").write_bytes(b"{}")
    with downloaded(place) as folder:
        assert (folder / "members" / "a.onnx").read_bytes() == b"network"
        assert (folder / "bundle.json").read_bytes() == b"{}"
    assert not folder.exists()


def test_where_nothing_is_nothing_is_fetched(place):
    with pytest.raises(FovsfeError, match="nothing is there"), downloaded(place):
        pass
