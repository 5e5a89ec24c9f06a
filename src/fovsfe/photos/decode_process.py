"""The processes that decode photos for decode_pool.py, each under hard limits of memory and CPU time.

A fork server imports what decoding needs, once, and forks the processes: so they start within milliseconds
and share its memory. A process is told of photos over its connection; they and their pixels pass through a
file in memory.
"""

from __future__ import annotations

import errno
import gc
import io
import json
import math
import os
import resource
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from fovsfe.arrays import Pixels
from fovsfe.photos.decode import BadPhoto, decode_to_sizes, read_header, use_one_thread
from fovsfe.photos.decode_cost import cpu_seconds_allowed, cpu_seconds_needed, memory_needed, result_memory
from fovsfe.photos.decode_pool import ANSWER, FORK, KEPT_BYTES, REQUEST, TOO_SLOW, DecodeJob, write_all
from fovsfe.photos.decode_turns import OUT_OF_MEMORY

_STATM_FILE = Path("/proc/self/statm")  # its first figure: the pages of address space; Linux only


def serve_forks(control: int) -> None:
    """Answers requests on the socket with this file descriptor until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process whose photos these are
    requests = socket.socket(fileno=control)
    use_one_thread()
    _warm_up_codecs()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes a line for each row that it dislikes
    gc.freeze()  # searching for garbage would copy the pages that are shared
    while message := (received := socket.recv_fds(requests, REQUEST.size, 2))[0]:
        request, pid = REQUEST.unpack(message)
        answer = _fork(requests, received[1]) if request == FORK else _wait(pid)
        requests.sendall(ANSWER.pack(answer))


def _fork(requests: socket.socket, descriptors: Sequence[int]) -> int:
    """Returns the id of a new process, or minus the number of the error. The new process does not return."""
    connection, file = descriptors
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    if pid == 0:
        try:
            requests.close()
            _serve_photos(Connection(connection), file)
        finally:
            os._exit(1)
    os.close(connection)
    os.close(file)
    return pid


def _wait(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # the fork server before this one had started it
        return -signal.SIGKILL


def _warm_up_codecs() -> None:
    """Decodes a small photo, so that what this allocates is shared."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    decode_to_sizes(stream.getvalue(), [((32, 32), "pad")])


def _serve_photos(connection: Connection, file: int) -> None:
    """Decodes photos until the connection's other end is closed.

    They are in the file with the descriptor `file`, which takes their pixels as well.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            message = json.loads(connection.recv_bytes())
        except EOFError:
            return
        photo = _read(message["bytes"], file)
        _limit_cpu_seconds(message["cpu_seconds_factor"] * cpu_seconds_allowed(photo))
        _limit_memory(message["memory"])
        try:
            answer = _decode(message, photo, file)
        except BadPhoto as error:
            answer = {"fault": str(error)}
        except MemoryError:
            answer = {"fault": OUT_OF_MEMORY}
        except OSError as error:  # there is no room for its pixels
            answer = {"errno": error.errno or errno.EIO}
        _limit_memory(None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(connection, answer)


def _decode(message: dict[str, Any], photo: bytes, file: int) -> dict[str, Any]:
    """Decodes a photo and returns the answer. Raises BadPhoto, MemoryError, and OSError of the machine."""
    input_sizes = [((height, width), resize_mode) for (height, width), resize_mode in message["input_sizes"]]
    at_least = message["at_least"] and tuple(message["at_least"])
    job = DecodeJob(input_sizes, at_least, message["max_pixels"])
    header = read_header(photo, job.max_pixels)
    allowed = message["cpu_seconds_factor"] * cpu_seconds_allowed(photo, header)
    if cpu_seconds_needed(photo, header) > allowed:
        raise BadPhoto(TOO_SLOW)
    _limit_cpu_seconds(allowed)
    results = [size for size, _ in input_sizes] or [at_least or (header.height, header.width)]
    side = max(max(size) for size in results)
    needed = memory_needed(photo, header, side) + result_memory(
        photo, header, side, is_resized=bool(input_sizes)
    )
    if needed > message["memory"]:
        return {"needed": needed}
    photos = job.run(photo)
    _limit_memory(None)
    _write(photos, file)
    return {
        "width": header.width,
        "height": header.height,
        "notes": header.notes,
        "shapes": [photo.shape for photo in photos],
    }


def _send(connection: Connection, answer: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(answer | {"cpu_seconds": _cpu_seconds()}).encode())


def _read(size: int, file: int) -> bytes:
    data = os.pread(file, size, 0)
    if size > KEPT_BYTES:
        os.ftruncate(file, 0)
    return data


def _write(photos: Sequence[Pixels], file: int) -> None:
    offset = 0
    for photo in photos:
        offset = write_all(file, photo.data, offset)


def _limit_memory(size: int | None) -> None:
    """Sets how many bytes of address space this process may take from now on; None for no limit."""
    limit = resource.RLIM_INFINITY
    if size is not None and _STATM_FILE.exists():
        limit = int(_STATM_FILE.read_text().split()[0]) * resource.getpagesize() + size
    _set_limit(resource.RLIMIT_AS, limit)


def _limit_cpu_seconds(cpu_seconds: float) -> None:
    """Has the system end this process after so many more CPU seconds.

    It does so by a timer and, should that be turned off, by a limit of whole seconds.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    limit = math.ceil(_cpu_seconds() + cpu_seconds) + 1
    _set_limit(resource.RLIMIT_CPU, limit)


def _set_limit(kind: int, limit: int) -> None:
    """Sets a limit, within the one that this process was started with."""
    most = resource.getrlimit(kind)[1]
    finite = [bound for bound in (limit, most) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min(finite, default=resource.RLIM_INFINITY), most))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
