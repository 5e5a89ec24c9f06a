import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from fovsfe.service.admission import Admission
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import Problem
from fovsfe.service.rate_limit import RateLimit
from fovsfe.service.settings import Settings
from fovsfe.service.uploads import _Form, receive_photos

SETTINGS = Settings(max_content_length=5000, max_photos=3)
FORM = {"content-type": "multipart/form-data; boundary=XX"}
METRICS = ServiceMetrics()
SLOWLY = b"slowly"


def admitting(memory: int = 1_000_000, rate_limit: RateLimit | None = None) -> Admission:
    return Admission(memory, 0.1, rate_limit or RateLimit(0), lambda: None)


def part(name: str, content: bytes, filename: str | None = "a.jpg") -> bytes:
    given = "" if filename is None else f'; filename="{filename}"'
    header = f'--XX\r\nContent-Disposition: form-data; name="{name}"{given}\r\n'
    return header.encode() + b"Content-Type: image/jpeg\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


def read(
    chunks: Sequence[bytes],
    headers: dict[str, str] | None = None,
    settings: Settings = SETTINGS,
    admission: Admission | None = None,
) -> list[bytes]:
    """What `receive_photos` makes of a body in chunks; after an empty last one the sender leaves."""
    waiting = [*chunks]

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        chunk = waiting.pop(0)
        await asyncio.sleep(0.2 if chunk == SLOWLY else 0)
        last = not waiting and chunk != b""
        return {"type": "http.request", "body": chunk, "more_body": not last}

    state = SimpleNamespace(admission=admission or admitting(), metrics=METRICS)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "client": ("10.0.0.1", 1),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "app": SimpleNamespace(state=state),
    }

    async def photos() -> list[bytes]:
        async with receive_photos(Request(scope, receive), settings) as found:
            return found

    return asyncio.run(photos())


def refused(*arguments: Any, **named: Any) -> str:
    with pytest.raises(Problem) as caught:
        read(*arguments, **named)
    return caught.value.slug


def test_the_body_is_the_photo_whatever_its_type_says() -> None:
    assert read([b"abc", b"def"]) == [b"abcdef"]
    assert read([b"abc"], {"content-type": "application/json"}) == [b"abc"]


def test_a_form() -> None:
    body = form(part("photo", b"one"), part("lang", b"ru", None), part("photo", b"\r\n--X two"))
    assert read([body], FORM) == [b"one", b"\r\n--X two"]


@given(
    photos=st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 60), min_size=1),
)
def test_a_form_in_any_pieces(photos: list[bytes], cuts: list[int]) -> None:
    photos = [photo.replace(b"--XX", b"") for photo in photos]
    body, pieces, at = form(*(part("photo", photo) for photo in photos)), [], 0
    while at < len(body):
        pieces.append(body[at : at + cuts[len(pieces) % len(cuts)]])
        at += len(pieces[-1])
    assert read(pieces, FORM) == photos


@given(st.lists(st.integers(1, 40), max_size=30))
@example([])
def test_text_before_and_behind_the_parts_of_a_form_is_ignored(cuts: list[int]) -> None:
    whole = form(part("photo", b"one"), part("photo", b"two"))
    for before in (b"\r\n", b"This is a form.\r\n", b"\n-- -XX --XX\r\n--X\r\n-\r\n", b"x" * 3000 + b"\r\n"):
        body, pieces = before + whole + b"The end.\r\n", []
        for size in cuts:
            pieces.append(body[:size])
            body = body[size:]
        assert read([piece for piece in (*pieces, body) if piece], FORM) == [b"one", b"two"]


def test_text_before_a_form_that_never_begins_is_not_kept() -> None:
    body = _Form(b"XX", 3)
    for _ in range(100):
        body.write(b"x" * 1000)
        assert body._preamble is not None
        assert len(body._preamble) < 10
    with pytest.raises(Problem, match="bad-form"):
        body.end()


def test_a_compressed_body_is_told_how_to_be_sent() -> None:
    with pytest.raises(Problem) as caught:
        read([b"abc"], {"content-encoding": "gzip"})
    assert (caught.value.status, caught.value.headers) == (415, {"Accept-Encoding": "identity"})
    assert "`photo`" in caught.value.detail
    assert read([b"abc"], {"content-encoding": "identity"}) == [b"abc"]


def test_no_photo() -> None:
    unchosen = part("photo", b"", "")
    assert refused([b""]) == "upload-stopped"
    for body in (form(unchosen), form(part("other", b"abc")), b"--XX--\r\n"):
        assert refused([body], FORM) == "no-photo"


def test_an_empty_photo_keeps_its_place() -> None:
    assert read([form(part("photo", b""), part("photo", b"one"))], FORM) == [b"", b"one"]


def test_damaged_forms() -> None:
    body = form(part("photo", b"abc"))
    assert refused([body[:-8]], FORM) == "bad-form"
    assert refused([b"abc"], FORM) == "bad-form"
    assert refused([body], {"content-type": "multipart/form-data"}) == "bad-form"
    assert refused([body], {"content-type": f"multipart/form-data; boundary={'x' * 500}"}) == "bad-form"
    assert refused([form(*[part("other", b"")] * 21)], FORM) == "bad-form"


def test_too_many_photos_stop_at_the_first_that_is_too_many() -> None:
    assert refused([part("photo", b"abc") * 4, b"never asked for"], FORM) == "too-many-photos"


def test_too_large_by_what_the_header_says_and_by_what_comes() -> None:
    assert refused([], {"content-length": "5001"}) == "too-large"
    assert refused([b"x" * 3000, b"x" * 3000, b"never asked for"]) == "too-large"
    assert read([b"x" * 5000], {"content-length": "5000"}) == [b"x" * 5000]


def test_too_slow() -> None:
    settings = SETTINGS.model_copy(update={"upload_seconds": 0.05})
    assert refused([b"abc", SLOWLY, b"def"], settings=settings) == "too-slow"


def test_a_sender_that_leaves() -> None:
    assert refused([b"abc", b""]) == "upload-stopped"


def test_who_has_to_be_refused_is_refused_before_the_upload() -> None:
    rate_limit = RateLimit(1)
    rate_limit.count("10.0.0.1")
    assert refused([], admission=admitting(rate_limit=rate_limit)) == "rate-limited"


def test_memory_for_uploads() -> None:
    """It is reserved as announced, or as much as an upload may have where nothing is announced."""
    assert refused([], {"content-length": "1200"}, admission=admitting(1000)) == "busy"
    assert refused([], admission=admitting(1000)) == "busy"
    assert read([b"x" * 600], {"content-length": "600"}, admission=admitting(1000)) == [b"x" * 600]


def test_memory_is_held_until_the_answer() -> None:
    admission = admitting(1000)

    async def story() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * 600, "more_body": False}

        app = SimpleNamespace(state=SimpleNamespace(admission=admission, metrics=METRICS))
        headers = [(b"content-length", b"600")]
        request = Request({"type": "http", "method": "POST", "headers": headers, "app": app}, receive)
        async with receive_photos(request, SETTINGS):
            with pytest.raises(Problem) as caught:
                async with receive_photos(request, SETTINGS):
                    raise AssertionError("there was no room for it")
            assert caught.value.slug == "busy"
        async with receive_photos(request, SETTINGS) as photos:
            assert photos == [b"x" * 600]

    asyncio.run(story())
