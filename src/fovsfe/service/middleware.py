"""What every request passes on its way in and every answer on its way out, whatever the route."""

import asyncio
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

Refuse = Callable[[Request, BaseException], Awaitable[Response]]

UPLOAD_PATHS = ("/", "/api/predict")
AT_ONCE = 64 * 1024  # bytes of a body that has come with its header, or is about to
MOMENT = 0.02  # seconds
LINGER_SECONDS = 2.0
LINGER_BYTES = 32 * 1024 * 1024

_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class RequestMiddleware:
    """ASGI middleware: request ids, security headers, the log, the metrics, and how an upload is cut.

    Uploads for which the queue has no room are refused here, where it costs least. A request that is answered
    before it has been read to its end gets its answer at once. Then what the sender has under way is thrown
    away for a moment, since a connection closed at once could take the answer with it, and then the
    connection is closed.
    """

    def __init__(self, app: ASGIApp, state: State, refuse: Refuse) -> None:
        """`refuse` answers where `app` raises. Once `state.stopping`, an answer is its connection's last."""
        self._app = app
        self._state = state
        self._metrics: ServiceMetrics = state.metrics
        self._root: str = state.settings.app_root
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root:
            self._put_under_root(scope)
        passage = RequestContext(scope, receive, send, self._state.stopping)
        started = time.perf_counter()
        try:
            if scope["method"] == "POST" and self._path(scope) in UPLOAD_PATHS:
                self._state.engine.check_room(1)
            await self._app(scope, passage.receive, passage.send)
        except (Exception, asyncio.CancelledError) as error:  # cancelled: there is no more time to stop
            if isinstance(error, Problem):  # there is no room
                await passage.take_short_body()
            else:
                logs.fault(error, request=passage.id)
            if not passage.status:
                answer = await self._refuse(Request(scope), error)
                await answer(scope, passage.receive, passage.send)
        finally:
            self._note(scope, passage, time.perf_counter() - started)

    def _put_under_root(self, scope: Scope) -> None:
        """A path as it was before the proxy, which may or may not have taken the prefix away."""
        path = scope["path"]
        scope["root_path"] = self._root
        if not path.startswith(f"{self._root}/"):
            scope["path"] = self._root + (path if path != self._root else "/")

    def _path(self, scope: Scope) -> str:
        """Under the root."""
        path: str = scope["path"]
        return path.removeprefix(self._root)

    def _note(self, scope: Scope, passage: "RequestContext", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # not the path: a visitor wrote it
        if passage.status == 503 and self._path(scope) in UPLOAD_PATHS:
            route = self._path(scope)  # it was refused before it came to its route
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self._metrics.requests.labels(route, method, str(passage.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        logs.event(
            "request",
            request=passage.id,
            method=method,
            route=route,
            status=passage.status,
            ms=round(seconds * 1000, 1),
        )


class RequestContext:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, last: bool) -> None:
        headers = Headers(scope=scope)
        self.id = secrets.token_hex(8)
        self.status = 0
        self._receive, self._send = receive, send
        length = headers.get("content-length", "0")
        chunked = "transfer-encoding" in headers
        self._unread = length != "0" or chunked
        self._comes_at_once = not chunked and length.isdecimal() and int(length) <= AT_ONCE
        self._last = last
        scope.setdefault("state", {})["request_id"] = self.id

    async def take_short_body(self) -> None:
        """Throws it away before the answer, after which the connection can then be kept."""
        if self._unread and self._comes_at_once:
            await self._linger(MOMENT)

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.id.encode()), *_HEADERS]
            if self._unread or self._last:
                message["headers"].append((b"connection", b"close"))
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger(LINGER_SECONDS)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self, seconds: float) -> None:
        """Throws away what comes, until the body's end or for so long."""
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while self._unread and size < LINGER_BYTES:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
