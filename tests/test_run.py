"""run: files whole or not at all, one line where they cannot be written, seconds that survive a session."""

import errno
import json
import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from fovsfe import run
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, read_json, write_json, write_text
from fovsfe.run import Run
from fovsfe.stopwatch import Stopwatch

FULL = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes the first three characters of a text and no more."""
    real = Path.write_text

    def write_some(path, text, **options):
        real(path, text[:3], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_some)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- writing


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.csv", "id,Жигули\n1,2\r\n")
    assert (tmp_path / "a" / "b" / "file.csv").read_bytes() == "id,Жигули\n1,2\r\n".encode()
    assert names(tmp_path / "a" / "b") == ["file.csv"]


def test_json_comes_back(tmp_path):
    value = {"Приора": [1, 0.1, None, True], "x": {"y": "z"}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert "Приора" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_until_the_end_the_old_file_stands(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    with atomic_path(file) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path  # a rename between disks would not be atomic
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, FovsfeError])
def test_an_interruption_passes_through_and_leaves_the_old_file(tmp_path, interruption):
    file = tmp_path / "file.txt"
    file.write_text("old")
    with pytest.raises(interruption), atomic_path(file) as temporary:
        temporary.write_text("ne")
        raise interruption
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "file.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {1, 2})
    assert read_json(tmp_path / "file.json") == 1


@needs_full_device
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("old")
    refused = pytest.raises(FovsfeError, match="No space left on device; free some space")
    with refused as caught, atomic_path(file) as temporary:
        temporary.symlink_to(FULL)
        temporary.write_text("new")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("write", [write_text, write_json])
def test_a_disk_that_fills_up_in_mid_file_leaves_no_half_file(tmp_path, full_disk, write):
    (tmp_path / "old.json").write_bytes(b"old")
    for name in ("old.json", "new.json"):
        with pytest.raises(FovsfeError, match="No space left on device"):
            write(tmp_path / name, "something long")
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_bytes() == b"old"


def test_a_disk_that_refuses_the_tidying_too_tells_of_the_first_trouble(tmp_path, full_disk, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FovsfeError, match="No space left on device"):
        write_text(tmp_path / "file.txt", "something long")


def test_an_error_without_an_errno_is_told_too(tmp_path):
    with pytest.raises(FovsfeError, match="5 requested and 0 written"), atomic_path(tmp_path / "features"):
        raise OSError("5 requested and 0 written")  # how numpy says that the disk is full


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FovsfeError, match="choose another folder"):
        write_text(tmp_path / "taken" / "file.txt", "new")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_where_the_file_should_be_is_told(tmp_path):
    (tmp_path / "file.txt" / "inner").mkdir(parents=True)
    with pytest.raises(FovsfeError, match=r"cannot write .*file\.txt"):
        write_text(tmp_path / "file.txt", "new")
    assert names(tmp_path) == ["file.txt"]


@needs_permissions
def test_an_unwritable_folder_is_told_and_left_as_it_is(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file.txt").write_text("old")
    folder.chmod(0o500)
    try:
        with pytest.raises(FovsfeError, match=r"cannot write .*Permission denied; .*another folder"):
            write_text(folder / "file.txt", "new")
        assert (folder / "file.txt").read_text() == "old"
        assert names(folder) == ["file.txt"]
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe"])
def test_json_that_is_missing_or_damaged_is_told(tmp_path, content):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FovsfeError, match=r"cannot read .*file\.json"):
        read_json(file)


# ---- the run folder


def test_every_path_of_a_run_is_its_own_and_inside(tmp_path):
    here = Run(tmp_path)
    properties = [name for name, kind in vars(Run).items() if isinstance(kind, property) and name != "spent"]
    paths = [getattr(here, name) for name in properties]
    paths += [here.named_submission("mean-a+b"), here.spent.path]
    paths += [here.fold(number, title, fold) for number in (1, 2) for title in "ab" for fold in (0, 1)]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert path.is_relative_to(tmp_path)
        assert path != tmp_path


def test_a_fold_lies_in_its_member_and_the_member_in_its_round(tmp_path):
    here = Run(tmp_path)
    assert here.fold(2, "a", 3).parent == here.member(2, "a")
    assert here.member(2, "a").parent == here.round(2)


def test_the_log_grows_by_a_line_an_event(tmp_path):
    here = Run(tmp_path)
    here.log("start", photos=3)
    here.log("label", name="Жигули\nнива")
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, lines)
    assert (first["event"], first["photos"]) == ("start", 3)
    assert second["name"] == "Жигули\nнива"
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


def test_a_log_without_a_folder_is_told(tmp_path):
    with pytest.raises(FovsfeError, match=r"cannot write .*log\.jsonl"):
        Run(tmp_path / "missing").log("start")


@needs_full_device
def test_a_log_on_a_full_disk_is_told(tmp_path):
    (tmp_path / "log.jsonl").symlink_to(FULL)
    with pytest.raises(FovsfeError, match="No space left on device"):
        Run(tmp_path).log("start")


# ---- seconds


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def seconds(watch):
    return {name: step["seconds"] for name, step in watch.read().items()}


def test_seconds_add_up_by_step_and_over_sessions(tmp_path, clock):
    file = tmp_path / "steps.json"
    for session in range(2):
        watch = Stopwatch(file)
        with watch.step("audit"):
            clock.seconds += 1.5
        clock.seconds += 1000 * session
        with watch.step("training"):
            clock.seconds += 10
    assert seconds(Stopwatch(file)) == {"audit": 3.0, "training": 20.0}
    assert Stopwatch(file).seconds == 23.0


def test_a_step_within_a_step_counts_for_both(tmp_path, clock):
    watch = Stopwatch(tmp_path / "steps.json")
    with watch.step("round"):
        clock.seconds += 1
        with watch.step("member"):
            clock.seconds += 2
    assert seconds(watch) == {"round": 3.0, "member": 2.0}


def test_an_interrupted_step_counts_too(tmp_path, clock):
    watch = Stopwatch(tmp_path / "steps.json")
    with pytest.raises(KeyboardInterrupt), watch.step("training"):
        clock.seconds += 4
        raise KeyboardInterrupt
    assert seconds(watch) == {"training": 4.0}


def test_the_peak_of_memory_is_of_the_whole_process(tmp_path):
    watch = Stopwatch(tmp_path / "steps.json")
    with watch.step("before"):
        pass
    with watch.step("after"):
        some = bytearray(300_000_000)
        some[::4096] = b"x" * len(some[::4096])
        del some
    peaks = [step["peak_mb"] for step in watch.read().values()]
    assert peaks[0] > 20
    assert peaks[1] >= max(peaks[0], 300)


def test_before_the_first_step_there_are_no_seconds(tmp_path):
    assert Run(tmp_path).spent.read() == {}
