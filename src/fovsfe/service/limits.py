"""Who may send, and how much at one time."""

import asyncio
import fcntl
import hashlib
import hmac
import mmap
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from fovsfe.service.problems import Problem, busy

SETS, WAYS = 2048, 8  # of clients that are remembered, 400 kB of them
UPLOADS = 256  # under way at one time
HONEST_SECONDS = 2.0  # no upload is cut for another's sake before that
PULSE = 0.5  # seconds between two looks for who is to be cut

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

    def __init__(self, uploads: "Uploads", expected: int) -> None:
        self._uploads = uploads
        self.expected = expected  # bytes that it is going to have, at the most
        self.size = 0
        self.since = time.monotonic()
        self.waits = False
        self.waited = 0.0  # seconds, by no fault of the sender's
        self.cut = False
        self.limit: asyncio.Timeout

    @asynccontextmanager
    async def under_way(self, seconds: float) -> AsyncIterator[None]:
        """While it comes, for which its sender may take so long. Raises Problem."""
        try:
            async with asyncio.timeout(seconds) as self.limit:
                with self._uploads.coming(self):
                    yield
        except TimeoutError:
            raise Problem("too-slow", "The upload took too long; try a faster network.") from None
        self.expected = self.size

    async def grow(self, size: int) -> None:
        """It becomes `size` bytes larger, as soon as there is room for them. Raises Problem."""
        if self.cut:  # and did not notice yet
            raise TimeoutError
        if not self._uploads.has_room(size, self):
            loop = asyncio.get_running_loop()
            start, end = loop.time(), self.limit.when() or 0.0
            self.limit.reschedule(None)
            self.waits = True
            try:
                await self._uploads.make_room(size, self)
            finally:
                self.waits = False
                self.limit.reschedule(end + loop.time() - start)
        self.size += size


class Uploads:
    """The uploads that are held, `memory` bytes of them at the most, whether they still come or wait.

    Who finds no room waits for it, a few seconds, and is not read from meanwhile. Those who have sent for
    longest are cut where that does not help: honest visitors have sent theirs within seconds.
    """

    def __init__(self, memory: int, patience: float, most: int = UPLOADS) -> None:
        """`patience`: seconds that an upload waits for room, all in all."""
        self._memory = memory
        self._patience = patience
        self._most = most
        self._held: set[Upload] = set()
        self._coming: set[Upload] = set()
        self._freed = asyncio.Event()

    @contextmanager
    def one(self, expected: int) -> Iterator[Upload]:
        """A place for an upload of at most so many bytes, until it is answered.

        Raises Problem where those who wait already, and for no more, are going to need all the room.
        """
        expected = min(expected, self._memory)
        wanted = [upload.expected - upload.size for upload in self._held if upload.waits]
        if sum(size for size in wanted if size <= expected) + expected > self._memory:
            raise busy(HONEST_SECONDS)
        upload = Upload(self, expected)
        self._held.add(upload)
        try:
            yield upload
        finally:
            self._let_go(upload)

    @contextmanager
    def coming(self, upload: Upload) -> Iterator[None]:
        """While `upload` comes, it may be cut. Raises Problem where too many come."""
        if len(self._coming) >= self._most and not self._cut_slowest():
            raise busy(HONEST_SECONDS)
        self._coming.add(upload)
        try:
            yield
        finally:
            self._coming.discard(upload)

    def has_room(self, size: int, for_whom: Upload) -> bool:
        """Whether `size` bytes more fit in, and all who come could still be held to their end, in some order.

        Else several uploads, each in part, would fill the memory and wait for each other (the banker's
        algorithm: Dijkstra, EWD-108).
        """
        free = self._memory - sum(upload.size for upload in self._held) - size
        if free < 0:
            return False
        free += sum(upload.size for upload in self._held - self._coming)  # which are answered in any case
        sizes = {upload: upload.size for upload in self._coming}
        sizes[for_whom] += size
        for upload in sorted(sizes, key=lambda upload: upload.expected - sizes[upload]):
            if upload.expected - sizes[upload] > free:
                return False
            free += sizes[upload]
        return True

    async def make_room(self, size: int, for_whom: Upload) -> None:
        """Returns once `size` bytes more fit in. Raises Problem where that would take too long."""
        before, since = for_whom.waited, time.monotonic()
        while not self.has_room(size, for_whom):
            for_whom.waited = before + time.monotonic() - since
            if for_whom.waited >= HONEST_SECONDS and self._cut_slowest():
                continue
            if for_whom.waited >= self._patience:
                raise busy(HONEST_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), PULSE)

    def _cut_slowest(self) -> bool:
        """Cuts who has sent for longest, and longer than the honest do; whether there was one."""
        now = time.monotonic()
        sending = {upload: now - upload.since - upload.waited for upload in self._coming if not upload.waits}
        slowest = max(sending, key=sending.__getitem__, default=None)
        if slowest is None or sending[slowest] < HONEST_SECONDS:
            return False
        self._coming.discard(slowest)
        self._let_go(slowest)
        slowest.cut = True
        if not slowest.limit.expired():
            slowest.limit.reschedule(0)  # long ago
        return True

    def _let_go(self, upload: Upload) -> None:
        self._held.discard(upload)
        self._freed.set()
        self._freed = asyncio.Event()
