"""Who may send, and how much at one time."""

import asyncio
import fcntl
import hashlib
import hmac
import mmap
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from fovsfe.service.problems import Problem, busy

SETS, WAYS = 2048, 8  # of clients that are remembered, 400 kB of them
UPLOADS = 256  # under way at one time
HONEST_SECONDS = 2.0  # no upload is cut for another's sake before that

_BUCKET = struct.Struct("8sdd")  # whose it is, what was left, and when


class RateLimit:
    """A bucket a client: it holds `a_minute` uploads and fills up at that rate.

    Several workers take from the same buckets, by way of `file`. A client has its place in a set by a hash of
    its address; where a set is full, the one who has been away for longest is forgotten.
    """

    def __init__(self, a_minute: float, file: Path | None = None) -> None:
        self._a_minute = a_minute
        size = SETS * WAYS * _BUCKET.size
        self._file = file.open("a+b") if file else None
        if self._file:
            self._file.truncate(size)  # what is there stays: this worker may replace another
        self._table = mmap.mmap(self._file.fileno() if self._file else -1, size)

    def take(self, client: str) -> None:
        """Counts an upload of `client`, an address. Raises Problem."""
        if not self._a_minute:
            return
        key, now = hashlib.blake2b(client.encode(), digest_size=8).digest(), time.monotonic()
        with self._alone():
            place, left = self._bucket(key, now)
            _BUCKET.pack_into(self._table, place, key, left - 1 if left >= 1 else left, now)
        if left < 1:
            seconds = max(1, round((1 - left) * 60 / self._a_minute))
            raise Problem(
                "rate-limited",
                f"More than {self._a_minute:g} uploads a minute; wait {seconds} s.",
                {"Retry-After": str(seconds)},
            )

    def _bucket(self, key: bytes, now: float) -> tuple[int, float]:
        """Where a client's bucket is, and what is left in it."""
        start = int.from_bytes(key) % SETS * WAYS * _BUCKET.size
        places = range(start, start + WAYS * _BUCKET.size, _BUCKET.size)
        buckets = {place: _BUCKET.unpack_from(self._table, place) for place in places}
        most = max(self._a_minute, 1)
        for place, (whose, left, then) in buckets.items():
            if whose == key:
                return place, min(most, left + (now - then) * self._a_minute / 60)
        return min(places, key=lambda place: float(buckets[place][2])), most

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other worker changes the buckets meanwhile. A worker that dies lets go of them."""
        if self._file is None:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class Keys:
    """The API keys that are let in, of which only the SHA-256 is known."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        self._digests = digests

    def check(self, authorization: str) -> None:
        """Raises Problem unless the header is "Bearer KEY" with a known key, or none is asked for."""
        if not self._digests:
            return
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        known = [hmac.compare_digest(digest, other) for other in self._digests]  # all: how long tells nothing
        if scheme.lower() != "bearer" or not any(known):
            raise Problem("no-key", "Send Authorization: Bearer KEY.", {"WWW-Authenticate": "Bearer"})


class Upload:
    """One upload, from its first byte to its answer."""

    def __init__(self, uploads: "Uploads") -> None:
        self._uploads = uploads
        self.since = time.monotonic()
        self.size = 0
        self.limit: asyncio.Timeout

    @asynccontextmanager
    async def under_way(self, seconds: float) -> AsyncIterator[None]:
        """While it comes, which may take so long. Raises Problem."""
        try:
            async with asyncio.timeout(seconds) as self.limit:
                with self._uploads.coming(self):
                    yield
        except TimeoutError:
            raise Problem("too-slow", "The upload took too long; try a faster network.") from None

    def grow(self, size: int) -> None:
        """It has become `size` bytes larger. Raises Problem where there is no room for them."""
        self._uploads.make_room(size, for_whom=self)
        self.size += size


class Uploads:
    """The uploads that are held, `memory` bytes of them at the most, whether they still come or wait.

    Honest visitors have sent theirs within seconds: who sends for longest is cut when room is short.
    """

    def __init__(self, memory: int, most: int = UPLOADS) -> None:
        self._memory = memory
        self._most = most
        self._held: set[Upload] = set()
        self._coming: dict[Upload, None] = {}  # the oldest first

    @contextmanager
    def one(self) -> Iterator[Upload]:
        """A place for an upload until it is answered."""
        upload = Upload(self)
        self._held.add(upload)
        try:
            yield upload
        finally:
            self._held.discard(upload)

    @contextmanager
    def coming(self, upload: Upload) -> Iterator[None]:
        """While `upload` comes, it may be cut. Raises Problem where too many come."""
        if len(self._coming) >= self._most:
            self._cut_oldest(None)
        self._coming[upload] = None
        try:
            yield
        finally:
            self._coming.pop(upload, None)

    def make_room(self, size: int, for_whom: Upload) -> None:
        """Cuts other uploads until `size` bytes more fit in. Raises Problem where that would not be fair."""
        while sum(upload.size for upload in self._held) + size > self._memory:
            self._cut_oldest(for_whom)

    def _cut_oldest(self, spared: Upload | None) -> None:
        oldest = next((upload for upload in self._coming if upload is not spared), None)
        if oldest is None or time.monotonic() - oldest.since < HONEST_SECONDS:
            raise busy(HONEST_SECONDS)
        del self._coming[oldest]
        self._held.discard(oldest)
        if not oldest.limit.expired():
            oldest.limit.reschedule(0)  # long ago
