"""The page that documents the API, made from its OpenAPI document and without scripts from elsewhere."""

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
    "/api/predict": 'curl -F photo=@one.jpg -F photo=@two.jpg "$URL/api/predict?top=3"\n'
    'curl --data-binary @one.jpg "$URL/api/predict"'
}


@dataclass(frozen=True)
class _Operation:
    """One route of the API with one method, as the page shows it."""

    method: str
    path: str
    description: str
    parameters: list[dict[str, Any]]
    curl: str
    responses: list[tuple[str, str]]
    example: str


@router.get("/docs", response_class=HTMLResponse, responses=text("text/html", "<!doctype html> …"))
async def docs(request: Request) -> Response:
    """Shows this description of the API as a page."""
    app: FastAPI = request.app
    operations = list(_operations(app.openapi()))
    keys = bool(app.state.settings.api_keys)
    return pages.page(request, "docs.html", operations=operations, problem_types=PROBLEM_TYPES, keys=keys)


def complete(app: FastAPI) -> None:
    """Adds the start page with its form, and the key that some routes need, to the OpenAPI document."""
    document, html = app.openapi(), text("text/html", "<!doctype html> …")
    document["paths"]["/"] = {
        "get": {"summary": "Page", "description": "The start page, for people.", "responses": _by_text(html)},
        "post": {
            "summary": "Form",
            "description": "The form of the start page, also without JavaScript: the page with the results.",
            **UPLOAD_BODY,
            "responses": _by_text(html | refusals(*UPLOAD_PROBLEMS)),
        },
    }
    if not app.state.settings.api_keys:
        return
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        if path.startswith("/api/") or path == "/metrics":
            for operation in methods.values():
                operation["security"] = [{"key": []}]


def _by_text(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns responses by their status as text, which JSON wants."""
    return {str(status): response for status, response in responses.items()}


def _operations(document: dict[str, Any]) -> Iterator[_Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            responses = operation["responses"]
            yield _Operation(
                method=method.upper(),
                path=path,
                description=operation.get("description", ""),
                parameters=operation.get("parameters", []),
                curl=_CURL.get(path, f'curl "$URL{path}"'),
                responses=[(status, response["description"]) for status, response in responses.items()],
                example=_example(document, responses.get("200", {}).get("content", {})),
            )


def _example(document: dict[str, Any], contents: dict[str, Any]) -> str:
    """Returns the example of a response, by media type, or of its schema; "" if it has none."""
    content: dict[str, Any] = next(iter(contents.values()), {})
    if "example" in content:
        return str(content["example"])
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    schema = document["components"]["schemas"].get(name, {})
    example = schema.get("example") or {
        key: value["examples"][0]
        for key, value in schema.get("properties", {}).items()
        if value.get("examples")
    }
    return json.dumps(example, indent=2, ensure_ascii=False) if example else ""
