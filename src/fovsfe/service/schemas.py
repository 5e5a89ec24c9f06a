"""The requests and responses of the API, as its OpenAPI document describes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fovsfe.service.problems import MEDIA_TYPE, PROBLEM_TYPES, busy

Example = dict[str, Any]

_LABEL: Example = {"label": "label-a", "name": "Label A"}
_TOP_LABEL: Example = {**_LABEL, "probability": 0.93}
_PROBLEM: Example = {"type": "/problems/busy", "title": PROBLEM_TYPES["busy"].title, "status": 503}
_PROBLEM |= {"detail": busy(1).detail, "request": "7c1d9a52e80b43f6"}
_PHOTO: Example = {
    **_LABEL,
    "known": True,
    "why": None,
    "set": ["label-a"],
    "top": [_TOP_LABEL],
    "heatmap": "data:image/png;base64,iVBORw0KGgo=",
}


class Schema(BaseModel):
    """A JSON object that has these members and no others."""

    model_config = ConfigDict(extra="forbid")


class ProblemDocument(Schema):
    """A problem (RFC 9457). `type` is stable and leads to an explanation; the wording may change."""

    model_config = ConfigDict(json_schema_extra={"example": _PROBLEM})

    type: str
    title: str
    status: int
    detail: str
    request: Annotated[
        str, Field(description="The id of the request, as in the log and in the header X-Request-Id.")
    ] = ""


class LabelProbability(Schema):
    """A label, its name in the requested language, and its probability."""

    label: str
    name: str
    probability: Annotated[float, Field(ge=0, le=1)]


class PhotoPrediction(Schema):
    """What a photo shows: the most likely label, and the next ones in descending order."""

    model_config = ConfigDict(json_schema_extra={"example": _PHOTO})

    label: str
    name: str
    known: Annotated[bool, Field(description="Whether it is probably one of the labels at all.")]
    why: Annotated[str | None, Field(description="Why it is not known; null if it is.")]
    set: Annotated[
        list[str] | None,
        Field(
            description="The most likely labels, as few as hold the true one for 95% of photos that show one"
            " of them; null if the bundle cannot tell."
        ),
    ]
    top: list[LabelProbability]
    heatmap: Annotated[
        str | None,
        Field(description="A data URL of a transparent PNG to lay over the photo, if requested."),
    ]


class PhotoProblem(Schema):
    """Takes the place of a prediction for one of several photos that cannot be read."""

    problem: ProblemDocument


class PredictResponse(Schema):
    """The predictions for the photos, in their order."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "f18e9ec28c34", "photos": [_PHOTO]}})

    model: Annotated[str, Field(description="The id of the bundle that made them.")]
    photos: list[PhotoPrediction | PhotoProblem]


class LabelName(Schema):
    """A label, and its name in the requested language."""

    label: str
    name: str


class MemberInfo(Schema):
    """A member of the ensemble."""

    name: str
    backbone: str
    size: Annotated[
        tuple[int, int], Field(description="Height and width in pixels of the photos that it takes.")
    ]
    resize_mode: Literal["pad", "squash", "crop"]


class ModelInfo(Schema):
    """The model that the service runs."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "f18e9ec28c34",
                "labels": [_LABEL],
                "members": [
                    {"name": "small", "backbone": "mobilenetv1_100", "size": [224, 224], "resize_mode": "pad"}
                ],
                "blend": "mean",
                "metrics": {"photos": 400, "accuracy": 0.96, "interval": [0.936, 0.975]},
            }
        }
    )

    model: Annotated[str, Field(description="The id of the bundle.")]
    labels: list[LabelName]
    members: list[MemberInfo]
    blend: str
    metrics: Annotated[
        dict[str, Any], Field(description="Measured on photos that the networks were not trained on.")
    ]


class ServiceStatus(Schema):
    """The state of the service."""

    status: Annotated[str, Field(examples=["ready"])]


_FILE = {"type": "string", "format": "binary"}
_PHOTOS = {"type": "array", "items": _FILE, "minItems": 1}
_FORM = {"type": "object", "properties": {"photo": _PHOTOS}, "required": ["photo"]}
UPLOAD_BODY = {
    "requestBody": {
        "description": "One or more photos in the form's field `photo`, or one photo as the body, "
        "whatever its content type says.",
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/jpeg": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    }
}
"""the body of a request with photos, for OpenAPI"""

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
    "too-much-memory",
    "rate-limited",
    "busy",
    "long-wait",
)
"""the problems that a request with photos may get"""


def refusals(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """Returns the problems that a route may answer with, and those that every route may, by status, for
    OpenAPI."""
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
    """Returns a response that is not JSON, for OpenAPI."""
    content = {media_type: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": "Successful Response", "content": content}}
