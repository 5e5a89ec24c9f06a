"""Runs the application in one process, or in several that are replaced when they die."""

import asyncio
import gc
import http
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fovsfe import machine
from fovsfe.errors import FovsfeError
from fovsfe.service import logs
from fovsfe.service.problems import MEDIA_TYPE, Problem, busy
from fovsfe.service.settings import Settings

CONNECTIONS = 900  # open at one time in a worker, under the usual limit of 1024 files
HEADER_SECONDS = 10.0  # for the header of a request, from the connection or the header's first byte on
HEADER_BYTES = 32 * 1024
LAST_SECONDS = 1.0  # for one more request on connections that are open when the service stops
PAUSE = 1.0  # seconds before a worker that died is replaced, if it has not lived for longer


def serve(folder: Path, settings: Settings) -> None:
    """Serves the bundle in `folder` until SIGTERM or SIGINT, then finishes what is under way and returns.

    Raises FovsfeError where the address is taken or the bundle cannot be used.
    """
    machine.save_memory()
    logs.configure(settings.log_format)
    listener = _bound(settings)
    if settings.workers == 1:
        _work(folder, settings, listener)
    else:
        _Workers(folder, settings, listener).run()


def _bound(settings: Settings) -> socket.socket:
    """The socket; it listens only once there is something to answer with."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise FovsfeError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another HOST or PORT"
        ) from error
    return listener


def _work(
    folder: Path, settings: Settings, listener: socket.socket, telling: Connection | None = None
) -> None:
    """A worker's life. Of several, it tells when it serves, and ends when who started it does."""
    for number in (signal.SIGTERM, signal.SIGINT):  # while the networks load; uvicorn has its own later
        signal.signal(number, lambda *_: sys.exit(0))
    parent = os.getppid()
    from fovsfe.service.app import create_app  # here, so that what it loads is loaded after the fork

    app = create_app(folder, settings)

    async def leave_with_parent() -> None:
        if telling is not None and os.getppid() != parent:
            server.should_exit = True

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        callback_notify=leave_with_parent,
        timeout_notify=1,
    )
    server = _Server(config, app.state)
    settings = app.state.settings  # where nothing is left open
    logs.event(
        "serving",
        host=settings.host,
        port=settings.port,
        model=app.state.model,
        pid=os.getpid(),
        threads=settings.threads,
        upload_memory=settings.upload_memory,
        decode_memory=settings.decode_memory,
    )
    if telling is not None:
        telling.send("")
    gc.freeze()  # what is there stays: to look through it for garbage would hold up answers
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which loses no request when it stops."""

    def __init__(self, config: uvicorn.Config, state: Any) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """New connections are refused, accepted ones get one more answer, with "Connection: close"."""
        self._state.stopping = True
        waiting = [visitor for listener in sockets or [] for visitor in _accepted(listener)]
        for server in self.servers:
            server.close()
        for visitor in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, visitor)
        until = time.monotonic() + LAST_SECONDS
        while self.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        logs.event("stopped", pid=os.getpid())

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted, which would be reset with the listener's end."""
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            visitor, _ = listener.accept()
            visitor.setblocking(False)
            yield visitor


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, where headers come in time and within a size, and every refusal is a problem."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > CONNECTIONS:
            self._refuse(busy(1))
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._header_timer is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_timer is not None and self._header_bytes > HEADER_BYTES:
            self._refuse(Problem("long-header", f"A header may have {HEADER_BYTES // 1024} KiB."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_header()

    def on_headers_complete(self) -> None:
        self._header_came()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("bad-request", "This is not HTTP/1.1."))

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _header_came(self) -> None:
        self._header_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, problem: Problem) -> None:
        """Answers without the application, and closes the connection."""
        self._header_came()
        if self.transport.is_closing():
            return
        state = self.config.app.state  # type: ignore[union-attr]
        state.metrics.refusals.labels(problem.slug).inc()
        body = json.dumps(problem.document(state.settings.app_root)).encode()
        head = [
            f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in problem.headers.items()),
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


@dataclass
class _Worker:
    """A worker, and what it tells: "" once it serves, or why it cannot."""

    process: ForkProcess
    told: Connection
    born: float


class _Workers:
    """Several workers on one socket. Who dies is replaced; what waits to be accepted is for the others."""

    def __init__(self, folder: Path, settings: Settings, listener: socket.socket) -> None:
        from fovsfe.bundle.format import load_bundle

        load_bundle(folder)  # a damaged bundle is refused before anything is started
        self._folder, self._settings, self._listener = folder, settings, listener
        self._workers: list[_Worker] = []
        self._served = False
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and until the workers have finished. Raises FovsfeError."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        counts = tempfile.mkdtemp(
            prefix="fovsfe-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        )
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts  # for metrics.py, where the workers add up
        try:
            self._workers = [self._start() for _ in range(self._settings.workers)]
            while not self._stopping:
                wait([worker.process.sentinel for worker in self._workers], timeout=PAUSE)
                self._listen_to_them()
                self._replace_the_dead()
            until = time.monotonic() + self._settings.stop_seconds + LAST_SECONDS + 2
            for worker in self._workers:
                worker.process.join(max(0, until - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.process.kill()
            shutil.rmtree(counts, ignore_errors=True)

    def _start(self) -> _Worker:
        told, telling = Pipe(duplex=False)
        arguments = (self._folder, self._settings, self._listener, telling)
        process = get_context("fork").Process(target=_worker, args=arguments)
        process.start()
        telling.close()
        return _Worker(process, told, time.monotonic())

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._listener.close()
        for worker in self._workers:
            worker.process.terminate()

    def _listen_to_them(self) -> None:
        for worker in self._workers:
            with suppress(EOFError):
                while worker.told.poll():
                    refusal = worker.told.recv()
                    if refusal and not self._served:
                        raise FovsfeError(refusal)
                    self._served |= not refusal

    def _replace_the_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._stopping:
                continue
            from prometheus_client.multiprocess import mark_process_dead

            logs.event("worker lost", pid=worker.process.pid, code=worker.process.exitcode)
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
            if time.monotonic() - worker.born < PAUSE:
                time.sleep(PAUSE)
            self._workers[place] = self._start()
            if self._stopping:  # meanwhile
                self._workers[place].process.terminate()


def _worker(folder: Path, settings: Settings, listener: socket.socket, telling: Connection) -> None:
    """A process of its own."""
    try:
        _work(folder, settings, listener, telling)
    except FovsfeError as error:
        telling.send(str(error))
        sys.exit(1)
