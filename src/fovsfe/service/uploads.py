"""From a request to encoded photos in memory, under all limits and never by way of a disk."""

import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from fovsfe.service.problems import Problem
from fovsfe.service.settings import Settings

FIELD = b"photo"
OTHER_FIELDS = 20  # of a form, which are skipped


@asynccontextmanager
async def read_photos(request: Request, settings: Settings) -> AsyncIterator[list[bytes]]:
    """The photos of a request, in their order: the form's fields `photo`, or the body itself; at least one.

    They count as held in memory until the context's end. Whether they are photos is for the decoder to say:
    neither names nor types given by the sender count. Raises Problem.
    """
    state = request.app.state
    state.rate.take(request.client.host if request.client else "")
    expected = _length(request, settings.max_content_length)
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        body: _Body = _Form(options.get(b"boundary", b""), settings.max_photos)
    else:
        body = _Raw()
    started, size = time.perf_counter(), 0
    with state.uploads.one(expected) as upload:
        async with upload.under_way(settings.upload_seconds):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem("upload-stopped", "The connection was closed before the upload's end.")
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size > settings.max_content_length:
                    raise _too_large(settings.max_content_length)
                await upload.grow(len(chunk))
                body.write(chunk)
            photos = body.end()
        state.metrics.read.observe(time.perf_counter() - started)
        if not photos:
            raise Problem("no-photo", "Send a photo in the form's field `photo`, or as the request's body.")
        yield photos


def _length(request: Request, most: int) -> int:
    """Bytes that the body is going to have: as announced, or the `most` that it may have. Raises Problem."""
    length = int(request.headers.get("content-length", most))  # the server has checked that it is a number
    if length > most:
        raise _too_large(most)
    return length


def _too_large(most: int) -> Problem:
    amount = f"{most / 2**20:.3g} MiB" if most >= 2**20 else f"{most / 2**10:.3g} KiB"
    return Problem("too-large", f"An upload may have {amount}.")


class _Body(Protocol):
    def write(self, chunk: bytes) -> None: ...

    def end(self) -> list[bytes]: ...


class _Raw:
    """A body that is the photo itself."""

    def __init__(self) -> None:
        self._photo = io.BytesIO()  # which gives its bytes away without a copy, as joining would make one

    def write(self, chunk: bytes) -> None:
        self._photo.write(chunk)

    def end(self) -> list[bytes]:
        data = self._photo.getvalue()
        return [data] if data else []


class _Form:
    """multipart/form-data (RFC 7578), of which the photos are kept."""

    def __init__(self, boundary: bytes, most: int) -> None:
        if not boundary:
            raise Problem("bad-form", "The form's content type names no boundary.")
        self._most = most
        self._photos: list[bytes] = []
        self._fields = 0
        self._ended = False
        self._photo: io.BytesIO | None = None  # the one that is being read
        self._header = self._value = self._disposition = b""
        self._chosen = True
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._last,
                },
            )
        except FormParserError:
            raise Problem("bad-form", "The form's boundary is too long.") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Problem("bad-form", "The form is not multipart/form-data.") from None

    def end(self) -> list[bytes]:
        if not self._ended:
            raise Problem("bad-form", "The form stops before its end.")
        return self._photos

    def _begin(self) -> None:
        self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD:
            self._photo = None
            self._fields += 1
            if self._fields > OTHER_FIELDS:
                raise Problem("bad-form", f"The form has more than {OTHER_FIELDS} fields beside the photos.")
            return
        self._photo = io.BytesIO()
        self._chosen = options.get(b"filename") != b""  # what a browser sends where no file was chosen
        if len(self._photos) >= self._most:
            raise Problem("too-many-photos", f"One upload may have {self._most} photos.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._photo is not None:
            self._photo.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._photo is not None and (self._photo.tell() or self._chosen):
            self._photos.append(self._photo.getvalue())
        self._photo = None

    def _last(self) -> None:
        self._ended = True
