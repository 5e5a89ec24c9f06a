"""Which uploads are admitted, and how the memory for them is shared.

An upload is refused as early as possible, in this order: while the queue of photos is full (the middleware
asks before anything else is done), if it announces too many bytes or a damaged form, if its client sends too
often, and if there is no memory for it. An admitted upload holds its memory until it is answered, so all that
are admitted can always be received to their end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fovsfe.service.problems import Problem, busy
from fovsfe.service.rate_limit import RateLimit

MAX_RECEIVING = 256  # uploads that are received at the same time
MAX_WAITING = 16  # uploads that wait for memory: each has up to 0.6 MB in socket buffers, which nobody counts
WAITING = 2  # times the memory of all uploads, for which uploads may wait: photos of phones come in groups
GRACE_SECONDS = 2.0  # an upload is never aborted for another one before this
CHECK_SECONDS = 0.5  # between two checks for a slow sender to abort


class Upload:
    """A request that brings photos, with the memory that is reserved for it."""

    def __init__(self, size: int) -> None:
        """`size`: bytes to reserve, the most that it can have."""
        self.size = size
        self.is_aborted = False
        self.arrived = self.started = time.monotonic()  # `started`: when its sender could begin
        self._timeout: asyncio.Timeout | None = None

    @asynccontextmanager
    async def receiving(self, seconds: float) -> AsyncIterator[None]:
        """Limits the time that the sender may take. Raises Problem if it takes longer or is aborted."""
        try:
            async with asyncio.timeout(0 if self.is_aborted else seconds) as self._timeout:
                yield
                if self.is_aborted:  # and finished before the timeout could interrupt it
                    raise TimeoutError
        except TimeoutError:
            raise Problem("too-slow", "The upload took too long; try a faster network.") from None

    def abort(self) -> None:
        """Interrupts `receiving`, now or when it begins."""
        self.is_aborted = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(0)  # a moment long past


class Admission:
    """Admits uploads while memory for them lasts.

    - Each upload reserves the bytes that it announces, or the most that one may have if it announces none.
    - An upload for which there is no room waits a few seconds. Memory goes to the smallest one that waits, so
      huge uploads never hold up ordinary photos. But after n seconds, an upload counts as if it had only
      1 / (1 + n) of its size, so somewhat smaller ones do not overtake it for long.
    - Only so many wait, and for no more than WAITING times the memory together; beyond that, the largest is
      refused.
    - Honest visitors send a photo within seconds. For an upload that has waited for GRACE_SECONDS, the
      senders that have taken longest are aborted, as many as it needs, and it gets their memory before anyone
      else. So slow senders cannot keep others out, and smaller uploads cannot overtake it forever.
    """

    def __init__(
        self,
        memory: int,
        max_wait: float,
        rate_limit: RateLimit,
        check_queue: Callable[[], None],
        max_receiving: int = MAX_RECEIVING,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`memory`: bytes for all uploads together; `max_wait`: seconds that one may wait for its part;
        `check_queue` raises Problem while there is no place for another photo in the queue."""
        self.check_queue = check_queue
        self._memory = memory
        self._max_wait = max_wait
        self._rate_limit = rate_limit
        self._max_receiving = max_receiving
        self._max_waiting = max_waiting
        self._admitted: set[Upload] = set()
        self._receiving: dict[Upload, None] = {}  # a set in the order in which they began
        self._waiting: dict[Upload, asyncio.Future[None]] = {}  # in the order in which they came

    @property
    def reserved(self) -> int:
        """Bytes that admitted uploads hold."""
        return sum(upload.size for upload in self._admitted)

    @asynccontextmanager
    async def admit(self, client: str, size: int) -> AsyncIterator[Upload]:
        """Reserves `size` bytes for an upload of `client` until the context ends.

        The context of `Upload.receiving` is to be entered at once, and `received` to be called after it.
        Raises Problem if the upload is refused.
        """
        self._rate_limit.count(client)
        upload = Upload(size)
        await self._wait(upload)
        try:
            yield upload
        finally:
            self._release(upload)

    def received(self, upload: Upload, size: int) -> None:
        """Notes that all `size` bytes of `upload` are there: it holds no more, and is no longer aborted."""
        self._receiving.pop(upload, None)
        upload.size = size
        self._serve_waiting()

    def _start(self, upload: Upload) -> None:
        if len(self._receiving) >= self._max_receiving:
            slow = self._slow_senders()
            if not slow:
                raise busy(GRACE_SECONDS)
            self._abort(slow[0])
        upload.started = time.monotonic()
        self._admitted.add(upload)
        self._receiving[upload] = None

    def _release(self, upload: Upload) -> None:
        self._admitted.discard(upload)
        self._receiving.pop(upload, None)
        self._serve_waiting()

    async def _wait(self, upload: Upload) -> None:
        """Returns when `upload` is admitted, which may be at once. Raises Problem if it takes too long."""
        admitted = self._waiting[upload] = asyncio.get_running_loop().create_future()
        try:
            self._serve_waiting()
            self._refuse_largest()
            while not admitted.done():
                await asyncio.wait([admitted], timeout=CHECK_SECONDS)
                self._serve_waiting()  # their order changes while they wait
                waited = time.monotonic() - upload.arrived
                if not admitted.done() and waited >= GRACE_SECONDS:
                    self._abort_for(upload)
                if not admitted.done() and waited >= self._max_wait:
                    raise busy(GRACE_SECONDS)
            admitted.result()  # raises what it was refused with
        except BaseException:  # also where the request is cancelled, perhaps just after it was admitted
            self._waiting.pop(upload, None)
            self._release(upload)
            raise

    def _refuse_largest(self) -> None:
        """Keeps those that wait within their limits. Of several equally large ones, the last is refused."""
        while (
            len(self._waiting) > self._max_waiting
            or sum(upload.size for upload in self._waiting) > WAITING * self._memory
        ):
            largest = max(reversed(self._waiting), key=lambda upload: upload.size)
            self._waiting.pop(largest).set_exception(busy(GRACE_SECONDS))

    def _serve_waiting(self) -> None:
        """Admits those that wait, in their order, while there is room."""
        now = time.monotonic()
        for upload in sorted(self._waiting, key=lambda upload: upload.size / (1 + now - upload.arrived)):
            if self.reserved + upload.size > self._memory:
                return
            self._end_wait(upload)

    def _end_wait(self, upload: Upload) -> None:
        admitted = self._waiting.pop(upload)
        try:
            self._start(upload)
            admitted.set_result(None)
        except Problem as problem:
            admitted.set_exception(problem)

    def _abort_for(self, upload: Upload) -> None:
        """Admits `upload` in place of slow senders, if aborting them makes room for it.

        One that is enough by itself is preferred to several, and of those the slowest.
        """
        slow = self._slow_senders()
        missing = self.reserved + upload.size - self._memory
        enough = [sender for sender in slow if sender.size >= missing][:1] or slow
        if sum(sender.size for sender in enough) < missing:
            return
        while missing > 0:
            sender = enough.pop(0)
            missing -= sender.size
            self._abort(sender)
        self._end_wait(upload)
        self._serve_waiting()

    def _slow_senders(self) -> list[Upload]:
        """Those that have been received for longer than an honest upload takes, the slowest first."""
        latest = time.monotonic() - GRACE_SECONDS
        return [upload for upload in self._receiving if upload.started <= latest]

    def _abort(self, upload: Upload) -> None:
        self._admitted.discard(upload)
        self._receiving.pop(upload, None)
        upload.abort()
