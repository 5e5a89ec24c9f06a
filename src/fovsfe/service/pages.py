"""The pages for people: a photo goes in by a form and comes back with the answer, also without JavaScript."""

import hashlib
import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from PIL import Image

from fovsfe.bundle.format import Bundle
from fovsfe.photos.decode import FORMATS
from fovsfe.service.engine import Engine, PhotoResult
from fovsfe.service.i18n import (
    AGAIN,
    LANGUAGE_NAMES,
    MESSAGES,
    PROBLEMS,
    Language,
    language_of,
    megabytes,
    number,
    percent,
)
from fovsfe.service.problems import PROBLEM_TYPES, Problem
from fovsfe.service.settings import Settings
from fovsfe.service.uploads import read_photos

TOP = 5
THUMBNAIL = 720  # pixels of the longest side
YEAR = 365 * 24 * 3600

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATIC = {file.name: file.read_bytes() for file in (_HERE / "static").iterdir()}
_HASHES = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in _STATIC.items()}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Photo:
    """A photo made small, as the page shows it."""

    address: str
    width: int
    height: int


@dataclass(frozen=True)
class TopLabel:
    """A label and its probability."""

    name: str
    probability: float
    percent: str


@dataclass(frozen=True)
class ProblemView:
    """A problem in a visitor's words."""

    slug: str
    status: int | None
    title: str
    cure: str
    again: bool


@dataclass(frozen=True)
class PhotoCard:
    """What the page says of one photo; with a `problem`, nothing but that."""

    of: str = ""
    name: str = ""
    known: bool = True
    top: tuple[TopLabel, ...] = (TopLabel("", 0.0, ""),)
    photo: Photo | None = None
    heatmap: str | None = ""
    problem: ProblemView | None = None


@router.api_route("/", methods=["GET", "HEAD"])
async def start(request: Request) -> Response:
    """The page: a form for photos, and what it can tell."""
    return _start(request, [])


@router.post("/")
async def ask(request: Request) -> Response:
    """The same page with the answers for the form's photos. Raises Problem."""
    state = request.app.state
    async with read_photos(request, state.settings) as photos:
        replies = await state.engine.answers(photos)
        if len(replies) == 1 and isinstance(replies[0], Problem):
            raise replies[0]
        cards, language = [], language_for(request)
        for position, (data, reply) in enumerate(zip(photos, replies, strict=True), start=1):
            of = MESSAGES[language]["photo_number"].format(number=position) if len(photos) > 1 else ""
            if isinstance(reply, Problem):
                state.metrics.refusals.labels(reply.slug).inc()
                cards.append(PhotoCard(of, problem=_trouble(reply.slug, language, state.settings)))
            else:
                cards.append(await _answered(request, of, data, reply))
    return _start(request, cards)


@router.api_route("/about", methods=["GET", "HEAD"])
async def about(request: Request) -> Response:
    """The model card."""
    language, state = language_for(request), request.app.state
    facts = _model(state.bundle, language) | {"licences": state.licences}
    return page(request, "about.html", 200, {}, **facts)


@router.api_route("/problems/{slug}", methods=["GET", "HEAD"])
async def explain(request: Request, slug: str) -> Response:
    """What the `type` of a problem leads to: what it means and what to do. Raises Problem."""
    if slug not in PROBLEM_TYPES:
        raise Problem("not-found", "There is no such problem.")
    return _with_problem(request, slug, 200, {})


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str, v: str = "") -> Response:
    """A stylesheet, script or picture, to be kept for ever under the address in the pages. Raises Problem."""
    if name not in _STATIC:
        raise Problem("not-found", "There is no such file.")
    # Another hash is another version's, asked for while one follows the other: nobody may keep this for it.
    caching = f"public, max-age={YEAR}, immutable" if v == _HASHES[name] else "no-cache"
    return Response(_STATIC[name], media_type=_TYPES[Path(name).suffix], headers={"Cache-Control": caching})


def problem_page(request: Request, problem: Problem) -> Response:
    """The page for a refusal: what is wrong and what to do, in the visitor's language, and the form."""
    return _with_problem(request, problem.slug, problem.status, problem.headers)


def language_for(request: Request) -> Language:
    """What the visitor chose, now (?lang=) or earlier (a cookie), or else what the browser asks for."""
    for chosen in (request.query_params.get("lang"), request.cookies.get("lang")):
        for language in LANGUAGE_NAMES:
            if chosen == language:
                return language
    return language_of(request.headers.get("accept-language", ""))


def name_of(label: str, bundle: Bundle, language: Language) -> str:
    """A label as it is called in a language."""
    return bundle.translations.get(language, {}).get(label, label)


async def _answered(request: Request, of: str, data: bytes, reply: PhotoResult) -> PhotoCard:
    engine, bundle = request.app.state.engine, request.app.state.bundle
    language = language_for(request)
    probabilities = reply.answer.probabilities
    likeliest = [int(label) for label in np.argsort(-probabilities, kind="stable")[:TOP]]
    heatmap = await engine.overlay(reply, likeliest[0])
    thumbnail = await _thumbnail(engine, data, reply.size)
    top = tuple(
        TopLabel(
            name_of(bundle.class_names[label], bundle, language),
            float(probabilities[label]),
            percent(float(probabilities[label]), language),
        )
        for label in likeliest
    )
    return PhotoCard(
        of=of,
        name=top[0].name,
        known=reply.answer.known,
        top=top,
        photo=thumbnail,
        heatmap=None if heatmap is None else _address("image/png", heatmap),
    )


async def _thumbnail(engine: Engine, data: bytes, size: tuple[int, int]) -> Photo:
    scale = min(1, THUMBNAIL / max(size))
    height, width = (max(round(side * scale), 1) for side in size)
    stream = io.BytesIO()
    Image.fromarray(await engine.small(data, (height, width))).save(stream, "JPEG", quality=80)
    return Photo(_address("image/jpeg", stream.getvalue()), width, height)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def _with_problem(request: Request, slug: str, status: int, headers: dict[str, str]) -> Response:
    trouble = _trouble(slug, language_for(request), request.app.state.settings)
    return _start(request, [PhotoCard(problem=trouble)], status, headers)


def _trouble(slug: str, language: Language, settings: Settings) -> ProblemView:
    title, cure = PROBLEMS[language][slug]
    facts = {
        "size": megabytes(settings.max_content_length, language),
        "photos": settings.max_photos,
        "formats": _formats(),
    }
    status = PROBLEM_TYPES[slug].status if slug in PROBLEM_TYPES else None
    return ProblemView(slug, status, title, cure.format(**facts), slug in AGAIN)


def _formats() -> str:
    return ", ".join({"HEIF": "HEIC", "WEBP": "WebP"}.get(name, name) for name in FORMATS)


def _start(
    request: Request, cards: list[PhotoCard], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    language, state = language_for(request), request.app.state
    first = cards[0] if cards else None
    if first is None:
        headline = ""
    elif first.problem:
        headline = first.problem.title
    else:
        headline = first.name if first.known else MESSAGES[language]["unknown"]
    return page(
        request,
        "index.html",
        status,
        headers or {},
        headline=headline,
        cards=cards,
        names=[name_of(label, state.bundle, language) for label in state.bundle.class_names],
        blank=PhotoCard(),
        blank_unknown=PhotoCard(known=False),
        problems=[_trouble(slug, language, state.settings) for slug in PROBLEMS[language]],
        likeliest=TOP,
        largest=state.settings.max_content_length,
        scripted=not state.settings.api_keys,  # the script asks the API, which is then not for everyone
    )


def page(request: Request, template: str, status: int, headers: dict[str, str], **facts: Any) -> Response:
    """A template of ours, with `facts`, in the visitor's language."""
    language, state = language_for(request), request.app.state
    settings: Settings = state.settings
    threshold = percent(state.bundle.blend.threshold, language)
    say = {
        **MESSAGES[language],
        "accepted": MESSAGES[language]["accepted"].format(
            formats=_formats(), size=megabytes(settings.max_content_length, language)
        ),
        "unknown_why": MESSAGES[language]["unknown_why"].format(threshold=threshold),
    }
    html = _TEMPLATES.get_template(template).render(
        language=language,
        languages=LANGUAGE_NAMES,
        say=say,
        root=settings.app_root,
        static=lambda name: f"{settings.app_root}/static/{name}?v={_HASHES[name]}",
        threshold=threshold,
        **facts,
    )
    response = HTMLResponse(
        html, status, {"Cache-Control": "no-store", "Content-Language": language, **headers}
    )
    if request.query_params.get("lang") == language:
        response.set_cookie(
            "lang",
            language,
            max_age=YEAR,
            path=settings.app_root or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
    return response


def _model(bundle: Bundle, language: Language) -> dict[str, Any]:
    """What the page about the model tells: of `bundle.metrics`, what is there."""
    say, metrics = MESSAGES[language], bundle.metrics
    alone = metrics.get("members", {})
    members = [
        {
            "title": member.title,
            "size": f"{member.size[0]} × {member.size[1]}",
            "networks": len(member.networks),
            "accuracy": percent(alone.get(member.title, {}).get("accuracy"), language),
        }
        for member in bundle.members
    ]
    proof = bundle.proof and say["proof"].format(
        difference=number(f"{bundle.proof.greatest_difference:.7f}", language), photos=bundle.proof.photos
    )
    check = bundle.precision.check
    reduced = check and say["reduced"].format(
        kind=bundle.precision.kind,
        after=percent(check.after, language),
        before=percent(check.before, language),
        photos=check.photos,
    )
    figures = _figures(bundle, language) if "accuracy" in metrics else None
    names = [name_of(label, bundle, language) for label in bundle.class_names]
    facts = [fact for fact in (reduced, proof) if fact]
    return {"members": members, "facts": facts, "figures": figures, "names": names}


def _figures(bundle: Bundle, language: Language) -> dict[str, Any]:
    say, metrics = MESSAGES[language], bundle.metrics
    low, high = metrics["interval"]
    pair = metrics.get("hardest_pair")
    return {
        "accuracy": percent(metrics["accuracy"], language),
        "measured": say["measured"].format(
            photos=metrics["photos"], low=percent(low, language), high=percent(high, language)
        ),
        "log_loss": number(f"{metrics['log_loss']:.3f}", language),
        "calibration_error": percent(metrics["calibration_error"], language),
        "pair": pair
        and say["pair"].format(
            first=name_of(pair[0], bundle, language),
            second=name_of(pair[1], bundle, language),
            mistakes=pair[2],
            photos=metrics["photos"],
        ),
        "labels": [
            {"name": name_of(label, bundle, language)}
            | {
                key: (share, percent(share, language))
                for key in ("recall", "precision")
                for share in [metrics.get(key, {}).get(label)]
            }
            for label in bundle.class_names
        ],
    }
