import json
import logging
from collections.abc import Iterator

import pytest

from fovsfe.service import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    names = (None, "fovsfe.service", "uvicorn.error")
    kept = [(logging.getLogger(name), logging.getLogger(name).__dict__.copy()) for name in names]
    yield
    for logger, was in kept:
        logger.__dict__.update(was)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.event("request", status=200, route="/api/predict")
    line = json.loads(capsys.readouterr().out)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "request", "status": 200, "route": "/api/predict"}


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    logs.event("request", status=200)
    assert capsys.readouterr().out.endswith("Z info    request status=200\n")


def test_a_fault_tells_where_but_not_what_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    try:
        int("the visitor's secret")
    except ValueError as error:
        logs.exception(error, request="abc")
    written = capsys.readouterr().out
    line = json.loads(written)
    assert (line["error"], line["request"], line["level"]) == ("ValueError", "abc", "error")
    assert line["at"][0].startswith(f"{__name__}:")
    assert "secret" not in written


def test_what_libraries_say_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("python_multipart").warning("quoting %r", b"the visitor")
    logging.getLogger("uvicorn.error").warning("quoting the visitor")
    assert capsys.readouterr() == ("", "")
