"""The ASGI application: what the service answers to."""

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
from starlette.routing import Match
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fovsfe import __version__, machine
from fovsfe.bundle.card import licences
from fovsfe.bundle.format import CARD, FILE, Bundle
from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.service import api_docs, pages
from fovsfe.service.engine import Engine, PhotoResult
from fovsfe.service.i18n import Language
from fovsfe.service.limits import Keys, RateLimit, Uploads
from fovsfe.service.metrics import SHARED, ServiceMetrics
from fovsfe.service.middleware import RequestMiddleware
from fovsfe.service.problems import MEDIA_TYPE, Problem
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

router = APIRouter()


def create_app(folder: Path, settings: Settings) -> FastAPI:
    """The application that serves the bundle in `folder`, which has made its first prediction already.

    In its state: `settings`, `bundle`, `model` (the bundle's id), `licences` (lines of its card), `engine`,
    `metrics`, `uploads`, `rate`, `keys`, and `stopping`, which the server sets. Raises FovsfeError where the
    bundle cannot be used, or there is too little memory for it.
    """
    metrics = ServiceMetrics()
    predictor = Predictor(folder, threads=1)  # a core for each of the engine's threads
    loaded = machine.held()
    _warm_up(predictor)
    warm, memory = machine.held(), machine.memory()
    settings = settings.with_threads(memory, warm, each=warm - loaded)
    settings = settings.with_memory(memory, warm + (settings.threads - 1) * (warm - loaded))
    engine = Engine(predictor, settings, metrics)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        engine.stop()

    app = FastAPI(
        title="Ford vs Ferrari",
        summary="Tells from a photo which car it is.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=running,
    )
    app.state.settings, app.state.metrics, app.state.engine = settings, metrics, engine
    app.state.bundle = predictor.bundle
    app.state.model = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()[:12]
    app.state.licences = licences((folder / CARD).read_text("utf-8")) if (folder / CARD).is_file() else []
    app.state.uploads = Uploads(settings.upload_memory, settings.queue_seconds / 2)
    among = os.environ.get(SHARED)
    app.state.rate = RateLimit(settings.rate_limit, Path(among) / "rate" if among else None)
    app.state.keys = Keys(settings.api_keys)
    app.state.stopping = False
    app.include_router(router)
    app.include_router(api_docs.router)
    app.include_router(pages.router)
    api_docs.complete(app)
    for kind in (Problem, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refuse)
    app.add_middleware(RequestMiddleware, state=app.state, refuse=_refuse)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    return app


def _warm_up(predictor: Predictor) -> None:
    """Afterwards the runtime holds all the memory that one thread is going to need."""
    photo = tuple(np.zeros((*member.size, 3), np.uint8) for member in predictor.bundle.members)
    predictor.probabilities([photo] * BATCH, ("plain",))
    machine.give_back()


@router.post(
    "/api/predict",
    response_model=PredictResponse,
    responses=refusals("no-key", "bad-parameter", *UPLOAD_PROBLEMS),
    openapi_extra=UPLOAD_BODY,
)
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=100, description="How many labels for each photo.")] = 5,
    heatmap: Annotated[bool, Query(description="Whether to show where the networks looked.")] = False,
) -> Response:
    """Tells which cars photos show: one or several in the form's field `photo`, or one as the body."""
    state = request.app.state
    state.keys.check(request.headers.get("authorization", ""))
    async with read_photos(request, state.settings) as sent:
        replies = await state.engine.answers(sent)
    if len(replies) == 1 and isinstance(replies[0], Problem):
        raise replies[0]
    language = pages.language_for(request)
    photos = [await _photo(state, reply, language, top, heatmap) for reply in replies]
    return JSONResponse({"model": state.model, "photos": photos})


async def _photo(
    state: Any, reply: PhotoResult | Problem, language: Language, top: int, heatmap: bool
) -> dict[str, Any]:
    if isinstance(reply, Problem):
        state.metrics.refusals.labels(reply.slug).inc()
        return {"problem": reply.document(state.settings.app_root)}
    bundle: Bundle = state.bundle
    probabilities = reply.answer.probabilities
    likeliest = [
        {
            "label": bundle.class_names[place],
            "name": pages.name_of(bundle.class_names[place], bundle, language),
            "probability": float(probabilities[place]),
        }
        for place in np.argsort(-probabilities, kind="stable")[:top]
    ]
    picture = await state.engine.overlay(reply, int(probabilities.argmax())) if heatmap else None
    return {
        "label": likeliest[0]["label"],
        "name": likeliest[0]["name"],
        "known": reply.answer.known,
        "top": likeliest,
        "heatmap": picture and f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    }


@router.get("/api/model", response_model=ModelInfo, responses=refusals("no-key"))
async def model(request: Request) -> Response:
    """Tells what the service knows, by which networks, and how often they were right."""
    state = request.app.state
    state.keys.check(request.headers.get("authorization", ""))
    bundle: Bundle = state.bundle
    language = pages.language_for(request)
    return JSONResponse(
        {
            "model": state.model,
            "labels": [
                {"label": label, "name": pages.name_of(label, bundle, language)}
                for label in bundle.class_names
            ],
            "members": [
                {"title": member.title, "backbone": member.backbone, "size": member.size, "fit": member.fit}
                for member in bundle.members
            ],
            "blend": bundle.blend.kind,
            "threshold": bundle.blend.threshold,
            "metrics": bundle.metrics,
        }
    )


@router.get("/healthz", response_model=ServiceStatus, responses=refusals())
async def healthz() -> Response:
    """Tells that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=ServiceStatus, responses=refusals("not-ready"))
async def readyz(request: Request) -> Response:
    """Tells whether to send photos: the networks have made a prediction, and the service is not stopping."""
    if request.app.state.stopping:
        raise Problem("not-ready", "The service is stopping.")
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=text("text/plain", "fovsfe_unknown_answers_total 1.0"),
)
async def show_metrics(request: Request) -> Response:
    """Tells Prometheus what has been counted."""
    return Response(request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _refuse(request: Request, error: BaseException) -> Response:
    """Any refusal: a page for a browser, a problem document for a program."""
    problem = _problem(request, error)
    # They keep what the handler held, the upload itself, until a slow sender has taken the answer.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    state = request.app.state
    state.metrics.refusals.labels(problem.slug).inc()
    for_programs = request.scope["path"].startswith(f"{state.settings.app_root}/api/")
    if not for_programs and "text/html" in request.headers.get("accept", ""):
        return pages.problem_page(request, problem)
    document = problem.document(state.settings.app_root) | {"request": request.state.request_id}
    return JSONResponse(document, problem.status, problem.headers, MEDIA_TYPE)


def _problem(request: Request, error: BaseException) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        fault = error.errors()[0]
        return Problem("bad-parameter", f"{fault['loc'][-1]}: {fault['msg']}.")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return Problem("not-found", "Nothing has this address.")
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = {"Allow": ", ".join(_methods(request))}
        return Problem("wrong-method", "The header Allow tells what can be done here.", allow)
    return Problem("internal", "It is noted. Try again, or with another photo.")


def _methods(request: Request) -> list[str]:
    """Of all routes with the request's path; the framework tells those of the first one only."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})
