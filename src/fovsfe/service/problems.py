"""Every error that the service answers with, as RFC 9457 problems with stable types."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MEDIA_TYPE = "application/problem+json"


class ProblemType(NamedTuple):
    """What all problems of a type have in common: HTTP status and English title."""

    status: int
    title: str


PROBLEM_TYPES = {
    "bad-request": ProblemType(400, "The request cannot be understood"),
    "bad-form": ProblemType(400, "The form is damaged"),
    "no-photo": ProblemType(400, "No photo was sent"),
    "upload-stopped": ProblemType(400, "The upload was interrupted"),
    "no-key": ProblemType(401, "An API key is needed"),
    "not-found": ProblemType(404, "Not found"),
    "wrong-method": ProblemType(405, "The method is not allowed here"),
    "too-slow": ProblemType(408, "The upload took too long"),
    "too-large": ProblemType(413, "The upload is too large"),
    "too-many-photos": ProblemType(413, "Too many photos at once"),
    "not-an-image": ProblemType(415, "This is not a photo"),
    "damaged-photo": ProblemType(422, "The photo cannot be read"),
    "too-many-pixels": ProblemType(422, "The photo has too many pixels"),
    "too-much-memory": ProblemType(422, "Decoding the photo takes too much memory"),
    "bad-parameter": ProblemType(422, "A parameter has a wrong value"),
    "rate-limited": ProblemType(429, "Too many requests"),
    "long-header": ProblemType(431, "The header of the request is too long"),
    "internal": ProblemType(500, "Internal error"),
    "busy": ProblemType(503, "The service is busy"),
    "long-wait": ProblemType(503, "The photo waited too long"),
    "not-ready": ProblemType(503, "The service is not ready"),
}
"""slug -> status and English title; a slug, once published, keeps its meaning"""

HOW_TO_SEND = (
    "Send the bytes of the file as they are, neither as JSON nor as Base64: as the body of the request, or "
    "in the field `photo` of a form (multipart/form-data)."
)


class Problem(Exception):
    """An error that a request, or one photo of it, is answered with."""

    def __init__(self, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """`slug` is a key of PROBLEM_TYPES; `detail` a sentence about this case, which must not repeat
        anything that a visitor sent; `headers` are added to the response."""
        super().__init__(slug, detail)
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        self.status, self.title = PROBLEM_TYPES[slug]

    def document(self, app_root: str = "") -> dict[str, Any]:
        """Returns the RFC 9457 document; `type` is the path of its explanation, under `app_root`."""
        return {
            "type": f"{app_root}/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


def busy(seconds: float) -> Problem:
    """Returns the problem for a request that finds no room now, and may in so many seconds."""
    detail = "There are more photos than the service can process right now; try again in a moment."
    return Problem("busy", detail, {"Retry-After": str(max(1, round(seconds)))})
