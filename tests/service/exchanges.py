"""What tests send to the service, and what it answers."""

from typing import Any

from fovsfe.service.schemas import ProblemDocument


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("photo", ("a.jpg", data, "image/jpeg")) for data in photos]


def slug(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    document = ProblemDocument.model_validate_json(response.content)
    assert document.status == response.status_code
    assert document.request == response.headers["x-request-id"]
    return document.type.removeprefix("/problems/")
