"""Routes of the API: predictions, the model, health and metrics. Those of the pages are in `pages`.

A new route is a function below with `@router`. If it takes photos, its path is also in
`middleware.UPLOAD_PATHS`.
"""

import base64
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from fovsfe.bundle.format import Bundle
from fovsfe.ensemble.label_sets import COVERAGE
from fovsfe.ensemble.strangers import WHY
from fovsfe.service import pages
from fovsfe.service.engine import PhotoResult
from fovsfe.service.i18n import Language
from fovsfe.service.problems import Problem
from fovsfe.service.schemas import (
    UPLOAD_BODY,
    UPLOAD_PROBLEMS,
    ModelInfo,
    PredictResponse,
    ServiceStatus,
    refusals,
    text,
)
from fovsfe.service.uploads import receive_photos
from fovsfe.service.views import label_name

router = APIRouter()


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
        bool, Query(description="Whether to draw a heat map of what influenced the answer.")
    ] = False,
) -> Response:
    """Predicts what photos show: one or more in the form's field `photo`, or one as the request body."""
    state = request.app.state
    state.api_keys.check(request.headers.get("authorization", ""))
    async with receive_photos(request, state.settings) as photos:
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
        "why": None if result.prediction.known else f"The photo {WHY}.",
        "set": None if bundle.label_sets is None else bundle.label_set_at(COVERAGE)(probabilities),
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
    """Reports whether the service takes photos: it is not stopping, and its inference threads work."""
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
