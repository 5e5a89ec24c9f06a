"""Runs the service: in this process, or in several worker processes (workers.py)."""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from fovsfe import machine
from fovsfe.errors import FovsfeError
from fovsfe.service import logs
from fovsfe.service.problems import Problem
from fovsfe.service.protocol import HttpProtocol
from fovsfe.service.settings import Settings
from fovsfe.service.workers import Supervisor, Workers, stop_signals

LAST_REQUEST_SECONDS = 1.0  # for one more request on the connections that are open when the service stops
ENGINE_STOP_SECONDS = 1.5  # of STOP_SECONDS: for the inference threads, which finish their batches at the end


def serve(folder: Path, settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serves the bundle in `folder` until SIGTERM or SIGINT, then finishes what is under way and returns.

    `on_ready` is called once, when the first connection can be accepted. Raises FovsfeError if the address is
    taken or the bundle cannot be used.
    """
    machine.save_memory()
    listener = _bind(settings)
    if settings.workers == 1:
        _serve_in_process(folder, settings, listener, on_ready)
        return

    def serve_in_worker(supervisor: Supervisor) -> None:
        _serve_in_process(folder, settings, listener, supervisor.ready, supervisor)

    from fovsfe.bundle.format import load_bundle

    load_bundle(folder)  # so that a damaged bundle is refused before any worker is started
    with logs.written(settings.log_format):
        Workers(settings.workers, settings.stop_seconds, listener, serve_in_worker).run(on_ready)


def _bind(settings: Settings) -> socket.socket:
    """Returns a socket at the address of the settings; it listens only once the networks are loaded."""
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


def _serve_in_process(
    folder: Path,
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    supervisor: Supervisor | None = None,
) -> None:
    """Serves until a signal to stop comes or, in a worker, its supervisor is gone. Raises FovsfeError."""
    for signum in (signal.SIGTERM, signal.SIGINT):  # while the networks load; uvicorn sets its own later
        signal.signal(signum, lambda *_: sys.exit(0))
    if signal.SIGHUP in stop_signals():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with logs.written(settings.log_format) as log:
        from fovsfe.service.app import create_app  # here, so that a worker loads the libraries after the fork

        app = create_app(folder, settings)
        log.on_dropped = app.state.metrics.dropped_log_lines.inc
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        server = _Server(config, app.state, on_ready, supervisor)
        gc.freeze()  # what is there stays: searching it for garbage would delay responses
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it serves, and loses no request when it stops, as long as
    STOP_SECONDS allow."""

    def __init__(
        self, config: uvicorn.Config, state: Any, on_ready: Callable[[], None], supervisor: Supervisor | None
    ) -> None:
        super().__init__(config)
        self._state = state
        self._on_ready = on_ready
        self._supervisor = supervisor

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen, then logs the event "serving"."""
        await super().startup(sockets)
        if not self.started:
            return
        settings: Settings = self._state.settings
        logs.event(
            "serving",
            host=settings.host,
            port=settings.port,
            model=self._state.model,
            pid=os.getpid(),
            threads=settings.threads,
            upload_memory=settings.upload_memory,
            decode_memory=settings.decode_memory,
        )
        self._watching = asyncio.create_task(self._watch())
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop. Whatever may hang then, in C or in Python, the process ends within STOP_SECONDS."""
        if not self.should_exit:
            signal.setitimer(signal.ITIMER_REAL, self._state.settings.stop_seconds)  # SIGALRM ends it
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses new connections; those that are open get one more response, with "Connection: close"."""
        self._state.stopping = True
        seconds = self._state.settings.stop_seconds
        until = time.monotonic() + seconds - min(ENGINE_STOP_SECONDS, seconds / 4)
        waiting = [connection for listener in sockets or [] for connection in _accepted(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        deadline = time.monotonic() + min(LAST_REQUEST_SECONDS, seconds / 4)
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.config.timeout_graceful_shutdown = until - time.monotonic()
        await super().shutdown(sockets)
        logs.event("stopped", pid=os.getpid())

    async def _watch(self) -> None:
        """Does every second what no request does."""
        while True:
            for connection in [*self.server_state.connections]:
                assert isinstance(connection, HttpProtocol)
                connection.cut_if_unread()
            if self._supervisor is not None:
                if self._supervisor.is_gone():
                    self.handle_exit(signal.SIGTERM, None)
                    return
                with suppress(Problem):  # then another worker is better
                    self._state.engine.check_threads()
                    self._supervisor.beat()
            await asyncio.sleep(1)

    def _protocol(self) -> asyncio.Protocol:
        return HttpProtocol(self.config, self.server_state, self.lifespan.state)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Accepts the connections in the backlog, which closing the listener would reset."""
    listener.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection
