"""Who may send, and how much at one time."""

import asyncio
import fcntl
import hashlib
import hmac
import mmap
import struct
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from fovsfe.service.problems import Problem, busy

SETS, WAYS = 2048, 8  # of clients that are remembered, 400 kB of them
UPLOADS = 256  # under way at one time
LINE = 16  # of them that wait for room: each has up to 0.6 MB in buffers, which no one counts
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

    async def grow(self, size: int) -> None:
        """It becomes `size` bytes larger, as soon as there is room for them. Raises Problem."""
        if self.cut:  # and did not notice yet
            raise TimeoutError
        if not self._uploads.has_room(size, self):
            end, before = self.limit.when() or 0.0, self.waited
            self.limit.reschedule(None)
            try:
                await self._uploads.make_room(size, self)
            finally:
                self.limit.reschedule(end + self.waited - before)
        self.size += size


class Uploads:
    """The uploads that are held, `memory` bytes of them at the most, whether they still come or wait.

    Who finds no room waits for it in a line, a few seconds, and is not read from meanwhile. Where that does
    not help, those who have sent for longest are cut: honest visitors have sent theirs within seconds.
    """

    def __init__(self, memory: int, patience: float, most: int = UPLOADS, line: int = LINE) -> None:
        """`patience`: seconds that an upload waits for room, all in all; `most` come, `line` of them wait."""
        self._memory = memory
        self._patience = patience
        self._most = most
        self._line = line
        self._held: set[Upload] = set()
        self._coming: set[Upload] = set()
        self._waiting: set[Upload] = set()
        self._freed = asyncio.Event()

    @contextmanager
    def one(self, expected: int) -> Iterator[Upload]:
        """A place for an upload of at most so many bytes, until it is answered."""
        upload = Upload(self, expected)
        self._held.add(upload)
        try:
            yield upload
        finally:
            self._let_go(upload)

    @contextmanager
    def coming(self, upload: Upload) -> Iterator[None]:
        """While `upload` comes, it may be cut. Raises Problem where too many come."""
        if len(self._coming) >= self._most:
            slowest = next(iter(self._slow()), None)
            if slowest is None:
                raise busy(HONEST_SECONDS)
            self._cut(slowest)
        self._coming.add(upload)
        try:
            yield
        finally:
            self._coming.discard(upload)
            self._wake()

    def has_room(self, size: int, for_whom: Upload, without: Collection[Upload] = ()) -> bool:
        """Whether `size` bytes more fit in, and all who come could still be held to their end, in some order.

        Else several uploads, each in part, would fill the memory and wait for each other (the banker's
        algorithm: Dijkstra, EWD-108).
        """
        held, coming = self._held.difference(without), self._coming.difference(without)
        free = self._memory - sum(upload.size for upload in held) - size
        if free < 0:
            return False
        free += sum(upload.size for upload in held - coming)  # which are answered in any case
        sizes = {upload: upload.size for upload in coming}
        sizes[for_whom] += size
        for upload in sorted(sizes, key=lambda upload: upload.expected - sizes[upload]):
            if upload.expected - sizes[upload] > free:
                return False
            free += sizes[upload]
        return True

    async def make_room(self, size: int, for_whom: Upload) -> None:
        """Returns once `size` bytes more fit in. Raises Problem where that would take too long."""
        wanted = sum(upload.expected - upload.size for upload in (for_whom, *self._waiting))
        if len(self._waiting) >= self._line or wanted > self._memory:
            raise busy(HONEST_SECONDS)
        before, since = for_whom.waited, time.monotonic()
        self._waiting.add(for_whom)
        try:
            while not self.has_room(size, for_whom):
                for_whom.waited = before + time.monotonic() - since
                if for_whom.waited >= HONEST_SECONDS and self._cut_for(size, for_whom):
                    continue
                if for_whom.waited >= self._patience:
                    raise busy(HONEST_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), PULSE)
        finally:
            self._waiting.discard(for_whom)
            for_whom.waited = before + time.monotonic() - since

    def _slow(self) -> list[Upload]:
        """Who has sent for longer than the honest do, the slowest first. Waiting is not sending."""
        now = time.monotonic()
        sending = {upload: now - upload.since - upload.waited for upload in self._coming - self._waiting}
        slow = [upload for upload, seconds in sending.items() if seconds >= HONEST_SECONDS]
        return sorted(slow, key=sending.__getitem__, reverse=True)

    def _cut_for(self, size: int, for_whom: Upload) -> bool:
        """Cuts a slow upload, if that makes room, or cutting all of them would; whether it did."""
        slow = self._slow()
        enough = next((one for one in slow if self.has_room(size, for_whom, without=[one])), None)
        if enough is None and self.has_room(size, for_whom, without=slow):
            enough = next(iter(slow), None)
        if enough is None:
            return False
        self._cut(enough)
        return True

    def _cut(self, upload: Upload) -> None:
        upload.cut = True
        self._coming.discard(upload)
        self._let_go(upload)
        if not upload.limit.expired():
            upload.limit.reschedule(0)  # long ago

    def _let_go(self, upload: Upload) -> None:
        self._held.discard(upload)
        self._wake()

    def _wake(self) -> None:
        """Those who wait look whether there is room now."""
        self._freed.set()
        self._freed = asyncio.Event()
