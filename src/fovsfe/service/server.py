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
from typing import Any

import uvicorn

from fovsfe import machine
from fovsfe.errors import FovsfeError
from fovsfe.service import logs
from fovsfe.service.protocol import HttpProtocol
from fovsfe.service.settings import Settings
from fovsfe.service.workers import LAST_REQUEST_SECONDS, Workers


def serve(folder: Path, settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serves the bundle in `folder` until SIGTERM or SIGINT, then finishes what is under way and returns.

    `on_ready` is called once, when the first connection can be accepted. Raises FovsfeError if the address is
    taken or the bundle cannot be used.
    """
    machine.save_memory()
    logs.configure(settings.log_format)
    listener = _bind(settings)
    if settings.workers == 1:
        _serve_in_process(folder, settings, listener, on_ready)
        return

    def serve_in_worker(on_ready: Callable[[], None], is_orphan: Callable[[], bool]) -> None:
        _serve_in_process(folder, settings, listener, on_ready, is_orphan)

    from fovsfe.bundle.format import load_bundle

    load_bundle(folder)  # so that a damaged bundle is refused before any worker is started
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
    is_orphan: Callable[[], bool] = lambda: False,
) -> None:
    """Serves until a signal to stop comes or, in a worker, its parent is gone. Raises FovsfeError."""
    for number in (signal.SIGTERM, signal.SIGINT):  # while the networks load; uvicorn sets its own later
        signal.signal(number, lambda *_: sys.exit(0))
    from fovsfe.service.app import create_app  # here, so that a worker loads the libraries after the fork

    app = create_app(folder, settings)

    async def stop_if_orphan() -> None:
        if is_orphan():
            server.should_exit = True

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
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        callback_notify=stop_if_orphan,
        timeout_notify=1,
    )
    server = _Server(config, app.state, on_ready)
    gc.freeze()  # what is there stays: searching it for garbage would delay responses
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it serves, and loses no request when it stops."""

    def __init__(self, config: uvicorn.Config, state: Any, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._state = state
        self._on_ready = on_ready

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
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses new connections; those that are open get one more response, with "Connection: close"."""
        self._state.stopping = True
        waiting = [connection for listener in sockets or [] for connection in _accepted(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        deadline = time.monotonic() + LAST_REQUEST_SECONDS
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        logs.event("stopped", pid=os.getpid())

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
