"""Reads the photos of an upload into memory, within all limits. Nothing is written to disk."""

import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from fovsfe.service.problems import HOW_TO_SEND, Problem
from fovsfe.service.settings import Settings

FIELD = b"photo"
MAX_OTHER_FIELDS = 20  # fields of a form that are not photos, and are skipped


@asynccontextmanager
async def receive_photos(request: Request, settings: Settings) -> AsyncIterator[list[bytes]]:
    """Admits an upload, reads it and gives its encoded photos in their order, at least one.

    They are the form's fields `photo`, or the body itself. The memory for them is reserved until the context
    ends. Whether they are photos at all is for the decoder to decide: names and types that the sender gives
    are ignored. Raises Problem if the upload is refused, aborted or damaged.
    """
    state = request.app.state
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        detail = f"The body is compressed (Content-Encoding). {HOW_TO_SEND}"
        raise Problem("not-an-image", detail, {"Accept-Encoding": "identity"})
    announced = _content_length(request, settings.max_content_length)
    client = request.client.host if request.client else ""
    body = _body(request, settings.max_photos)  # first: a damaged form need not wait for memory
    async with state.admission.admit(client, announced) as upload:
        started = time.perf_counter()
        async with upload.receiving(settings.upload_seconds):
            size = await _receive(request, body, settings.max_content_length)
        photos = body.end()
        state.admission.received(upload, size)
        state.metrics.read.observe(time.perf_counter() - started)
        if not photos:
            raise Problem("no-photo", f"There is no photo. {HOW_TO_SEND}")
        yield photos


def _content_length(request: Request, limit: int) -> int:
    """Returns the announced bytes of the body, or else `limit`. Raises Problem if they exceed it."""
    length = int(request.headers.get("content-length", limit))  # the server has checked that it is a number
    if length > limit:
        raise _too_large(limit)
    return length


def _too_large(limit: int) -> Problem:
    amount = f"{limit / 2**20:.3g} MiB" if limit >= 2**20 else f"{limit / 2**10:.3g} KiB"
    return Problem("too-large", f"An upload may have at most {amount}.")


async def _receive(request: Request, body: "_Body", limit: int) -> int:
    """Writes the body's chunks to `body` as they come, and returns their size in bytes. Raises Problem."""
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem("upload-stopped", "The connection was closed before the end of the upload.")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        body.write(chunk)
    return size


def _body(request: Request, max_photos: int) -> "_Body":
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type == b"multipart/form-data":
        return _Form(options.get(b"boundary", b""), max_photos)
    return _Raw()


class _Body(Protocol):
    """Collects the photos of a body that comes in chunks."""

    def write(self, chunk: bytes) -> None:
        """Takes the next chunk. Raises Problem."""

    def end(self) -> list[bytes]:
        """Returns the photos once the body is there. Raises Problem."""


class _Raw:
    """A body that is the photo itself, whatever its content type says."""

    def __init__(self) -> None:
        self._photo = io.BytesIO()  # gives its bytes away without the copy that joining chunks would make

    def write(self, chunk: bytes) -> None:
        self._photo.write(chunk)

    def end(self) -> list[bytes]:
        data = self._photo.getvalue()
        return [data] if data else []


class _Form:
    """A body of multipart/form-data (RFC 7578), of which only the photos are kept."""

    def __init__(self, boundary: bytes, max_photos: int) -> None:
        if not boundary:
            raise Problem("bad-form", "The content type of the form names no boundary.")
        self._max_photos = max_photos
        self._photos: list[bytes] = []
        self._fields = 0
        self._ended = False
        self._photo: io.BytesIO | None = None  # the one that is being received
        self._header = self._value = self._disposition = b""
        self._has_file = True
        self._delimiter = b"\r\n--" + boundary
        # Until the first delimiter: the end of what has come, in which it may have begun. The first line
        # needs no line end before it.
        self._preamble: bytes | None = b"\r\n"
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._form_end,
                },
            )
        except FormParserError:
            raise Problem("bad-form", "The boundary of the form is too long.") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(self._without_preamble(chunk))
        except FormParserError:
            raise Problem("bad-form", "The body is not valid multipart/form-data.") from None

    def end(self) -> list[bytes]:
        if not self._ended:
            raise Problem("bad-form", "The form ends before its last boundary.")
        return self._photos

    def _without_preamble(self, chunk: bytes) -> bytes:
        """Returns a chunk without text before the first delimiter, which is to be ignored (RFC 2046)."""
        if self._preamble is None:
            return chunk
        text = self._preamble + chunk
        begin = text.find(self._delimiter)
        if begin < 0:
            self._preamble = text[1 - len(self._delimiter) :]
            return b""
        self._preamble = None
        return text[begin + 2 :]

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD:
            self._photo = None
            self._fields += 1
            if self._fields > MAX_OTHER_FIELDS:
                raise Problem(
                    "bad-form", f"The form has more than {MAX_OTHER_FIELDS} fields that are not photos."
                )
            return
        self._photo = io.BytesIO()
        self._has_file = options.get(b"filename") != b""  # what a browser sends where no file was chosen
        if len(self._photos) >= self._max_photos:
            raise Problem("too-many-photos", f"An upload may have at most {self._max_photos} photos.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._photo is not None:
            self._photo.write(memoryview(data)[start:end])

    def _part_end(self) -> None:
        if self._photo is not None and (self._photo.tell() or self._has_file):
            self._photos.append(self._photo.getvalue())
        self._photo = None

    def _form_end(self) -> None:
        self._ended = True
