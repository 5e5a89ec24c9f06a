"""Several worker processes that share a listening socket and are replaced when they die or hang.

uvicorn has a supervisor, `uvicorn.supervisors.Multiprocess` (read at version 0.54), which does not do what is
needed:

- A worker always runs `uvicorn.Server`, so that the shutdown of `server._Server`, which loses no request, has
  no place in it: stopping would reset the connections in the backlog and those that are kept open.
- A worker that cannot start exits with a traceback, and the supervisor returns as if it had been stopped;
  here `serve` raises what the worker raised, in one line.
- Workers do not end when their supervisor is killed.
- A worker that can never start is started again for ever.
- Nothing can be done when a worker dies, but its gauges must be removed from the metrics of all.
- A worker whose thread does not answer a ping within seconds is killed as hung, also while it loads its
  networks on a busy machine; and at the end the supervisor waits forever for a worker that really hangs.
- Workers are spawned rather than forked and take their arguments through pickle, the application among them.

Each of these would have to be overridden, which leaves nothing of it.
"""

import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path

from fovsfe.errors import FovsfeError
from fovsfe.service import logs

RESTART_SECONDS = 1.0  # the least time between two starts of a worker that dies at once
MAX_FAILED_STARTS = 3  # without any that succeeds: after that the service stops
START_SECONDS = 300.0  # for a worker to load its networks; it hangs if it takes longer
HUNG_SECONDS = 30.0  # without a sign of life, after which a worker is replaced

CHECK_SECONDS = 0.2  # between two looks for messages; a worker's end is noticed at once


class Supervisor:
    """What a worker knows of the process that started it."""

    def __init__(self, messages: Connection, beats: memoryview) -> None:
        self._messages = messages
        self._beats = beats
        self._parent = os.getppid()

    def ready(self) -> None:
        """Tells that the worker serves."""
        self._messages.send("")

    def failed(self, reason: str) -> None:
        """Tells why the worker cannot start, in one line."""
        self._messages.send(reason.partition("\n")[0])

    def beat(self) -> None:
        """Gives a sign of life; never waits, as a message could."""
        self._beats[0] += 1

    def is_gone(self) -> bool:
        """Returns whether the supervisor has ended without stopping its workers."""
        return os.getppid() != self._parent


@dataclass
class _Worker:
    process: ForkProcess
    messages: Connection
    """from the worker: "" once it serves, or why it cannot start"""
    beats: memoryview
    """one number, in memory that the worker shares, which grows while it is alive"""
    started: float
    serves: bool = False
    reason: str = ""
    """why it cannot start"""
    last_beat: int = 0
    silent: float = 0.0
    """seconds without a sign of life"""


class Workers:
    """Runs worker processes, and replaces each that dies or hangs: connections it had not accepted are not
    lost."""

    def __init__(
        self,
        count: int,
        stop_seconds: float,
        listener: socket.socket,
        serve_in_worker: Callable[[Supervisor], None],
    ) -> None:
        """`stop_seconds`: for a worker to finish what is under way; `listener`: the shared socket."""
        self._count = count
        self._stop_seconds = stop_seconds
        self._listener = listener
        self._serve_in_worker = serve_in_worker
        self._workers: list[_Worker] = []
        self._serving = False
        self._stopping = False
        self._failed_starts = 0
        self._failure = ""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Runs until a signal to stop comes and the workers have finished.

        `on_ready` is called when the first worker serves. Raises FovsfeError if workers cannot start.
        """
        for signum in stop_signals():
            signal.signal(signum, self._stop)
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="fovsfe-", dir=in_memory))
        # Where the workers write what metrics.py adds up.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder)
        try:
            for position in range(self._count):
                self._start(position)
            checked = time.monotonic()
            while not self._stopping:
                wait([worker.process.sentinel for worker in self._workers], timeout=CHECK_SECONDS)
                seconds, checked = time.monotonic() - checked, time.monotonic()
                for position, worker in enumerate(self._workers):
                    is_alive = worker.process.is_alive()  # first: then all that a dead one has sent is there
                    self._receive_messages(worker, on_ready)
                    if is_alive:
                        # Where this process stood still as well, it was not the worker that hung.
                        self._kill_if_hung(worker, min(seconds, 10 * CHECK_SECONDS))
                    elif not self._stopping:
                        self._replace(position, worker)
            for worker in self._workers:
                worker.process.join(max(0, self._deadline - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.process.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._failure:
            raise FovsfeError(self._failure)

    def _start(self, position: int) -> None:
        """Starts the worker with this position in the list, or its replacement, unless it is time to stop.

        A signal to stop waits until the worker is in the list and, in the worker, until it has its handlers.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
        if not self._stopping:
            receiver, sender = Pipe(duplex=False)
            beats = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
            arguments = (self._serve_in_worker, sender, beats, position, self._folder)
            process = get_context("fork").Process(target=_work, args=arguments)
            process.start()
            sender.close()
            self._workers[position : position + 1] = [_Worker(process, receiver, beats, time.monotonic())]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._deadline = time.monotonic() + self._stop_seconds
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()

    def _receive_messages(self, worker: _Worker, on_ready: Callable[[], None]) -> None:
        with suppress(EOFError):
            while worker.messages.poll():
                worker.reason = worker.messages.recv()
                if worker.reason:
                    continue
                worker.serves = True
                self._failed_starts = 0
                if not self._serving:
                    self._serving = True
                    on_ready()

    def _kill_if_hung(self, worker: _Worker, seconds: float) -> None:
        """Kills a worker that has shown no sign of life for too long; `seconds` since the last look."""
        if worker.beats[0] != worker.last_beat:
            worker.last_beat, worker.silent = worker.beats[0], 0.0
        else:
            worker.silent += seconds
        if worker.silent > (HUNG_SECONDS if worker.serves else START_SECONDS):
            worker.reason = f"a worker did not start within {START_SECONDS:.0f} s"
            logs.event("worker hangs", pid=worker.process.pid)
            worker.process.kill()
            worker.process.join(1)

    def _replace(self, position: int, worker: _Worker) -> None:
        """Starts another worker in place of a dead one, or stops all if that is hopeless."""
        from prometheus_client.multiprocess import mark_process_dead

        logs.event("worker lost", pid=worker.process.pid, code=worker.process.exitcode)
        mark_process_dead(position)  # type: ignore[no-untyped-call]
        if not worker.serves:
            self._failed_starts += 1
            # What a worker says itself is the same for each: another try is only made once some have served.
            if self._failed_starts >= MAX_FAILED_STARTS or (worker.reason and not self._serving):
                self._failure = worker.reason or _ended(worker.process.exitcode)
                self._stop()
                return
        if time.monotonic() - worker.started < RESTART_SECONDS:
            time.sleep(RESTART_SECONDS)
        self._start(position)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Returns the signals that stop the service: also that of a closed terminal, but not under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT) if ignored else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _ended(code: int | None) -> str:
    """Returns what ended a worker that has said nothing."""
    if code is not None and code < 0:
        by = signal.Signals(-code).name
        return f"a worker was ended by {by} before it served" + (
            "; is memory short?" if by == "SIGKILL" else ""
        )
    return f"a worker ended with exit code {code} before it served"


def _work(
    serve_in_worker: Callable[[Supervisor], None],
    messages: Connection,
    beats: memoryview,
    position: int,
    folder: Path,
) -> None:
    """Runs in the worker process."""
    supervisor = Supervisor(messages, beats)
    for signum in stop_signals():
        signal.signal(signum, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())
    from prometheus_client import values

    # A worker goes on with the counts of the one that it replaces, instead of leaving files for each.
    values.ValueClass = values.MultiProcessValue(lambda: position)  # type: ignore[no-untyped-call]
    try:
        serve_in_worker(supervisor)
    except FovsfeError as error:
        supervisor.failed(str(error))
        sys.exit(1)
    except Exception as error:
        supervisor.failed(f"a worker failed: {type(error).__name__}: {error}")
        sys.exit(1)
    finally:
        if supervisor.is_gone():
            shutil.rmtree(folder, ignore_errors=True)
