"""Logs one line per request and event to standard output, with nothing that a visitor sent."""

import json
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

LINES = 1000  # that wait to be written: some 200 kB
CLOSE_SECONDS = 0.5

log = logging.getLogger("fovsfe.service")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        return json.dumps(entry, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{fields}"


class LogWriter(logging.Handler):
    """Writes lines to standard output in a thread of its own, so that logging never waits for their reader.

    While the reader does not keep up, LINES of them wait; further ones are dropped and counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_dropped: Callable[[], None] = lambda: None
        self._lines: queue.Queue[bytes | None] = queue.Queue(LINES)
        # Not through the buffer of sys.stdout, whose lock Python waits for when it exits, and which a worker
        # that is forked meanwhile would find locked for ever.
        self._output = sys.__stdout__.fileno() if sys.__stdout__ else None
        self._has_failed = False
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Puts a line into the queue, or drops it."""
        try:
            self._lines.put_nowait(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except queue.Full:
            self.on_dropped()

    def close(self) -> None:
        """Waits until what is in the queue has been written, but no longer than CLOSE_SECONDS."""
        with suppress(queue.Full):  # then nobody reads
            self._lines.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)
        super().close()

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except OSError as error:
                self.on_dropped()
                self._say_once(error)

    def _write(self, line: bytes) -> None:
        if self._output is None:
            raise OSError("standard output is closed")
        while line:
            try:
                line = line[os.write(self._output, line) :]
            except BlockingIOError:  # who started the service made it so
                select.select([], [self._output], [])

    def _say_once(self, error: OSError) -> None:
        """Tells on standard error that the log is incomplete from here on."""
        if not self._has_failed and sys.__stderr__:
            text = f"fovsfe: the log cannot be written: {error.strerror or error}\n"
            with suppress(OSError):  # then there is nobody to tell
                os.write(sys.__stderr__.fileno(), text.encode())
        self._has_failed = True


@contextmanager
def written(log_format: Literal["json", "text"]) -> Iterator[LogWriter]:
    """Logs only the service's lines and the server's errors until the context ends.

    Other libraries may quote what they read. Every process needs a context of its own.
    """
    writer = LogWriter()
    writer.setFormatter(_Json() if log_format == "json" else _Text())
    logging.captureWarnings(True)
    logging.getLogger().handlers = [logging.NullHandler()]
    for name, level in (("fovsfe.service", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [writer], False
        logger.setLevel(level)
    try:
        yield writer
    finally:
        writer.close()


def event(name: str, **fields: Any) -> None:
    """Logs an event with `fields`, which must come from the service itself, not from a visitor."""
    log.info(name, extra={"fields": fields})


def exception(error: BaseException, **fields: Any) -> None:
    """Logs the type and place of an unexpected exception, but not its message, which may quote a visitor."""
    places, frame = [], error.__traceback__
    while frame is not None:
        places.append(f"{frame.tb_frame.f_globals.get('__name__')}:{frame.tb_lineno}")
        frame = frame.tb_next
    log.error("exception", extra={"fields": {**fields, "type": type(error).__name__, "at": places}})


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields
