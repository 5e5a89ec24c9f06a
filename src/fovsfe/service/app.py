"""The ASGI application: its state, and how errors become responses. The routes are in `routes` and `pages`,
whose routers are included here."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fovsfe import __version__, machine
from fovsfe.bundle.card import licences
from fovsfe.bundle.format import BUNDLE_FILE, CARD_FILE
from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.photos.decode_pool import PROCESS_MEMORY, ForkServer
from fovsfe.service import api_docs, pages, routes, static_files
from fovsfe.service.admission import Admission
from fovsfe.service.api_keys import ApiKeys
from fovsfe.service.clients import Connections
from fovsfe.service.engine import NICENESS, Engine
from fovsfe.service.i18n import messages_about
from fovsfe.service.metrics import SHARED_FOLDER, ServiceMetrics
from fovsfe.service.middleware import RequestMiddleware
from fovsfe.service.problems import MEDIA_TYPE, Problem
from fovsfe.service.rate_limit import RateLimit
from fovsfe.service.settings import Settings

METHODS = ("GET", "HEAD", "POST")
"""all that any route takes; HEAD wherever GET is, which the middleware sees to"""


def create_app(folder: Path, settings: Settings) -> FastAPI:
    """Returns the application that serves the bundle in `folder`, whose networks have made a prediction
    already.

    Its state has `settings`, `bundle`, `folder` (where it is), `model` (the bundle's id), `licences`
    (lines of its card), `engine`, `metrics`, `admission`, `connections`, which the protocol counts,
    `api_keys`, `static_files`, and `stopping`, which the server sets. Raises FovsfeError if the bundle cannot
    be used or there is too little memory for it.
    """
    fork_server = ForkServer(NICENESS)  # before the networks take memory and the cores
    metrics = ServiceMetrics()
    predictor = Predictor(folder, threads=1)  # one core per inference thread of the engine
    loaded = machine.process_memory()
    _warm_up(predictor)
    warm, memory = machine.process_memory(), machine.memory()
    used, per_thread = warm + fork_server.memory + PROCESS_MEMORY, warm - loaded + PROCESS_MEMORY
    settings = settings.with_threads(memory, used, per_thread)
    settings = settings.with_memory(memory, used + (settings.threads - 1) * per_thread)
    engine = Engine(predictor, settings, metrics, fork_server)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)  # while the last responses are sent

    messages = messages_about(predictor.bundle.about, "en")
    app = FastAPI(
        title=messages["title"],
        summary=messages["intro"],
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.settings, app.state.metrics, app.state.engine = settings, metrics, engine
    app.state.bundle, app.state.folder = predictor.bundle, folder
    app.state.model = hashlib.sha256((folder / BUNDLE_FILE).read_bytes()).hexdigest()[:12]
    app.state.licences = (
        licences((folder / CARD_FILE).read_text("utf-8")) if (folder / CARD_FILE).is_file() else []
    )
    shared = os.environ.get(SHARED_FOLDER)
    rate_limit = RateLimit(settings.rate_limit, Path(shared) / "rate" if shared else None)
    app.state.admission = Admission(
        settings.upload_memory, settings.queue_seconds / 2, rate_limit, engine.check_capacity
    )
    app.state.connections = Connections(settings.trusted_proxies)
    app.state.api_keys = ApiKeys(settings.api_keys)
    app.state.static_files = static_files.StaticFiles(predictor.bundle.about)
    app.state.stopping = False
    app.include_router(routes.router)
    app.include_router(api_docs.router)
    app.include_router(pages.router)
    app.include_router(static_files.router)
    api_docs.complete(app)
    for error_type in (Problem, HTTPException, RequestValidationError):
        app.add_exception_handler(error_type, _error_response)

    def with_cors(responder: ASGIApp) -> ASGIApp:
        if not settings.cors_origins:
            return responder
        return CORSMiddleware(
            responder,
            allow_origins=settings.cors_origins,
            allow_methods=METHODS,
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After", "X-Request-Id"),
        )

    app.add_middleware(RequestMiddleware, state=app.state, on_error=_error_response, with_cors=with_cors)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    return app


def _warm_up(predictor: Predictor) -> None:
    """Makes the runtime allocate all the memory that one inference thread is going to need."""
    photo = tuple(np.zeros((*member.size, 3), np.uint8) for member in predictor.bundle.members)
    predictor.member_probabilities([photo] * BATCH, ("plain",))
    machine.release_free_memory()


async def _error_response(request: Request, error: BaseException) -> Response:
    """Returns the response for any error: a page for a browser, a problem document for a program."""
    problem = _problem(request, error)
    # They keep what the handler held, the upload itself, until a slow client has received the response.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    state = request.app.state
    state.metrics.problems.labels(problem.slug).inc()
    is_api = request.scope["path"].startswith(f"{state.settings.app_root}/api/")
    if not is_api and "text/html" in request.headers.get("accept", ""):
        response = pages.problem_page(request, problem)
        response.headers["Vary"] = f"Accept, {pages.VARY}"
        return response
    document = problem.document(state.settings.app_root) | {"request": request.state.request_id}
    headers = problem.headers if is_api else problem.headers | {"Vary": "Accept"}
    return JSONResponse(document, problem.status, headers, MEDIA_TYPE)


def _problem(request: Request, error: BaseException) -> Problem:
    """Returns the problem that an exception is to visitors."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        detail = error.errors()[0]
        return Problem("bad-parameter", f"{detail['loc'][-1]}: {detail['msg']}.")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return Problem("not-found", "There is nothing at this address.")
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = {"Allow": ", ".join(_allowed_methods(request))}
        return Problem("wrong-method", "The header Allow lists the methods that work here.", allow)
    return Problem("internal", "The error has been logged. Try again, or with another photo.")


def _allowed_methods(request: Request) -> list[str]:
    """Returns the methods that work at the request's path; the framework looks at the first route only."""

    def works(method: str) -> bool:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if works(method)]
