import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from fovsfe.service import middleware
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.middleware import RequestMiddleware
from fovsfe.service.problems import Problem, busy


@pytest.fixture
def state() -> State:
    """Of a service with room in its queue."""
    settings, admission = SimpleNamespace(app_root="/cars"), SimpleNamespace(check_queue=lambda: None)
    return State(
        {"settings": settings, "admission": admission, "stopping": False, "metrics": ServiceMetrics()}
    )


def full() -> None:
    raise busy(1)


async def answer_unread(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers without a look at the body."""
    await PlainTextResponse("hello")(scope, receive, send)


async def refuse(request: Request, error: BaseException) -> Response:
    problem = error if isinstance(error, Problem) else Problem("internal", "")
    return PlainTextResponse(problem.slug, problem.status)


def knock(
    state: State, *chunks: bytes, path: str = "/cars/api/predict", length: int | None = None, app: Any = None
) -> tuple[int, dict[str, str], bytes, int]:
    """What a POST of so many chunks gets: status, headers, body, and how many chunks were not read.

    `length`: as it announces, -1 for not at all.
    """
    waiting, sent = [*chunks], []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(message: Any) -> None:
        sent.append(message)

    size = sum(map(len, chunks)) if length is None else length
    headers = [(b"content-length", str(size).encode())] if size >= 0 else [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    asyncio.run(RequestMiddleware(app or answer_unread, state, refuse, lambda app: app)(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent), len(waiting)


@pytest.mark.parametrize(
    ("path", "route"),
    [("/cars/api/predict", "/api/predict"), ("/api/predict", "/api/predict"), ("/cars/", "/"), ("/", "/")],
)
def test_where_the_queue_is_full_the_application_is_not_asked(state: State, path: str, route: str) -> None:
    state.admission.check_queue = full
    status, _, body, _ = knock(state, b"x", b"", path=path)
    assert (status, body) == (503, b"busy")
    assert (
        f'fovsfe_requests_total{{method="POST",route="{route}",status="503"}} 1.0'
        in state.metrics.text().decode()
    )


def test_other_requests_need_no_room(state: State) -> None:
    state.admission.check_queue = full
    assert knock(state, path="/cars/elsewhere")[::2] == (200, b"hello")


def test_a_refused_upload_that_is_short_leaves_the_connection_open(state: State) -> None:
    state.admission.check_queue = full
    status, headers, body, unread = knock(state, b"x" * 1000, b"")
    assert (status, body, unread) == (503, b"busy", 0)
    assert "connection" not in headers


def test_one_that_does_not_come_to_its_end_closes_it(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "DISCARD_SECONDS", 0.1)
    state.admission.check_queue = full
    _, headers, body, unread = knock(state, b"x" * 1000, length=2000)
    assert (headers["connection"], body, unread) == ("close", b"busy", 0)


def test_a_body_of_unknown_length_is_not_waited_for(state: State) -> None:
    state.admission.check_queue = full
    _, headers, body, _ = knock(state, b"x", b"", length=-1)
    assert (headers["connection"], body) == ("close", b"busy")


def test_a_long_body_that_is_not_wanted_closes_it_after_the_answer(state: State) -> None:
    state.admission.check_queue = full
    _, headers, body, unread = knock(state, *[b"x" * middleware.SHORT_BODY] * 3, b"")
    assert (headers["connection"], body, unread) == ("close", b"busy", 0)


def test_what_the_application_raises_is_answered_and_logged_without_its_words(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    with caplog.at_level("INFO", "fovsfe.service"):
        assert knock(state, b"x", b"", app=broken)[::2] == (500, b"internal")
    assert [record.message for record in caplog.records] == ["exception", "request"]
    assert "secret" not in str([record.__dict__ for record in caplog.records])
