"""Who may send, and how much at one time."""

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fovsfe.service.problems import Problem, busy

CLIENTS = 10_000  # remembered at one time, some 200 bytes each
UPLOADS = 256  # under way at one time
HONEST_SECONDS = 2.0  # no upload is cut for another's sake before that


class RateLimit:
    """A bucket a client: it holds `a_minute` uploads and fills up at that rate."""

    def __init__(self, a_minute: float) -> None:
        self._a_minute = a_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what was left, and when

    def take(self, client: str) -> None:
        """Counts an upload of `client`, an address. Raises Problem."""
        if not self._a_minute:
            return
        now, most = time.monotonic(), max(self._a_minute, 1)
        left, then = self._buckets.pop(client, (most, now))
        left = min(most, left + (now - then) * self._a_minute / 60)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            seconds = max(1, round((1 - left) * 60 / self._a_minute))
            raise Problem(
                "rate-limited",
                f"More than {self._a_minute:g} uploads a minute; wait {seconds} s.",
                {"Retry-After": str(seconds)},
            )


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
        oldest.limit.reschedule(0)  # long ago
