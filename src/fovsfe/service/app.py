"""The ASGI application: its state, the routes of the API, and how errors become responses.

A new route of the API is a function below with `@router`; one of the page is in `pages`. If it takes photos,
its path is also in `middleware.UPLOAD_PATHS`.
"""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fovsfe import __version__, machine
from fovsfe.bundle.card import licences
from fovsfe.bundle.format import BUNDLE_FILE, CARD_FILE, Bundle
from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.photos.decode_pool import PROCESS_MEMORY, ForkServer
from fovsfe.service import api_docs, pages, static_files
from fovsfe.service.admission import Admission
from fovsfe.service.api_keys import ApiKeys
from fovsfe.service.clients import Connections
from fovsfe.service.engine import NICENESS, Engine, PhotoResult
from fovsfe.service.i18n import Language, messages_about
from fovsfe.service.metrics import SHARED_FOLDER, ServiceMetrics
from fovsfe.service.middleware import RequestMiddleware
from fovsfe.service.problems import MEDIA_TYPE, Problem
from fovsfe.service.rate_limit import RateLimit
from fovsfe.service.schemas import (
    UPLOAD_BODY,
    UPLOAD_PROBLEMS,
    ModelInfo,
    PredictResponse,
    ServiceStatus,
    refusals,
    text,
)
from fovsfe.service.settings import Settings
from fovsfe.service.uploads import read_photos
from fovsfe.service.views import label_name

METHODS = ("GET", "HEAD", "POST")
"""all that any route takes; HEAD wherever GET is, which the middleware sees to"""

router = APIRouter()


def create_app(folder: Path, settings: Settings) -> FastAPI:
    """Returns the application that serves the bundle in `folder`, whose networks have made a prediction
    already.

    Its state has `settings`, `bundle`, `model` (the bundle's id), `licences` (lines of its card), `engine`,
    `metrics`, `admission`, `connections`, which the protocol counts, `api_keys`, `static_files`, and
    `stopping`, which the server sets. Raises FovsfeError if the bundle cannot be used or there is too little
    memory for it.
    """
    fork_server = ForkServer(NICENESS)  # before the networks take memory and the cores
    metrics = ServiceMetrics()
    predictor = Predictor(folder, threads=1)  # one core per worker thread of the engine
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
    app.state.bundle = predictor.bundle
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
    app.include_router(router)
    app.include_router(api_docs.router)
    app.include_router(pages.router)
    app.include_router(static_files.router)
    api_docs.complete(app)
    for error_type in (Problem, HTTPException, RequestValidationError):
        app.add_exception_handler(error_type, _error_response)

    def share(responder: ASGIApp) -> ASGIApp:
        if not settings.cors_origins:
            return responder
        return CORSMiddleware(
            responder,
            allow_origins=settings.cors_origins,
            allow_methods=METHODS,
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After", "X-Request-Id"),
        )

    app.add_middleware(RequestMiddleware, state=app.state, on_error=_error_response, share=share)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    return app


def _warm_up(predictor: Predictor) -> None:
    """Makes the runtime allocate all the memory that one worker thread is going to need."""
    photo = tuple(np.zeros((*member.size, 3), np.uint8) for member in predictor.bundle.members)
    predictor.member_probabilities([photo] * BATCH, ("plain",))
    machine.release_free_memory()


@router.post(
    "/api/predict",
    response_model=PredictResponse,
    responses=refusals("no-key", "bad-parameter", *UPLOAD_PROBLEMS),
    openapi_extra=UPLOAD_BODY,
)
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=100, description="The number of labels for each photo.")] = 5,
    heatmap: Annotated[
        bool, Query(description="Whether to draw a heat map of what the networks looked at.")
    ] = False,
) -> Response:
    """Predicts what photos show: one or more in the form's field `photo`, or one as the request body."""
    state = request.app.state
    state.api_keys.check(request.headers.get("authorization", ""))
    async with read_photos(request, state.settings) as photos:
        results = await state.engine.predict_all(photos)
    if len(results) == 1 and isinstance(results[0], Problem):
        raise results[0]
    language = pages.language_for(request)
    documents = [await _photo_document(state, result, language, top, heatmap) for result in results]
    return JSONResponse({"model": state.model, "photos": documents}, headers={"Vary": pages.VARY})


async def _photo_document(
    state: Any, result: PhotoResult | Problem, language: Language, top: int, heatmap: bool
) -> dict[str, Any]:
    """Returns the JSON object for one photo."""
    if isinstance(result, Problem):
        state.metrics.problems.labels(result.slug).inc()
        return {"problem": result.document(state.settings.app_root)}
    bundle: Bundle = state.bundle
    probabilities = result.prediction.probabilities
    most_likely = [
        {
            "label": bundle.class_names[position],
            "name": label_name(bundle.class_names[position], bundle, language),
            "probability": float(probabilities[position]),
        }
        for position in np.argsort(-probabilities, kind="stable")[:top]
    ]
    picture = await state.engine.overlay(result, int(probabilities.argmax())) if heatmap else None
    return {
        "label": most_likely[0]["label"],
        "name": most_likely[0]["name"],
        "known": result.prediction.known,
        "top": most_likely,
        "heatmap": picture and f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    }


@router.get("/api/model", response_model=ModelInfo, responses=refusals("no-key"))
async def model(request: Request) -> Response:
    """Describes the model: its labels, its networks, and how accurate they are."""
    state = request.app.state
    state.api_keys.check(request.headers.get("authorization", ""))
    bundle: Bundle = state.bundle
    language = pages.language_for(request)
    return JSONResponse(
        {
            "model": state.model,
            "labels": [
                {"label": label, "name": label_name(label, bundle, language)} for label in bundle.class_names
            ],
            "members": [
                {
                    "name": member.name,
                    "backbone": member.backbone,
                    "size": member.size,
                    "resize_mode": member.resize_mode,
                }
                for member in bundle.members
            ],
            "blend": bundle.blend.kind,
            "threshold": bundle.blend.threshold,
            "metrics": bundle.metrics,
        },
        headers={"Vary": pages.VARY},
    )


@router.get("/healthz", response_model=ServiceStatus, responses=refusals())
async def healthz() -> Response:
    """Reports that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=ServiceStatus, responses=refusals("not-ready"))
async def readyz(request: Request) -> Response:
    """Reports whether the service takes photos: it is not stopping, and its worker threads do their work."""
    state = request.app.state
    if state.stopping:
        raise Problem("not-ready", "The service is stopping.")
    state.engine.check_threads()
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=text("text/plain", "fovsfe_unknown_answers_total 1.0") | refusals("no-key"),
)
async def prometheus_metrics(request: Request) -> Response:
    """Exposes the metrics in the text format of Prometheus."""
    state = request.app.state
    state.api_keys.check(request.headers.get("authorization", ""))
    return Response(state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


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
