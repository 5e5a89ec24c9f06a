"""Every way to be refused, as RFC 9457 problems with stable types."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """What all problems of a type have in common."""

    status: int
    title: str


KINDS = {
    "bad-request": Kind(400, "The request cannot be understood"),
    "bad-form": Kind(400, "The form is damaged"),
    "no-photo": Kind(400, "No photo was sent"),
    "upload-stopped": Kind(400, "The upload stopped before its end"),
    "no-key": Kind(401, "An API key is needed"),
    "not-found": Kind(404, "There is nothing here"),
    "wrong-method": Kind(405, "This cannot be done here"),
    "too-slow": Kind(408, "The upload took too long"),
    "too-large": Kind(413, "The upload is too large"),
    "too-many-photos": Kind(413, "Too many photos at once"),
    "not-an-image": Kind(415, "This is not a photo"),
    "damaged-photo": Kind(422, "The photo cannot be read"),
    "too-many-pixels": Kind(422, "The photo has too many pixels"),
    "bad-parameter": Kind(422, "A parameter has a wrong value"),
    "rate-limited": Kind(429, "Too many requests"),
    "long-header": Kind(431, "The request's header is too long"),
    "internal": Kind(500, "Something went wrong here"),
    "busy": Kind(503, "Too many visitors at this moment"),
    "long-wait": Kind(503, "The photo waited too long"),
    "not-ready": Kind(503, "The service is not ready"),
}
"""slug -> status and English title; a slug, once published, keeps its meaning"""


class Problem(Exception):
    """A refusal.

    `slug` is a key of KINDS, `detail` a sentence about this very case that repeats nothing a visitor sent,
    `headers` go with the answer.
    """

    def __init__(self, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(slug, detail)
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        self.status, self.title = KINDS[slug]

    def document(self, app_root: str = "") -> dict[str, Any]:
        """The members of the RFC 9457 document; `type` is a path under `app_root`, where it is explained."""
        return {
            "type": f"{app_root}/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


def busy(seconds: float) -> Problem:
    """The service has more to do than it can, and says so at once; it may be better in so many seconds."""
    detail = "More photos wait than can be answered soon; try again in a moment."
    return Problem("busy", detail, {"Retry-After": str(max(1, round(seconds)))})
