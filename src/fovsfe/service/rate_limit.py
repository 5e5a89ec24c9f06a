"""How many uploads a minute one client may send."""

import fcntl
import hashlib
import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovsfe.service.clients import client_of
from fovsfe.service.problems import Problem

CLIENT_SETS, CLIENTS_PER_SET = 2048, 8  # the clients that are remembered: a set-associative table of 400 kB

_BUCKET = struct.Struct("8sdd")  # hash of the client, uploads left, time of the last upload


class RateLimit:
    """A token bucket for each client: it holds `per_minute` uploads and fills up at that rate.

    Several workers share the buckets in a memory-mapped file. A client is hashed to a set of the table; if
    the set is full, the client that has been away longest is forgotten.
    """

    def __init__(self, per_minute: float, file: Path | None = None) -> None:
        """`per_minute`: 0 for no limit; `file`: where several workers count together."""
        self._per_minute = per_minute
        size = CLIENT_SETS * CLIENTS_PER_SET * _BUCKET.size
        self._file = file.open("a+b") if file else None
        if self._file:
            self._file.truncate(size)  # keeps what is there: this worker may replace another one
        self._table = mmap.mmap(self._file.fileno() if self._file else -1, size)

    def count(self, address: str) -> None:
        """Counts an upload of the client at `address`. Raises Problem if it is one too many."""
        if not self._per_minute:
            return
        client = client_of(address).encode("utf-8", "surrogateescape")
        key, now = hashlib.blake2b(client, digest_size=8).digest(), time.monotonic()
        with self._locked():
            offset, left = self._bucket(key, now)
            _BUCKET.pack_into(self._table, offset, key, left - 1 if left >= 1 else left, now)
        if left < 1:
            seconds = max(1, round((1 - left) * 60 / self._per_minute))
            raise Problem(
                "rate-limited",
                f"Only {self._per_minute:g} uploads a minute are allowed; wait {seconds} s.",
                {"Retry-After": str(seconds)},
            )

    def _bucket(self, key: bytes, now: float) -> tuple[int, float]:
        """Returns the offset of a client's bucket in the table and the uploads left in it."""
        start = int.from_bytes(key) % CLIENT_SETS * CLIENTS_PER_SET * _BUCKET.size
        offsets = range(start, start + CLIENTS_PER_SET * _BUCKET.size, _BUCKET.size)
        buckets = {offset: _BUCKET.unpack_from(self._table, offset) for offset in offsets}
        full = max(self._per_minute, 1)
        for offset, (owner, left, last) in buckets.items():
            if owner == key:
                return offset, min(full, left + (now - last) * self._per_minute / 60)
        return min(offsets, key=lambda offset: float(buckets[offset][2])), full

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other workers from changing the buckets. The lock of a worker that dies is released."""
        if self._file is None:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
