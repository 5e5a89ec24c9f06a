"""What every request needs, whatever its route: id, security headers, log, metrics, early refusal."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, State
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fovsfe.service import logs
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import Problem

ErrorHandler = Callable[[Request, BaseException], Awaitable[Response]]

UPLOAD_PATHS = ("/", "/api/predict")
"""the routes that take uploads, which a full queue refuses before they are routed; every one must be here"""
SHORT_BODY = 64 * 1024  # bytes: such a body has come with its header, or is about to
SHORT_BODY_SECONDS = 0.02
DISCARD_SECONDS = 2.0
DISCARD_BYTES = 32 * 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class RequestMiddleware:
    """ASGI middleware for request ids, security headers, the log, the metrics, and the end of connections.

    While the queue is full, uploads are refused here, where it costs least. A request that is answered before
    its body was read gets the answer at once. What its sender still sends is then discarded for a moment,
    because closing the connection at once could destroy the answer on its way, and the connection is closed.
    """

    def __init__(
        self, app: ASGIApp, state: State, on_error: ErrorHandler, with_cors: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        """`on_error` makes the response for what `app` raises; `with_cors` adds the headers that let pages of
        other sites read the responses of an application. While `state.stopping`, every response closes its
        connection."""
        self._app = with_cors(app)
        self._with_cors = with_cors
        self._state = state
        self._metrics: ServiceMetrics = state.metrics
        self._root: str = state.settings.app_root
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root:
            self._restore_prefix(scope)
        context = RequestContext(scope, receive, send, self._state.stopping)
        started = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":  # answered as GET; the server, which has the first scope, leaves the body out
            scope = {**scope, "method": "GET"}
        try:
            if _CONTROL.search(scope["path"]):  # a proxy's rules and the routes may read it differently
                raise Problem("bad-request", "The path has a control character.")
            if scope["method"] == "POST" and self._path(scope) in UPLOAD_PATHS:
                self._state.admission.check_queue()
            await self._app(scope, context.receive, context.send)
        except (Exception, asyncio.CancelledError) as error:  # cancelled: the time to stop is over
            if isinstance(error, Problem):  # of those above; the application handles its own
                await context.discard_short_body()
            else:
                logs.exception(error, request=context.id)
            if not context.status:
                response = await self._on_error(Request(scope), error)
                await self._with_cors(response)(scope, context.receive, context.send)
        finally:
            self._record(scope, method, context, time.perf_counter() - started)

    def _restore_prefix(self, scope: Scope) -> None:
        """Makes the path what the visitor asked for, whether or not the proxy has removed the prefix."""
        path = scope["path"]
        scope["root_path"] = self._root
        if not path.startswith(f"{self._root}/"):
            scope["path"] = self._root + (path if path != self._root else "/")

    def _path(self, scope: Scope) -> str:
        """Returns the path without the prefix."""
        path: str = scope["path"]
        return path.removeprefix(self._root)

    def _record(self, scope: Scope, method: str, context: "RequestContext", seconds: float) -> None:
        """Writes a request to the metrics and the log."""
        route = getattr(scope.get("route"), "path", "other")  # not the path, which a visitor wrote
        if context.status == 503 and self._path(scope) in UPLOAD_PATHS:
            route = self._path(scope)  # it was refused before it was routed
        method = method if method in ("GET", "HEAD", "POST") else "other"
        self._metrics.requests.labels(route, method, str(context.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        logs.event(
            "request",
            request=context.id,
            method=method,
            route=route,
            status=context.status,
            ms=round(seconds * 1000, 1),
        )


class RequestContext:
    """One request and its response, between the server and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, close: bool) -> None:
        """`close`: whether the connection is to be closed after the response in any case."""
        headers = Headers(scope=scope)
        self.id = secrets.token_hex(8)
        self.status = 0  # of the response, once it has begun
        self._receive, self._send = receive, send
        length = headers.get("content-length", "0")
        chunked = "transfer-encoding" in headers
        self._unread = length != "0" or chunked
        self._is_short = not chunked and length.isdecimal() and int(length) <= SHORT_BODY
        self._close = close
        scope.setdefault("state", {})["request_id"] = self.id

    async def discard_short_body(self) -> None:
        """Reads a short body before the response, so that the connection can be kept open."""
        if self._unread and self._is_short:
            await self._discard(SHORT_BODY_SECONDS)

    async def receive(self) -> Message:
        """The `receive` of ASGI."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """The `send` of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.id.encode()),
                *_SECURITY_HEADERS,
            ]
            if self._unread or self._close:
                message["headers"].append((b"connection", b"close"))
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard(DISCARD_SECONDS)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard(self, seconds: float) -> None:
        """Reads the body to its end, or for so long."""
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while self._unread and size < DISCARD_BYTES:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
