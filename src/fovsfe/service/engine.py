"""The queue in front of the bundle: photos wait in it, and threads answer them in small batches."""

import asyncio
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from fovsfe import machine
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.predictor import BATCH, ModelInputs, Prediction, Predictor
from fovsfe.photos.decode import BadPhoto, ImageHeader, Pixels, load_photo, read_header
from fovsfe.service import logs
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import Problem, busy
from fovsfe.service.settings import Settings

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")  # brands; what others hold may be AVIF
LARGE = 16 * 1024 * 1024  # bytes
NICENESS = 5  # of the threads that answer; the loop's is 0, so that it reads and refuses without delay


@dataclass(frozen=True)
class PhotoResult:
    """The answer for one photo."""

    answer: Prediction
    size: tuple[int, int]
    """height and width of the photo, upright"""


class _QueuedPhoto:
    """A photo that waits. Whoever claims it first, a thread or its visitor's patience, has it."""

    def __init__(self, data: bytes, done: "asyncio.Future[PhotoResult | Problem]") -> None:
        self.data = data
        self.done = done
        self.since = time.perf_counter()
        self.claimed = False


class Engine:
    """Answers photos, `settings.threads` batches at a time, on one core each; `settings` leave nothing open.

    Its coroutines belong to the loop that `start` was called in.
    """

    def __init__(self, predictor: Predictor, settings: Settings, metrics: ServiceMetrics) -> None:
        self._predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self._labels = predictor.bundle.class_names
        self._sides = max(max(member.size) for member in predictor.bundle.members)
        self._jobs: queue.SimpleQueue[_QueuedPhoto | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._pace = 0.0  # seconds that a photo takes a thread, the mean of the last few
        self._memory = _DecodeMemory(settings.decode_memory)
        self._threads: list[threading.Thread] = []
        self._drawing = ThreadPoolExecutor(1, "drawing")

    def start(self) -> None:
        """Starts the threads."""
        self._loop = asyncio.get_running_loop()
        count = self._settings.threads
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads once what they have begun is done; waits no longer than a second for them."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(1 / len(self._threads))
        self._drawing.shutdown(wait=False, cancel_futures=True)

    def check_room(self, photos: int) -> None:
        """Raises Problem at once where so many photos more cannot wait, or would wait for too long."""
        wait = self._waiting * self._pace / self._settings.threads
        if self._waiting + photos > self._settings.queue_length or wait > self._settings.queue_seconds / 2:
            raise busy(wait)

    async def answer(self, data: bytes) -> PhotoResult:
        """What the bundle says of an encoded photo. Raises Problem."""
        job = _QueuedPhoto(data, self._loop.create_future())
        self._put(job)
        try:
            async with asyncio.timeout(self._settings.queue_seconds):
                found = await asyncio.shield(job.done)
        except TimeoutError:
            if self._claim(job):
                job.data = b""
                raise Problem(
                    "long-wait", "The photo waited too long; try again in a moment.", {"Retry-After": "5"}
                ) from None
            found = await job.done
        if isinstance(found, Problem):
            raise found
        return found

    async def answers(self, photos: Sequence[bytes]) -> list[PhotoResult | Problem]:
        """For each photo its reply, or what is wrong with it. Raises Problem where that is not its fault."""
        self.check_room(len(photos))
        found = await asyncio.gather(*map(self.answer, photos), return_exceptions=True)
        replies: list[PhotoResult | Problem] = []
        for reply in found:
            if isinstance(reply, BaseException) and not (isinstance(reply, Problem) and reply.status < 500):
                raise reply
            replies.append(reply)
        return replies

    async def overlay(self, reply: PhotoResult, label: int) -> bytes | None:
        """`bundle.heat.overlay` of a reply, drawn in a thread."""
        return await self._loop.run_in_executor(
            self._drawing, cam_overlay, reply.answer, self._predictor.bundle, label, reply.size
        )

    async def small(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """A photo that has been answered, at another size (height, width), drawn in a thread."""

        def draw() -> Pixels:
            most = self._settings.max_pixels
            with self._memory.taken(memory_needed(data, read_header(data, most), max(size))):
                return load_photo(data, size, "squash", most)

        return await self._loop.run_in_executor(self._drawing, draw)

    def _put(self, job: _QueuedPhoto) -> None:
        with self._lock:
            self.check_room(1)
            self._waiting += 1
            self._metrics.waiting.set(self._waiting)
        self._jobs.put(job)

    def _claim(self, job: _QueuedPhoto) -> bool:
        with self._lock:
            if job.claimed:
                return False
            job.claimed = True
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)
            return True

    def _run(self) -> None:
        """A thread's life."""
        if sys.platform == "linux":  # where a thread may be nicer than its process: refusals come first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (first := self._jobs.get()) is not None:
            batch = [job for job in (first, *self._more()) if self._claim(job)]
            started = time.perf_counter()
            found = self._results(batch)
            for job in batch:
                job.data = b""  # this thread keeps the batch until the next one comes
                seconds = (time.perf_counter() - started) / len(batch)
                self._pace = 0.9 * self._pace + 0.1 * seconds if self._pace else seconds
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_deliver, batch, found)

    def _more(self) -> Iterator[_QueuedPhoto]:
        """What else waits already, up to a batch."""
        for _ in range(BATCH - 1):
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:  # the sign to stop is for whoever looks next
                self._jobs.put(None)
                return
            yield job

    def _results(self, batch: Sequence[_QueuedPhoto]) -> list[PhotoResult | Problem]:
        fitted = [self._fitted(job) for job in batch]
        readable = [photo for photo in fitted if not isinstance(photo, Problem)]
        if not readable:
            return [photo for photo in fitted if isinstance(photo, Problem)]
        started = time.perf_counter()
        try:
            answers = iter(self._predictor.answers([pixels for pixels, _ in readable]))
        except Exception as error:  # the runtime's exceptions have no common class
            logs.fault(error)
            return [Problem("internal", "The prediction failed.")] * len(batch)
        self._metrics.infer.observe(time.perf_counter() - started)
        self._metrics.batch.observe(len(readable))
        return [
            photo if isinstance(photo, Problem) else self._counted(PhotoResult(next(answers), photo[1]))
            for photo in fitted
        ]

    def _fitted(self, job: _QueuedPhoto) -> tuple[ModelInputs, tuple[int, int]] | Problem:
        """The photo as the members take it, and its height and width."""
        started = time.perf_counter()
        self._metrics.queue.observe(started - job.since)
        try:
            about = read_header(job.data, self._settings.max_pixels)
            with self._memory.taken(memory_needed(job.data, about, self._sides)):
                pixels = self._predictor.pixels(job.data, self._settings.max_pixels)
            return pixels, (about.height, about.width)
        except BadPhoto as error:
            return _bad_photo(str(error))
        except Problem as problem:
            return problem
        finally:
            self._metrics.decode.observe(time.perf_counter() - started)

    def _counted(self, reply: PhotoResult) -> PhotoResult:
        self._metrics.answers.labels(self._labels[int(reply.answer.probabilities.argmax())]).inc()
        if not reply.answer.known:
            self._metrics.unknown.inc()
        return reply


class _DecodeMemory:
    """Bytes that several threads may take together; who needs more than are free waits."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Raises Problem where it needs more than there is at all."""
        if size > self._most:
            raise Problem(
                "too-many-pixels", "The photo needs more memory than there is for one; make it smaller."
            )
        with self._freed:
            self._freed.wait_for(lambda: self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            if size > LARGE:
                machine.give_back()  # or the holes that it leaves are missing elsewhere
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


def memory_needed(data: bytes, about: ImageHeader, side: int) -> int:
    """Bytes that decoding a photo takes at its peak, where `side` is the longest that is wanted of it.

    Rounded up from what Pillow 13 took for 12 and 24 million pixels of each kind. A JPEG is decoded at about
    the scale that is wanted, but a progressive one keeps all its coefficients meanwhile.
    """
    pixels, notes = about.width * about.height, set(about.notes) - {"first of several frames"}
    if data.startswith(b"\xff\xd8"):
        scaled = min(pixels, max(16 * side * side, pixels // 64))
        return 9 * scaled + (8 * pixels if b"\xff\xc2" in data else 0)
    if data.startswith(b"RIFF"):
        return (24 if "transparent" in notes else 17) * pixels
    if {"transparent", "16-bit", "32-bit", "floating point"} & notes:
        return 22 * pixels
    if data[4:8] == b"ftyp":
        return (17 if data[8:12] in HEIC else 21) * pixels // 2
    return (10 if notes or data[:2] in (b"II", b"MM") else 6) * pixels


def _bad_photo(reason: str) -> Problem:
    if reason in ("not an image", "empty"):
        return Problem("not-an-image", "These bytes are no photo in a format that can be read.")
    if "the limit of" in reason:
        return Problem("too-many-pixels", f"The photo has more pixels than are read: {reason}.")
    return Problem("damaged-photo", f"The photo cannot be read: {reason}.")


def _deliver(batch: Sequence[_QueuedPhoto], found: Sequence[PhotoResult | Problem]) -> None:
    for job, result in zip(batch, found, strict=True):
        if not job.done.done():
            job.done.set_result(result)
