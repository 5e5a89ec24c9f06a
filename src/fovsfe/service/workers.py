"""Several worker processes that share a listening socket and are replaced when they die.

uvicorn has a supervisor, `uvicorn.supervisors.Multiprocess` (read at version 0.54), which does not do what is
needed:

- A worker always runs `uvicorn.Server`, so that the shutdown of `server._Server`, which loses no request, has
  no place in it: stopping would reset the connections in the backlog and those that are kept open.
- A worker that cannot start exits with a traceback, and the supervisor returns as if it had been stopped;
  here `serve` raises what the worker raised, in one line.
- Workers do not end when their supervisor is killed.
- Nothing can be done when a worker dies, but its gauges must be removed from the metrics of all.
- A worker whose thread does not answer a ping within seconds is killed as hung, also while it loads its
  networks on a busy machine; and at the end the supervisor waits forever for a worker that really hangs.
- Workers are spawned rather than forked and take their arguments through pickle, the application among them.

Each of these would have to be overridden, which leaves nothing of it.
"""

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

from fovsfe.errors import FovsfeError
from fovsfe.service import logs

LAST_REQUEST_SECONDS = 1.0  # for one more request on the connections that are open when the service stops
RESTART_SECONDS = 1.0  # the least time between two starts of a worker that dies at once

CHECK_SECONDS = 0.2  # between two looks for messages; a worker's end is noticed at once

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

ServeInWorker = Callable[[Callable[[], None], Callable[[], bool]], None]
"""serves until it is stopped; takes `on_ready` and `is_orphan`, which says whether the parent is gone"""


@dataclass
class _Worker:
    process: ForkProcess
    messages: Connection
    """from the worker: "" once it serves, or why it cannot start"""
    started: float


class Workers:
    """Runs worker processes, and replaces each that dies: connections it had not accepted are not lost."""

    def __init__(
        self, count: int, stop_seconds: float, listener: socket.socket, serve_in_worker: ServeInWorker
    ) -> None:
        """`stop_seconds`: for a worker to finish what is under way; `listener`: the shared socket."""
        self._count = count
        self._stop_seconds = stop_seconds
        self._listener = listener
        self._serve_in_worker = serve_in_worker
        self._workers: list[_Worker] = []
        self._serving = False
        self._stopping = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Runs until SIGTERM or SIGINT comes and the workers have finished.

        `on_ready` is called when the first worker serves. Raises FovsfeError if none can start.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        metrics_folder = tempfile.mkdtemp(prefix="fovsfe-", dir=in_memory)
        # Where the workers write what metrics.py adds up.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
        try:
            for position in range(self._count):
                self._start(position)
            while not self._stopping:
                wait([worker.process.sentinel for worker in self._workers], timeout=CHECK_SECONDS)
                self._receive_messages(on_ready)
                self._replace_dead()
            deadline = time.monotonic() + self._stop_seconds + LAST_REQUEST_SECONDS + 2
            for worker in self._workers:
                worker.process.join(max(0, deadline - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.process.kill()
            shutil.rmtree(metrics_folder, ignore_errors=True)

    def _start(self, position: int) -> None:
        """Starts the worker with this position in the list, or its replacement, unless it is time to stop.

        A signal to stop waits until the worker is in the list and, in the worker, until it has its handlers.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        if not self._stopping:
            receiver, sender = Pipe(duplex=False)
            process = get_context("fork").Process(target=_work, args=(self._serve_in_worker, sender))
            process.start()
            sender.close()
            self._workers[position : position + 1] = [_Worker(process, receiver, time.monotonic())]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()

    def _receive_messages(self, on_ready: Callable[[], None]) -> None:
        for worker in self._workers:
            with suppress(EOFError):
                while worker.messages.poll():
                    reason = worker.messages.recv()
                    if self._serving:
                        continue
                    if reason:
                        raise FovsfeError(reason)
                    self._serving = True
                    on_ready()

    def _replace_dead(self) -> None:
        for position, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._stopping:
                continue
            from prometheus_client.multiprocess import mark_process_dead

            logs.event("worker lost", pid=worker.process.pid, code=worker.process.exitcode)
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
            if time.monotonic() - worker.started < RESTART_SECONDS:
                time.sleep(RESTART_SECONDS)
            self._start(position)


def _work(serve_in_worker: ServeInWorker, messages: Connection) -> None:
    """Runs in the worker process."""
    parent = os.getppid()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        serve_in_worker(lambda: messages.send(""), lambda: os.getppid() != parent)
    except FovsfeError as error:
        messages.send(str(error))
        sys.exit(1)
