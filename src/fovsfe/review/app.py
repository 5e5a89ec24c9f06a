"""The page of a review, and the requests that it sends. Only whoever was given the address may send any.

The address has a token that opens the page once; from then on a cookie does. What another page in the same
browser could send is refused: by the name of the host, which a rebound domain gives away, and by the origin.
"""

import json
import secrets
from pathlib import Path
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.review.journal import Stale
from fovsfe.review.queues import MIXED, QUEUES
from fovsfe.review.session import PressAction, Session
from fovsfe.review.thumbnails import Thumbnails
from fovsfe.service.problems import Problem
from fovsfe.service.static_files import StaticFiles

MAX_BODY = 4096  # bytes of a request: a press is a few hundred
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


class Refused(Exception):
    """A request that is not answered, with the status and one line that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Gate:
    """Lets a request pass that comes from the page, or opens it with the token."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        """`hosts`: the names, with the port, under which the page may be asked for."""
        self._app, self._hosts = app, hosts
        self.token = secrets.token_urlsafe(32)
        self._is_token_used = False
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"fovsfe-review-{hosts[0].rpartition(':')[2]}"  # cookies are of all ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        headers = HEADERS | {"Cache-Control": "no-store"}
        try:
            headers |= self._checked(request)
        except Refused as refused:
            response = PlainTextResponse(f"{refused}\n", refused.status, HEADERS)
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in headers.items()
                        if name.lower().encode() not in own
                    ),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _checked(self, request: Request) -> dict[str, str]:
        """Returns headers for the response. Raises Refused."""
        if request.headers.get("host") not in self._hosts:
            raise Refused(421, "This page is only at the address that fovsfe review has printed.")
        origin = request.headers.get("origin")
        own_origins = {f"http://{host}" for host in self._hosts}
        if origin is not None and origin not in own_origins:
            raise Refused(403, "Other pages may not ask for this.")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_foreign = site not in ("same-origin", "none") and request.url.path != "/"
        if is_foreign or (request.method not in ("GET", "HEAD") and origin is None):
            raise Refused(403, "Only the page itself may ask for this.")
        cookie = request.cookies.get(self._cookie, "")
        if secrets.compare_digest(cookie.encode(), self._session.encode()):
            return {}
        token = request.query_params.get("token", "")
        if request.url.path == "/" and secrets.compare_digest(token.encode(), self.token.encode()):
            if self._is_token_used:
                raise Refused(
                    403,
                    "This address has opened the page already, in another browser or window. Start fovsfe"
                    " review again for a new one.",
                )
            self._is_token_used = True
            return {"Set-Cookie": f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"}
        raise Refused(403, "Open the whole address that fovsfe review has printed.")


def create_app(session: Session, hosts: tuple[str, ...]) -> Gate:
    """Returns the application of a review.

    Args:
        session: the review.
        hosts: the names, with the port, under which the page may be asked for.
    """
    thumbnails, static = Thumbnails(session.photos), StaticFiles(session.photos.about)
    page = (_FOLDER / "page.html").read_text("utf-8")
    for name in ("page.css", "icon.svg"):
        page = page.replace(f'"/static/{name}"', f'"{static.path(name)}"')

    async def show_page(request: Request) -> Response:
        return Response(page, media_type="text/html")

    async def static_file(request: Request) -> Response:
        name = request.path_params["name"]
        if name in ("review.css", "review.js"):
            return Response((_FOLDER / name).read_bytes(), media_type=_MEDIA_TYPES[Path(name).suffix])
        try:
            return static.response(name, request.query_params.get("v", ""))
        except Problem as problem:
            raise Refused(404, "There is no such file.") from problem

    async def photo(request: Request) -> Response:
        row, size = request.path_params["row"], request.path_params["size"]
        jpeg = await run_in_threadpool(thumbnails.jpeg, row, size)
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def shown(queue: str, first: int | None = None, **more: object) -> Response:
        return JSONResponse({"cards": session.cards(queue, first), "state": session.state(queue), **more})

    async def start(request: Request) -> Response:
        return JSONResponse(session.start)

    async def cards(request: Request) -> Response:
        return await run_in_threadpool(shown, _queue(request.query_params.get("queue")))

    async def press(request: Request) -> Response:
        sent = await _json(request)
        row, version, queue = _number(sent, "row"), _number(sent, "version"), _queue(sent.get("queue"))
        action: Any = sent.get("action")
        if action not in get_args(PressAction):
            raise UsageError(f"there is no action {action!r}")
        label, of = str(sent.get("label", "")), _queue(sent.get("of", queue))
        pressed = await run_in_threadpool(session.press, row, version, action, label, of)
        return await run_in_threadpool(shown, queue, version=pressed)

    async def undo(request: Request) -> Response:
        sent = await _json(request)
        row, version, queue = _number(sent, "row"), _number(sent, "version"), _queue(sent.get("queue"))
        await run_in_threadpool(session.undo, row, version)
        return await run_in_threadpool(shown, queue, row)

    async def skip(request: Request) -> Response:
        sent = await _json(request)
        await run_in_threadpool(session.skip, _number(sent, "row"))
        return await run_in_threadpool(shown, _queue(sent.get("queue")))

    async def train(request: Request) -> Response:
        queue = _queue((await _json(request)).get("queue"))
        await run_in_threadpool(session.train)
        return await run_in_threadpool(shown, queue)

    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/static/{name}", static_file),
            Route("/photo/{row:int}/{size}", photo),
            Route("/api/start", start),
            Route("/api/cards", cards),
            Route("/api/press", press, methods=["POST"]),
            Route("/api/undo", undo, methods=["POST"]),
            Route("/api/skip", skip, methods=["POST"]),
            Route("/api/train", train, methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys((Refused, UsageError, Stale, FovsfeError), _refusal),
    )
    return Gate(app, hosts)


async def _refusal(request: Request, error: Exception) -> Response:
    """Returns the response for a request that has failed, with one line that says why."""
    if isinstance(error, Stale):
        return JSONResponse({"detail": f"Decided in another tab already: {error}."}, 409)
    status = error.status if isinstance(error, Refused) else 400 if isinstance(error, UsageError) else 507
    return JSONResponse({"detail": str(error)}, status)


async def _json(request: Request) -> dict[str, Any]:
    """Returns the object that a request has as its body. Raises Refused."""
    if request.headers.get("content-type") != "application/json":
        raise Refused(415, "The body must be application/json.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refused(413, "The body is too large.")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is no JSON.") from error
    if not isinstance(sent, dict):
        raise Refused(400, "The body is no object.")
    return sent


def _number(sent: dict[str, Any], name: str) -> int:
    value = sent.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(400, f"{name} must be a whole number.")
    return value


def _queue(name: object) -> str:
    if name is None:
        return MIXED
    if not isinstance(name, str) or name not in QUEUES:
        raise UsageError(f"there is no queue {name!r}")
    return name
