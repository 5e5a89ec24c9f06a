"""The page that shows the API, made from its OpenAPI document, without anyone else's scripts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from fovsfe.service import pages
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.schemas import UPLOAD_BODY, UPLOAD_PROBLEMS, refusals, text

router = APIRouter()

_CURL = {
    "/api/predict": 'curl -F photo=@car.jpg -F photo=@other.jpg "$URL/api/predict?top=3"\n'
    'curl --data-binary @car.jpg "$URL/api/predict"'
}


@dataclass(frozen=True)
class _Operation:
    method: str
    path: str
    what: str
    parameters: list[dict[str, Any]]
    curl: str
    answers: list[tuple[str, str]]
    example: str


@router.get("/docs", response_class=HTMLResponse, responses=text("text/html", "<!doctype html> …"))
async def docs(request: Request) -> Response:
    """The API for people: this description as a page."""
    app: FastAPI = request.app
    operations = list(_operations(app.openapi()))
    keys = bool(app.state.settings.api_keys)
    return pages.page(request, "docs.html", 200, {}, operations=operations, kinds=PROBLEM_TYPES, keys=keys)


def complete(app: FastAPI) -> None:
    """Adds to the OpenAPI document the page's form, and the key that /api/ asks for."""
    document, html = app.openapi(), text("text/html", "<!doctype html> …")
    document["paths"]["/"] = {
        "get": {"summary": "Page", "description": "The page for people.", "responses": _by_text(html)},
        "post": {
            "summary": "Form",
            "description": "The page's form, also without JavaScript: the page again, with the answers.",
            **UPLOAD_BODY,
            "responses": _by_text(html | refusals(*UPLOAD_PROBLEMS)),
        },
    }
    if not app.state.settings.api_keys:
        return
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        if path.startswith("/api/"):
            for operation in methods.values():
                operation["security"] = [{"key": []}]


def _by_text(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(status): response for status, response in responses.items()}


def _operations(document: dict[str, Any]) -> Iterator[_Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            content = next(iter(answers["200"]["content"].items()))
            yield _Operation(
                method=method.upper(),
                path=path,
                what=operation["description"],
                parameters=operation.get("parameters", []),
                curl=_CURL.get(path, f'curl "$URL{path}"'),
                answers=[(status, answer["description"]) for status, answer in answers.items()],
                example=_example(document, *content),
            )


def _example(document: dict[str, Any], media_type: str, content: dict[str, Any]) -> str:
    if "example" in content:
        return str(content["example"])
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    example = schema.get("example") or {
        key: value["examples"][0] for key, value in schema["properties"].items()
    }
    return json.dumps(example, indent=2, ensure_ascii=False)
