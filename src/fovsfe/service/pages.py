"""Routes of the pages: a form for photos, which works without JavaScript, its results, and the model card."""

from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from fovsfe.service.i18n import TRANSLATIONS, Language, language_of
from fovsfe.service.problems import PROBLEM_TYPES, Problem
from fovsfe.service.settings import Settings
from fovsfe.service.static_files import YEAR, StaticFiles
from fovsfe.service.uploads import receive_photos
from fovsfe.service.views import (
    LEAST,
    MOST_NAMED,
    TOP,
    LabelView,
    PhotoCard,
    label_views,
    model_view,
    monitor_view,
    page_messages,
    photo_card,
    problem_view,
    samples,
)

VARY = "Accept-Language, Cookie"
"""the headers of a request that `language_for` looks at"""

router = APIRouter(include_in_schema=False)

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@router.get("/")
async def start_page(request: Request) -> Response:
    """The start page: a form for photos, and the labels that the model knows."""
    return _start_page(request, [])


@router.post("/")
async def submit_form(request: Request) -> Response:
    """The start page with the results for the photos of the form. Raises Problem."""
    state, language = request.app.state, language_for(request)
    messages = TRANSLATIONS[language].messages
    async with receive_photos(request, state.settings) as photos:
        results = await state.engine.predict_all(photos)
        if len(results) == 1 and isinstance(results[0], Problem):
            raise results[0]
        cards = []
        for position, (data, result) in enumerate(zip(photos, results, strict=True), start=1):
            caption = messages["photo_number"].format(number=position) if len(photos) > 1 else ""
            if isinstance(result, Problem):
                state.metrics.problems.labels(result.slug).inc()
                cards.append(PhotoCard(caption, problem=problem_view(result.slug, language, state.settings)))
            else:
                root = state.settings.app_root
                cards.append(
                    await photo_card(state.engine, state.bundle, language, root, caption, data, result)
                )
    return _start_page(request, cards)


@router.get("/about")
async def about(request: Request) -> Response:
    """The model card."""
    state, language = request.app.state, language_for(request)
    view = model_view(state.bundle, page_messages(state.bundle, state.settings, language), language)
    return page(request, "about.html", **view, licences=state.licences)


@router.get("/metrics/answers")
async def monitor(request: Request) -> Response:
    """For operators: whether the model is still as good as on its held-out photos. Raises Problem."""
    state, language = request.app.state, language_for(request)
    state.api_keys.check(request.headers.get("authorization", ""))
    messages = page_messages(state.bundle, state.settings, language)
    view = monitor_view(state.engine.recent, state.bundle, messages, language)
    return page(request, "monitor.html", **view)


@router.get("/problems/{slug}")
async def explain_problem(request: Request, slug: str) -> Response:
    """The page that the `type` of a problem leads to: what it means and what to do. Raises Problem."""
    if slug not in PROBLEM_TYPES:
        raise Problem("not-found", "There is no such problem.")
    return _with_problem(request, slug, 200, {})


def problem_page(request: Request, problem: Problem) -> Response:
    """Returns the start page with a problem: what is wrong and what to do, in the visitor's language."""
    return _with_problem(request, problem.slug, problem.status, problem.headers)


def language_for(request: Request) -> Language:
    """Returns the language that the visitor chose, now (?lang=) or before (a cookie), or else the
    browser's."""
    for chosen in (request.query_params.get("lang", ""), request.cookies.get("lang", "")):
        if chosen in TRANSLATIONS:
            return chosen
    return language_of(request.headers.get("accept-language", ""))


def page(
    request: Request, template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """Returns a page in the visitor's language, made of a template with `values`."""
    language, state = language_for(request), request.app.state
    settings: Settings = state.settings
    static_files: StaticFiles = state.static_files
    html = _TEMPLATES.get_template(template).render(
        language=language,
        languages={code: translation.name for code, translation in TRANSLATIONS.items()},
        messages=page_messages(state.bundle, settings, language),
        root=settings.app_root,
        static=lambda name: settings.app_root + static_files.path(name),
        **values,
    )
    fixed = {"Cache-Control": "no-store", "Content-Language": language, "Vary": VARY}
    response = HTMLResponse(html, status, fixed | (headers or {}))
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


def _with_problem(request: Request, slug: str, status: int, headers: dict[str, str]) -> Response:
    problem = problem_view(slug, language_for(request), request.app.state.settings)
    return _start_page(request, [PhotoCard(problem=problem)], status, headers)


def _start_page(
    request: Request, cards: list[PhotoCard], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    language, state = language_for(request), request.app.state
    labels = label_views(state.bundle, language, state.settings.app_root)
    compared = (LabelView("", ""),) if state.bundle.examples else ()
    return page(
        request,
        "index.html",
        status,
        headers,
        cards=cards,
        labels=labels,
        samples=samples(labels),
        bins=state.bundle.metrics.get("bins", []),
        blank=PhotoCard(compared=compared),
        blank_unknown=PhotoCard(known=False, compared=compared),
        problems=[problem_view(slug, language, state.settings) for slug in TRANSLATIONS[language].problems],
        top=TOP,
        least=LEAST,
        most_named=MOST_NAMED,
        max_bytes=state.settings.max_content_length,
        scripted=not state.settings.api_keys,  # the script uses the API, for which visitors have no key
    )
