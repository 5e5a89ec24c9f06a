import html
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fovsfe.service import api_docs
from fovsfe.service.app import create_app
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.settings import Settings

# DESIGN: every route that people and programs rely on
ROUTES = {
    ("get", "/"),
    ("post", "/"),
    ("post", "/api/predict"),
    ("get", "/api/model"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/docs"),
}


@pytest.fixture(scope="module")
def client(colours: Path) -> TestClient:
    return TestClient(create_app(colours, Settings(threads=1)))


def test_every_route_is_described_with_an_example(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    described = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(described) == ROUTES
    for operation in described.values():
        assert operation["description"]
        for response in operation["responses"].values():
            for content in response["content"].values():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"].get(name, {})
                examples = [value for value in schema.get("properties", {}).values() if "examples" in value]
                assert "example" in content or "examples" in content or "example" in schema or examples


def test_the_page_shows_all_of_it(client: TestClient) -> None:
    page = html.unescape(client.get("/docs").text)
    for method, path in ROUTES:
        assert f"<code>{method.upper()} {path}</code>" in page
    for slug, kind in PROBLEM_TYPES.items():
        assert f"/problems/{slug}" in page
        assert kind.title in page


def test_the_page_asks_nobody_else_for_anything(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "style=" not in page


def test_a_route_needs_neither_a_200_nor_an_example_nor_a_description(colours: Path) -> None:
    app = create_app(colours, Settings(threads=1))

    @app.delete("/api/photos", status_code=204)
    async def delete_photos(number: int) -> None:
        pass

    @app.get("/api/count")
    async def count() -> int:
        return 0

    app.openapi_schema = None  # it was made before these
    shown = {operation.path: operation for operation in api_docs._operations(app.openapi())}
    assert [status for status, _ in shown["/api/photos"].responses] == ["204", "422"]
    assert shown["/api/photos"].example == shown["/api/count"].example == ""
    page = TestClient(app).get("/docs")
    assert page.status_code == 200
    assert "<code>DELETE /api/photos</code>" in page.text
