import json
import logging
import os
import subprocess
import sys
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


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.written("json"):
        logs.event("request", status=200, route="/api/predict")
    line = json.loads(capfd.readouterr().out)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "event": "request", "status": 200, "route": "/api/predict"}


def test_text(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.written("text"):
        logs.event("request", status=200)
    assert capfd.readouterr().out.endswith("Z info    request status=200\n")


def test_an_exception_tells_where_but_not_what_was_sent(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.written("json"):
        try:
            int("the visitor's secret")
        except ValueError as error:
            logs.exception(error, request="abc")
    written = capfd.readouterr().out
    line = json.loads(written)
    assert (line["type"], line["request"], line["level"]) == ("ValueError", "abc", "error")
    assert line["at"][0].startswith(f"{__name__}:")
    assert "secret" not in written


def test_what_libraries_say_is_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.written("json"):
        logging.getLogger("python_multipart").warning("quoting %r", b"the visitor")
        logging.getLogger("uvicorn.error").warning("quoting the visitor")
    assert capfd.readouterr() == ("", "")


def test_lines_keep_their_order_and_none_is_lost_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.written("json"):
        for number in range(logs.LINES // 2):
            logs.event("request", number=number)
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [*range(logs.LINES // 2)]


# Logs sys.argv[1] lines, then says on standard error how many were dropped.
PROGRAM = """
import os, sys
from fovsfe.service import logs
dropped = []
with logs.written("json") as writer:
    writer.on_dropped = lambda: dropped.append(1)
    for _ in range(int(sys.argv[1])):
        logs.event("request", text="x" * 200)
os.write(2, b"dropped %d" % len(dropped))
"""


def test_a_reader_that_does_not_read_holds_nothing_up() -> None:
    """A pipe holds 64 kB: the program would never end if it waited for its reader."""
    lines = 3000
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        dropped = int(process.stderr.read().removeprefix(b"dropped "))
        read = process.stdout.read()
    assert dropped > 0
    assert len(read.splitlines()) + dropped <= lines
    assert len(read.splitlines()) + dropped >= lines - logs.LINES - 1  # those that waited at the end


@pytest.mark.parametrize("how", ["closed by the reader", "closed from the beginning"])
def test_a_closed_output_is_told_once(how: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM, "100"]
    if how == "closed from the beginning":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    os.close(writer)
    told, dropped = done.stderr.splitlines()
    assert told.startswith("fovsfe: the log cannot be written: ")
    assert dropped == "dropped 100"
