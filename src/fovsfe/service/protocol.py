"""HTTP/1.1 of a connection: uvicorn's protocol with limits for headers and problems as error responses."""

import asyncio
import http
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fovsfe.service.problems import MEDIA_TYPE, Problem, busy

MAX_CONNECTIONS = 900  # open at the same time in a worker: the usual limit is 1024 files
HEADER_SECONDS = 10.0  # for the header of a request, from its first byte or from the connection's beginning
HEADER_BYTES = 32 * 1024


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, where headers have to arrive in time and within a size."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(busy(1))
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_header()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._header_timer is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_timer is not None and self._header_bytes > HEADER_BYTES:
            self._refuse(Problem("long-header", f"A header may have at most {HEADER_BYTES // 1024} KiB."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_header()

    def on_headers_complete(self) -> None:
        self._end_header()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("bad-request", "The request is not valid HTTP/1.1."))

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _end_header(self) -> None:
        self._header_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, problem: Problem) -> None:
        """Answers without the application and closes the connection."""
        self._end_header()
        if self.transport.is_closing():
            return
        state = self.config.app.state  # type: ignore[union-attr]
        state.metrics.problems.labels(problem.slug).inc()
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
