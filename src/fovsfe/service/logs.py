"""Logs one line per request and event to standard output, with nothing that a visitor sent."""

import json
import logging
import sys
import time
from typing import Any, Literal

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


def configure(log_format: Literal["json", "text"]) -> None:
    """Logs only the service's lines and the server's errors: other libraries may quote what they read."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    logging.captureWarnings(True)
    logging.getLogger().handlers = [logging.NullHandler()]
    for name, level in (("fovsfe.service", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def event(name: str, **fields: Any) -> None:
    """Logs an event with `fields`, which must come from the service itself, not from a visitor."""
    log.info(name, extra={"fields": fields})


def exception(error: BaseException, **fields: Any) -> None:
    """Logs the type and place of an unexpected exception, but not its message, which may quote a visitor."""
    places, frame = [], error.__traceback__
    while frame is not None:
        places.append(f"{frame.tb_frame.f_globals.get('__name__')}:{frame.tb_lineno}")
        frame = frame.tb_next
    log.error("fault", extra={"fields": {**fields, "error": type(error).__name__, "at": places}})


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields
