"""Which other files an ONNX file reads: its external data, found without ONNX and without loading weights."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath

from fovsfe.files import open_regular

# For each message of ONNX's protocol buffers, the fields in which a tensor may be, and what each of them is:
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {1: "key", 2: "value"},
}
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def external_files(folder: Path, path: str) -> set[str]:
    """Returns the files that the ONNX file `path` under `folder` reads, as paths under `folder`.

    Raises OSError if it cannot be read, and ValueError if it is not ONNX.
    """
    with open_regular(folder / path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return {normpath(join(dirname(path), location)) for location in _locations(data)}


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(data))]
    while waiting:
        kind, start, end = waiting.pop()
        texts = {}
        for number, at, length in _parts(data, start, end):
            part = _FIELDS[kind].get(number)
            if part in ("key", "value"):
                texts[part] = bytes(data[at : at + length])
            elif part is not None:
                waiting.append((part, at, at + length))
        if texts.get("key") == b"location":
            yield texts.get("value", b"").decode(errors="surrogateescape")


def _parts(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the number, position and length of each field of a message that is bytes, text or a message."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length, at = _varint(data, at, end)
            if at + length > end:
                raise ValueError("a field ends after its message")
            yield number, at, length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_FIXED_64, _FIXED_32):
            at += 8 if kind == _FIXED_64 else 4
        else:
            raise ValueError(f"a field of type {kind}")
    if at != end:
        raise ValueError("a field ends after its message")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Returns the number of variable length at a position, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")
