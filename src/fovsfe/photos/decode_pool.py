"""Decodes photos in processes of their own, so that no photo takes more than its share.

What a file says about itself is no bound: a photo of a hundred bytes can take half a gigabyte, or minutes.
Here each photo is decoded in a process (decode_process.py) that the system refuses more memory than it may
have, and ends after more CPU time. That is then the photo's fault, like any other damage.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

import numpy as np

from fovsfe import machine
from fovsfe.arrays import Pixels
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import (
    MAX_PIXELS,
    BadPhoto,
    ImageHeader,
    InputSize,
    decode,
    decode_to_sizes,
    read_header,
)
from fovsfe.photos.decode_turns import MIB, SMALL, DecodeBusy, DecodeLimits, DecodeTurns, Turn

CAN_FORK = hasattr(os, "fork")
"""False on Windows, where photos are decoded in the process that has them, without limits"""

PROCESS_MEMORY = 4 * MIB
"""bytes that a process takes beside what it shares with the fork server, and beside its photo"""
LARGE = 64 * MIB
"""bytes; a process that had more for a photo is replaced after it"""
SLOW_CPU_SECONDS = 0.1  # after which a photo counts as slow
SLOW_NICENESS = 4
CHECK_SECONDS = 0.05  # between two looks at the CPU seconds that a photo has used
KEPT_BYTES = 4 * MIB  # bytes of the memory shared with a process that are kept until its next photo
LONGEST_ANSWER = 64 * 1024  # bytes

FORK, WAIT = 0, 1
REQUEST = struct.Struct("=Bq")
"""to the fork server: FORK and 0, with two file descriptors, or WAIT and the id of a process"""
ANSWER = struct.Struct("=q")
"""from it: the id of the new process, or how the process ended, as in `Popen.returncode`"""

TOO_SLOW = "takes too long to decode"
CRASHED = "damaged: the decoder crashed"
_FAULTS = {-signal.SIGPROF: TOO_SLOW, -signal.SIGXCPU: TOO_SLOW} if CAN_FORK else {}  # by how it ended

# Of memory that is freed, a process keeps so little that the limit means what its photo takes.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(4 * MIB),
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class DecodeJob:
    """What to do with a photo: `decode.decode_to_sizes` or, without `input_sizes`, `decode.decode`."""

    input_sizes: Sequence[InputSize]
    at_least: tuple[int, int] | None
    max_pixels: int

    def run(self, data: bytes) -> list[Pixels]:
        """Decodes the encoded photo `data` in this process. Raises BadPhoto."""
        if self.input_sizes:
            return decode_to_sizes(data, self.input_sizes, self.max_pixels)
        return [decode(data, self.at_least, self.max_pixels)]


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo's header and its pixels: uint8 (height, width, 3), one for each input size asked for."""

    header: ImageHeader
    pixels: list[Pixels]


class DecodePool:
    """Processes that decode photos, started when they are needed and replaced when they die.

    Its methods may be called from several threads.
    """

    def __init__(self, limits: DecodeLimits, fork_server: ForkServer | None = None) -> None:
        """`fork_server` starts the processes; by default a new one."""
        self._limits = limits
        self._fork_server = fork_server or (ForkServer() if CAN_FORK else None)
        self._turns = DecodeTurns(limits)
        self._idle: list[_Process] = []

    def turn(self) -> AbstractContextManager[Turn]:
        """Waits for the turn of another photo, which ends with the context. Raises DecodeBusy."""
        return self._turns.take()

    def decode_to_sizes(
        self,
        data: bytes,
        input_sizes: Sequence[InputSize],
        max_pixels: int = MAX_PIXELS,
        turn: Turn | None = None,
    ) -> DecodedPhoto:
        """Does `decode.decode_to_sizes`.

        With a `turn` that has been taken before, no other photo comes until the caller ends it.

        Raises:
            BadPhoto: the photo cannot be read, or takes too much memory or time.
            DecodeBusy: it has waited too long.
            FovsfeError: this machine can start no process or has killed it, as it does where memory is short,
                or has no room for the pixels.
        """
        return self._run(DecodeJob(input_sizes, None, max_pixels), data, turn)

    def decode(
        self, data: bytes, at_least: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
    ) -> DecodedPhoto:
        """Does `decode.decode`. Raises as `decode_to_sizes` does."""
        return self._run(DecodeJob((), at_least, max_pixels), data)

    def close(self) -> None:
        """Ends the processes; photos that wait or are being decoded are refused."""
        self._turns.close()
        while self._idle:
            self._idle.pop().end()
        if self._fork_server:
            self._fork_server.close()

    def _run(self, job: DecodeJob, data: bytes, turn: Turn | None = None) -> DecodedPhoto:
        if self._fork_server is None:
            header = read_header(data, job.max_pixels)
            return DecodedPhoto(header, job.run(data))
        with nullcontext(turn) if turn else self._turns.take() as turn:
            try:
                answer = self._ask_twice(self._fork_server, turn, job, data)
                if isinstance(answer, int):
                    # Beside what it needs for its pixels, the new process has to read its header.
                    self._turns.enlarge(turn, answer + SMALL)
                    answer = self._ask_twice(self._fork_server, turn, job, data)
            except (OSError, MemoryError) as error:  # no photo is read here: it is not the photo's fault
                raise _cannot_decode(error) from error
            assert isinstance(answer, DecodedPhoto)  # it has what it has asked for
            return answer

    def _ask_twice(
        self, fork_server: ForkServer, turn: Turn, job: DecodeJob, data: bytes
    ) -> DecodedPhoto | int:
        """Does `_ask`, once more if the system has killed the process: memory may be free again."""
        try:
            return self._ask(fork_server, turn, job, data)
        except ConnectionError:
            return self._ask(fork_server, turn, job, data)

    def _ask(self, fork_server: ForkServer, turn: Turn, job: DecodeJob, data: bytes) -> DecodedPhoto | int:
        """Has a process decode a photo in its turn; returns the bytes that it needs if they are more."""
        process = self._take_process(fork_server)
        turn.give_up = process.give_up
        try:
            process.send(job, data, turn.memory, self._limits.cpu_seconds_factor)
            answer = self._wait(process, turn)
            if "errno" in answer:
                raise OSError(answer["errno"], os.strerror(answer["errno"]))
            process.is_ready = True
            if "needed" in answer:
                return int(answer["needed"])
            if "fault" in answer:
                raise BadPhoto(answer["fault"])
            header = ImageHeader(answer["width"], answer["height"], tuple(answer["notes"]))
            return DecodedPhoto(header, process.read_pixels(answer["shapes"]))
        except BadPhoto:
            if self._turns.is_closed:
                raise DecodeBusy from None
            raise
        finally:
            turn.give_up = lambda: None
            if process.is_ready and turn.memory <= LARGE and not turn.is_slow and not self._turns.is_closed:
                self._idle.append(process)
            else:
                process.end()

    def _take_process(self, fork_server: ForkServer) -> _Process:
        while True:
            try:
                process = self._idle.pop()
            except IndexError:
                return _Process(fork_server)
            if not process.has_died():
                return process
            process.end()

    def _wait(self, process: _Process, turn: Turn) -> dict[str, Any]:
        """Returns the answer of a process. Raises BadPhoto if it has died, or takes too long."""
        deadline = time.monotonic() + self._limits.decode_seconds
        while not process.connection.poll(CHECK_SECONDS):
            if time.monotonic() > deadline:
                process.give_up()
            elif self._limits.yields and turn.has_slot and process.has_used(SLOW_CPU_SECONDS):
                machine.make_nicer(process.pid, SLOW_NICENESS)
                self._turns.set_aside(turn)
        return process.receive()


_shared: DecodePool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> DecodePool:
    """Returns the pool of this process for photos of its own user, who has time and half of the memory."""
    global _shared
    with _shared_lock:
        if _shared is None:
            limits = DecodeLimits(
                processes=machine.cores(),
                memory=max((machine.memory() or 4096 * MIB) // 2, 2 * SMALL),
                cpu_seconds_factor=10,
                decode_seconds=600,
                wait_seconds=3600,
                yields=False,
            )
            _shared = DecodePool(limits)
        return _shared


def _forget_shared_pool() -> None:
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


if CAN_FORK:
    os.register_at_fork(after_in_child=_forget_shared_pool)  # its processes are the parent's


class ForkServer:
    """A small process that starts decode processes: it has imported what they need, and they share it.

    It is started again if it dies, and after an interrupted request, whose answer nobody has taken.
    """

    def __init__(self, niceness: int = 0) -> None:
        """Starts it; `niceness` is that of the processes, as for `os.setpriority`.

        Raises FovsfeError if this machine can start no process.
        """
        self._niceness = niceness
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        try:
            self._start()
        except OSError as error:
            raise _cannot_decode(error) from error
        atexit.register(self.close)

    def fork(self, descriptors: Sequence[int]) -> int:
        """Starts a process that gets two file descriptors, its connection and `_shared_file`; returns its id.

        Raises DecodeBusy if this is closed, and OSError if no process can be started.
        """
        with self._lock:
            try:
                answer = self._ask(FORK, 0, descriptors)
            except ConnectionError:  # it was killed, perhaps because memory is short
                answer = self._ask(FORK, 0, descriptors)
        if answer < 0:
            raise OSError(-answer, f"cannot start a process: {os.strerror(-answer)}")
        return answer

    def wait(self, pid: int) -> int:
        """Waits for the end of a process; returns how it ended, as in `Popen.returncode`."""
        with self._lock:
            try:
                return self._ask(WAIT, pid)
            except (ConnectionError, DecodeBusy):  # the process ends without it
                return -signal.SIGKILL

    @property
    def memory(self) -> int:
        """The bytes that it takes; the processes share them."""
        return machine.process_memory(self._process.pid) if self._process else 0

    def close(self) -> None:
        """Ends the fork server. The processes that it has started live on."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            # What can be imported here can be imported there, as in multiprocessing.
            program = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                f"from fovsfe.photos import decode_process; decode_process.serve_forks({theirs.fileno()})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
            )
        machine.make_nicer(self._process.pid, self._niceness)

    def _stop(self) -> None:
        if self._process and os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._control.close()

    def _ask(self, request: int, pid: int, descriptors: Sequence[int] = ()) -> int:
        """Returns the answer to a request. Raises ConnectionError if the fork server has died."""
        if self._is_closed:
            raise DecodeBusy
        if self._process is None:
            self._start()
        try:
            socket.send_fds(self._control, [REQUEST.pack(request, pid)], descriptors)
            answer = self._control.recv(ANSWER.size, socket.MSG_WAITALL)
            if len(answer) < ANSWER.size:
                raise ConnectionResetError("the fork server has died")
        except BaseException:  # of an interrupt as well, or the next request would get this one's answer
            self._stop()
            raise
        return int(ANSWER.unpack(answer)[0])


class _Process:
    """A process that decodes one photo after the other."""

    def __init__(self, fork_server: ForkServer) -> None:
        self._fork_server = fork_server
        self._shared_file = _open_shared_file()
        ours, theirs = socket.socketpair()
        with theirs:
            self.pid = fork_server.fork([theirs.fileno(), self._shared_file.fileno()])
        self.connection = Connection(ours.detach())
        self.cpu_seconds = 0.0
        """that it had used when it last answered"""
        self.is_ready = False
        """for another photo"""
        self._lock = threading.Lock()
        self._fault = ""
        self._code: int | None = None

    def send(self, job: DecodeJob, photo: bytes, memory: int, cpu_seconds_factor: float) -> None:
        """Sends a photo with what to do with it, and its limits. If it has died, `receive` says so."""
        self.is_ready = False
        write_all(self._shared_file.fileno(), photo, 0)
        limits = {"bytes": len(photo), "memory": memory, "cpu_seconds_factor": cpu_seconds_factor}
        with suppress(OSError):
            self.connection.send_bytes(json.dumps(vars(job) | limits).encode())

    def has_died(self) -> bool:
        """Returns whether it has, while it waited for a photo."""
        return self.connection.poll(0)

    def receive(self) -> dict[str, Any]:
        """Returns its answer. Raises BadPhoto if it died of the photo, ConnectionError if it was killed."""
        try:
            answer: dict[str, Any] = json.loads(self.connection.recv_bytes(LONGEST_ANSWER))
        except (OSError, EOFError, ValueError):
            self.end()
            if self._code == -signal.SIGKILL and not self._fault:  # no limit of ours ends a process so
                raise ConnectionResetError("a process was killed, perhaps because memory is short") from None
            raise BadPhoto(self._fault or _FAULTS.get(self._code or 0, CRASHED)) from None
        self.cpu_seconds = answer["cpu_seconds"]
        return answer

    def has_used(self, cpu_seconds: float) -> bool:
        """Returns whether its photo has used so many CPU seconds; False if that is not known."""
        return machine.cpu_seconds(self.pid) - self.cpu_seconds > cpu_seconds

    def read_pixels(self, shapes: Sequence[tuple[int, int, int]]) -> list[Pixels]:
        """Returns the photos that it has written, uint8 arrays of these shapes."""
        photos, offset = [], 0
        for shape in shapes:
            photo = np.empty(shape, np.uint8)
            read = 0
            while read < photo.nbytes:
                count = os.preadv(self._shared_file.fileno(), [photo.reshape(-1)[read:].data], offset + read)
                if not count:
                    raise BadPhoto(CRASHED)
                read += count
            offset += read
            photos.append(photo)
        if offset > KEPT_BYTES:
            self._shared_file.truncate(0)
        return photos

    def give_up(self) -> None:
        """Makes the process end because its photo takes too long."""
        with self._lock:
            if self._code is None:
                self._fault = TOO_SLOW
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Ends the process, and gives back what it holds."""
        self.connection.close()
        with self._lock:
            if self._code is None:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)  # it may be in the middle of a photo
                self._code = self._fork_server.wait(self.pid)
        self._shared_file.close()


def _cannot_decode(error: OSError | MemoryError) -> FovsfeError:
    """Returns the error that the machine, and not a photo, keeps photos from being decoded."""
    reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
    return FovsfeError(f"this machine cannot decode photos now: {reason}; try again when it has room")


def write_all(file: int, data: memoryview | bytes, offset: int) -> int:
    """Writes data into a file at an offset; returns the offset behind it."""
    rest = memoryview(data).cast("B")
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
    return offset


def _open_shared_file() -> IO[bytes]:
    """Returns a file in memory, on systems other than Linux perhaps on disk, that no one else can open."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fovsfe-photo"), "rb+", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
