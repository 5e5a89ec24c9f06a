"""What the API takes and answers, as its OpenAPI document describes it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fovsfe.service.problems import MEDIA_TYPE, PROBLEM_TYPES, busy

Example = dict[str, Any]

_LIKELY: Example = {"label": "focus", "name": "Ford Focus", "probability": 0.93}
_PROBLEM: Example = {"type": "/problems/busy", "title": PROBLEM_TYPES["busy"].title, "status": 503}
_PROBLEM |= {"detail": busy(1).detail, "request": "7c1d9a52e80b43f6"}
_ANSWER: Example = {"label": "focus", "name": "Ford Focus", "known": True, "top": [_LIKELY]}
_ANSWER |= {"heatmap": "data:image/png;base64,iVBORw0KGgo="}


class Schema(BaseModel):
    """A JSON object that has these members and no others."""

    model_config = ConfigDict(extra="forbid")


class ProblemDocument(Schema):
    """A refusal (RFC 9457). `type` is stable, and leads to an explanation; the words may change."""

    model_config = ConfigDict(json_schema_extra={"example": _PROBLEM})

    type: str
    title: str
    status: int
    detail: str
    request: Annotated[str, Field(description="Its id, as in the log and in the header X-Request-Id.")] = ""


class LabelProbability(Schema):
    """A label, its name in the language asked for, and how likely it is."""

    label: str
    name: str
    probability: Annotated[float, Field(ge=0, le=1)]


class PhotoAnswer(Schema):
    """What a photo shows: the likeliest label, and others in their order."""

    model_config = ConfigDict(json_schema_extra={"example": _ANSWER})

    label: str
    name: str
    known: Annotated[bool, Field(description="false: it is probably none of the labels")]
    top: list[LabelProbability]
    heatmap: Annotated[
        str | None,
        Field(description="data: address of a transparent PNG to lay over the photo, where asked for"),
    ]


class PhotoProblem(Schema):
    """In place of an answer, for one of several photos."""

    problem: ProblemDocument


class PredictResponse(Schema):
    """The answers for the photos, in their order."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "f18e9ec28c34", "photos": [_ANSWER]}})

    model: Annotated[str, Field(description="the id of the bundle that answered")]
    photos: list[PhotoAnswer | PhotoProblem]


class LabelName(Schema):
    """A label, and its name in the language asked for."""

    label: str
    name: str


class MemberInfo(Schema):
    """A network of the ensemble."""

    title: str
    backbone: str
    size: Annotated[tuple[int, int], Field(description="height and width of the photos that it sees")]
    fit: Literal["pad", "squash", "crop"]


class ModelInfo(Schema):
    """What the service knows."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "f18e9ec28c34",
                "labels": [{"label": "focus", "name": "Ford Focus"}],
                "members": [
                    {"title": "small", "backbone": "mobilenetv1_100", "size": [224, 224], "fit": "pad"}
                ],
                "blend": "mean",
                "threshold": 0.5,
                "metrics": {"photos": 400, "accuracy": 0.96, "interval": [0.936, 0.975]},
            }
        }
    )

    model: Annotated[str, Field(description="the id of the bundle")]
    labels: list[LabelName]
    members: list[MemberInfo]
    blend: str
    threshold: Annotated[float, Field(description="an answer under it is known: false")]
    metrics: Annotated[dict[str, Any], Field(description="measured on photos it had not learned from")]


class ServiceStatus(Schema):
    """How the service is."""

    status: Annotated[str, Field(examples=["ready"])]


_FILE = {"type": "string", "format": "binary"}
_PHOTOS = {"type": "array", "items": _FILE, "minItems": 1}
_FORM = {"type": "object", "properties": {"photo": _PHOTOS}, "required": ["photo"]}
UPLOAD_BODY = {
    "requestBody": {
        "description": "One or several photos in the form's field `photo`, or one photo as the body, "
        "whatever its content type says.",
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/jpeg": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    }
}
"""the body of a request that brings photos"""

UPLOAD_PROBLEMS = (
    "bad-form",
    "no-photo",
    "upload-stopped",
    "too-slow",
    "too-large",
    "too-many-photos",
    "not-an-image",
    "damaged-photo",
    "too-many-pixels",
    "rate-limited",
    "busy",
    "long-wait",
)
"""the problems of a request that brings photos"""


def refusals(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, and those that any may, by status."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    responses: dict[int | str, dict[str, Any]] = {}
    for slug in (*slugs, "bad-request", "long-header", "internal"):
        status, title = PROBLEM_TYPES[slug]
        entry = responses.setdefault(
            status, {"description": title, "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}}
        )
        if title not in entry["description"]:
            entry["description"] += f"; {title[0].lower()}{title[1:]}"
        example = {"type": f"/problems/{slug}", "title": title, "status": status, "detail": "…"}
        entry["content"][MEDIA_TYPE]["examples"][slug] = {"value": example}
    return responses


def text(media_type: str, example: str) -> dict[int | str, dict[str, Any]]:
    """An answer that is not JSON."""
    content = {media_type: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": "Successful Response", "content": content}}
