"""HTTP/1.1 of a connection: uvicorn's protocol with limits, and problems as error responses."""

import asyncio
import http
import json
import time
from collections import deque

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fovsfe.service.clients import unmapped
from fovsfe.service.problems import MEDIA_TYPE, Problem, busy

MAX_CONNECTIONS = 900  # open at the same time in a worker: the usual limit is 1024 files
MAX_CLIENT_CONNECTIONS = 128  # of these, from one client: a browser opens 6, an office shares an address
MAX_PIPELINED = 8  # requests of a connection that are sent ahead of their responses
HEADER_SECONDS = 10.0  # for the header of a request, from its first byte or from the connection's beginning
HEADER_BYTES = 32 * 1024
HEADER_FIELDS = 100  # each takes far more memory than its bytes
WRITE_SECONDS = 30.0  # for a client to take what it was sent, beyond what the system's buffers hold
FREE_PACKETS, PACKET_BYTES = 1000, 256  # a request may come in so many small packets, after which they count


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, where a connection takes only so much memory, time and work.

    - Headers have to arrive in time, and within a size that is the same however they are cut into packets.
      What stands beside the bytes of a body, such as chunk sizes and trailers, may have that size and an
      eighth of the body's, because a chunk makes the same work however small it is.
    - So does a packet: after the first FREE_PACKETS of a request, they must have PACKET_BYTES on average.
    - A client may not send many requests ahead, and has to take its responses in time.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()  # the first has or gets its response
        self._in_message = False
        # Of the piece that is parsed: whether a message begins with it, whether all its bytes are of one
        # message, and those of a body.
        self._begins_message, self._is_counted, self._piece_body = True, True, 0
        self._packets = self._fields = self._body_bytes = self._other_bytes = 0  # of the last request
        self._unread_since: float | None = None
        host, port = self.client or ("", 0)
        self.client = (unmapped(host), port)
        open_connections = self.config.app.state.connections.opened(self.client[0])  # type: ignore[union-attr]
        if open_connections > MAX_CLIENT_CONNECTIONS:
            detail = f"One address may have {MAX_CLIENT_CONNECTIONS} connections open; close some of them."
            self._refuse(Problem("rate-limited", detail, {"Retry-After": "1"}))
        elif len(self.connections) > MAX_CONNECTIONS:
            self._refuse(busy(1))
        else:
            self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_header()
        assert self.client is not None
        self.config.app.state.connections.closed(self.client[0])  # type: ignore[union-attr]
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._packets += 1
        if self._packets > FREE_PACKETS + (self._body_bytes + self._other_bytes) // PACKET_BYTES:
            self._refuse(
                Problem("bad-request", "The request comes in too many small packets; send larger ones.")
            )
        # No piece holds more than a header may have, so that one which begins within a piece obeys the limit.
        for start in range(0, len(data), HEADER_BYTES):
            if not self.transport.is_closing():
                self._parse(memoryview(data)[start : start + HEADER_BYTES])

    def cut_if_unread(self) -> None:
        """Ends the connection if its client has left what it was sent for too long; to be called often."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = time.monotonic()
        elif time.monotonic() - self._unread_since > WRITE_SECONDS:
            self.transport.abort()

    # ---- what the parser calls: a Problem that is raised here reaches `_parse`

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = True
        self._is_counted, self._begins_message, self._piece_body = self._begins_message, False, 0
        self._packets = self._fields = self._body_bytes = self._other_bytes = 0
        self._await_header()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1  # those of a trailer as well
        if self._fields > HEADER_FIELDS:
            raise Problem("long-header", f"A header may have at most {HEADER_FIELDS} fields.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_header()
        if len(self._unanswered) > MAX_PIPELINED:
            detail = f"Only {MAX_PIPELINED} requests may be sent ahead of their responses."
            raise Problem("bad-request", detail)
        super().on_headers_complete()
        self._unanswered.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._piece_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()

    def _parse(self, piece: memoryview) -> None:
        """Lets the parser see the next bytes, and refuses the request that they are of if it is too much."""
        if not self._in_message:
            self._await_header()
        self._begins_message, self._is_counted, self._piece_body = not self._in_message, True, 0
        try:
            self.parser.feed_data(piece)
            if self._is_counted:
                self._count_other_bytes(len(piece) - self._piece_body)
        except httptools.HttpParserUpgrade:
            pass  # to a protocol that is not spoken here: the request is answered in this one
        except httptools.HttpParserError as error:
            raised = error.__context__
            not_http = Problem("bad-request", "The request is not valid HTTP/1.1.")
            self._refuse(raised if isinstance(raised, Problem) else not_http)
        except Problem as problem:
            self._refuse(problem)

    def _count_other_bytes(self, size: int) -> None:
        """Counts bytes that are not of a body."""
        self._other_bytes += size
        if self._other_bytes <= HEADER_BYTES + self._body_bytes // 8:
            return
        if self._body_bytes:
            raise Problem("bad-request", "There is too much between and behind the chunks of the body.")
        raise Problem("long-header", f"A header may have at most {HEADER_BYTES // 1024} KiB.")

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._header_is_late)

    def _header_is_late(self) -> None:
        self._header_timer = None
        if self._unanswered:  # what has come is the beginning of the request after it
            self._await_header()
        else:
            self.transport.close()

    def _end_header(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _disconnect(self) -> None:
        """Lets the application know that nobody waits for its responses any more."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refuse(self, problem: Problem) -> None:
        """Answers without the application, unless it has begun to, and closes the connection."""
        self._end_header()
        if self.transport.is_closing():
            return
        state = self.config.app.state  # type: ignore[union-attr]
        state.metrics.problems.labels(problem.slug).inc()
        if not self._unanswered or not self._unanswered[0].response_started:
            self.transport.write(_response(problem, state.settings.app_root))
        self._disconnect()
        self.transport.close()


def _response(problem: Problem, app_root: str) -> bytes:
    body = json.dumps(problem.document(app_root)).encode()
    head = [
        f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
