"""photos.decode_pool: the same pixels as in this process, and no photo takes more than it may."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.container.hostile import encode, hostile_photos, png_with_texts

from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import FORMATS, BadPhoto, decode, decode_to_sizes, read_header
from fovsfe.photos.decode_pool import TOO_SLOW, DecodeJob, DecodePool, ForkServer, _Process, shared_pool
from fovsfe.photos.decode_turns import MIB, OUT_OF_MEMORY, DecodeBusy, DecodeLimits

LIMITS = DecodeLimits(
    processes=2, memory=128 * MIB, cpu_seconds_factor=1, decode_seconds=60, wait_seconds=60, yields=True
)
SIZES = [((48, 64), "pad"), ((32, 32), "crop")]
PHOTO = encode("JPEG")
ENDLESS = b"\xff\xd8" + 2**24 * b"\xff"
HOSTILE = hostile_photos()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(LIMITS)
    yield pool
    pool.close()


def fault(pool: DecodePool, data: bytes) -> str:
    with pytest.raises(BadPhoto) as caught:
        pool.decode_to_sizes(data, SIZES)
    assert_works(pool)
    return str(caught.value)


def assert_works(pool: DecodePool) -> None:
    for pixels, expected in zip(
        pool.decode_to_sizes(PHOTO, SIZES).pixels, decode_to_sizes(PHOTO, SIZES), strict=True
    ):
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_and_header_are_those_of_decode(pool: DecodePool, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(kind) if kind in ("GIF", "BMP") else encode(kind, exif=exif.tobytes())
    photo = pool.decode_to_sizes(data, SIZES)
    assert photo.header == read_header(data)
    for pixels, expected in zip(photo.pixels, decode_to_sizes(data, SIZES), strict=True):
        np.testing.assert_array_equal(pixels, expected)
    for at_least in (None, (32, 32)):
        np.testing.assert_array_equal(pool.decode(data, at_least).pixels[0], decode(data, at_least))


@pytest.mark.parametrize("data", [b"", b"no photo", PHOTO[:600]])
def test_faults_are_those_of_decode(pool: DecodePool, data: bytes) -> None:
    with pytest.raises(BadPhoto) as here:
        decode_to_sizes(data, SIZES)
    assert fault(pool, data) == str(here.value)


def test_the_pixel_limit(pool: DecodePool) -> None:
    with pytest.raises(BadPhoto, match="over the limit"):
        pool.decode_to_sizes(PHOTO, SIZES, max_pixels=1000)


def test_a_photo_larger_than_small(pool: DecodePool) -> None:
    large = encode("PNG", Image.new("RGB", (3000, 2000), (9, 8, 7)))
    assert (pool.decode(large).pixels[0] == (9, 8, 7)).all()


def test_a_photo_of_a_million_rows(pool: DecodePool) -> None:
    high = encode("BMP", Image.new("1", (1, 1_200_000), 1))
    assert (pool.decode_to_sizes(high, [((8, 8), "squash")]).pixels[0] == 255).all()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_photo_is_a_bad_one(pool: DecodePool, name: str) -> None:
    reason = fault(pool, HOSTILE[name])
    assert reason in (OUT_OF_MEMORY, TOO_SLOW) or reason.startswith("damaged")


def test_texts_of_a_png_take_no_memory(pool: DecodePool) -> None:
    photo = pool.decode_to_sizes(png_with_texts(), SIZES)
    np.testing.assert_array_equal(photo.pixels[0], pool.decode_to_sizes(encode("PNG"), SIZES).pixels[0])


def test_what_takes_too_long_is_a_bad_photo(pool: DecodePool) -> None:
    assert fault(pool, ENDLESS) == TOO_SLOW


def test_a_slow_photo_holds_up_nobody() -> None:
    pool = DecodePool(replace(LIMITS, processes=1, cpu_seconds_factor=60))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(pool.decode_to_sizes, ENDLESS, SIZES)
        while not any(turn.is_slow for turn in pool._turns._turns):
            assert not slow.done()
            time.sleep(0.01)
        assert_works(pool)
        assert not slow.done()
        pool.close()
        assert isinstance(slow.exception(), DecodeBusy)


def test_a_process_that_dies_between_two_photos_is_replaced(pool: DecodePool) -> None:
    assert_works(pool)
    for process in pool._idle:
        os.kill(process.pid, signal.SIGKILL)
        while not process.has_died():
            time.sleep(0.01)
    assert_works(pool)


def test_no_room_for_the_pixels_is_no_fault_of_the_photo() -> None:
    of_session = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PHOTO), of_session[1]))  # also of files in memory
    try:
        fork_server = ForkServer()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, of_session)
    pool = DecodePool(LIMITS, fork_server)
    with pytest.raises(FovsfeError, match="this machine cannot decode photos now: File too large"):
        pool.decode_to_sizes(PHOTO, [((400, 400), "pad")])
    pool.close()


def test_no_process_is_no_fault_of_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ForkServer, descriptors: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    pool = DecodePool(LIMITS)
    monkeypatch.setattr(ForkServer, "fork", refuse)
    with pytest.raises(FovsfeError, match="cannot decode photos now: Resource temporarily unavailable"):
        pool.decode_to_sizes(PHOTO, SIZES)
    pool.close()


def kill_when_asked(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Has the system kill a process as soon as it has its photo, the first so many times; gives their ids."""
    killed: list[int] = []
    send = _Process.send

    def send_and_kill(self: _Process, job: DecodeJob, photo: bytes, *limits: Any) -> None:
        if len(killed) < times:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
        send(self, job, photo, *limits)

    monkeypatch.setattr(_Process, "send", send_and_kill)
    return killed


def test_a_process_that_is_killed_once_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecodePool(LIMITS)
    killed = kill_when_asked(monkeypatch, times=1)
    assert_works(pool)
    assert len(killed) == 1
    pool.close()


def test_a_process_that_is_killed_again_is_no_fault_of_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecodePool(LIMITS)
    killed = kill_when_asked(monkeypatch, times=2)
    with pytest.raises(FovsfeError, match="cannot decode photos now: a process was killed, perhaps because"):
        pool.decode_to_sizes(PHOTO, SIZES)
    assert len(killed) == 2
    assert_works(pool)
    pool.close()


def test_no_memory_for_pixels_is_no_fault_of_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    pool = DecodePool(LIMITS)
    monkeypatch.setattr(_Process, "read_pixels", refuse)
    with pytest.raises(FovsfeError, match="cannot decode photos now: not enough memory"):
        pool.decode_to_sizes(PHOTO, SIZES)
    pool.close()


def test_no_process_at_all_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(FovsfeError, match="cannot decode photos now: Resource temporarily unavailable"):
        DecodePool(LIMITS)


def test_a_fork_server_that_is_killed_is_replaced() -> None:
    pool = DecodePool(LIMITS)
    assert_works(pool)
    assert pool._fork_server is not None and pool._fork_server._process is not None
    pool._fork_server._process.kill()
    pool._fork_server._process.wait()
    with pytest.raises(BadPhoto):  # its process lives on, and what it dies of cannot be told
        pool.decode_to_sizes(HOSTILE["progressive JPEG"], SIZES, max_pixels=1)
    pool._idle.clear()
    assert_works(pool)
    pool.close()


def test_an_interrupted_request_does_not_take_the_answer_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecodePool(LIMITS)
    assert_works(pool)
    server = pool._fork_server
    assert server is not None

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(socket, "send_fds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.wait(pool._idle[0].pid)
    pool._idle.clear()
    assert_works(pool)
    pool.close()


def test_a_closed_pool_starts_nothing(pool: DecodePool) -> None:
    other = DecodePool(LIMITS)
    with other.turn() as turn:
        other.close()
        with pytest.raises(DecodeBusy):
            other.decode_to_sizes(PHOTO, SIZES, turn=turn)
    assert not other._idle


def test_several_threads_share_a_pool(pool: DecodePool) -> None:
    with ThreadPoolExecutor(8) as threads:
        for photo in threads.map(lambda _: pool.decode_to_sizes(PHOTO, SIZES), range(100)):
            np.testing.assert_array_equal(photo.pixels[0], decode_to_sizes(PHOTO, SIZES)[0])
    assert len(pool._idle) <= LIMITS.processes


def test_a_closed_pool_is_busy() -> None:
    pool = DecodePool(LIMITS)
    pool.close()
    with pytest.raises(DecodeBusy):
        pool.decode_to_sizes(PHOTO, SIZES)


def test_a_forked_process_has_a_pool_of_its_own() -> None:
    shared_pool().decode(PHOTO)
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if (shared_pool().decode(PHOTO).pixels[0] == decode(PHOTO)).all() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(shared_pool().decode(PHOTO).pixels[0], decode(PHOTO))


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from fovsfe.photos.decode_pool import shared_pool as pool\n"
        "pool().decode(Path(sys.argv[1]).read_bytes())\n"
        "print(pool()._fork_server._process.pid, pool()._idle[0].pid, flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", program, tmp_path / "photo.jpg"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.kill()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_leaves_the_processes_to_their_owner(pool: DecodePool) -> None:
    assert_works(pool)
    assert pool._fork_server is not None
    for pid in (pool._fork_server._process.pid, *(process.pid for process in pool._idle)):
        os.kill(pid, signal.SIGINT)
    threading.Event().wait(0.05)
    assert_works(pool)
