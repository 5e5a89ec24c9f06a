"""The queue of photos, and the worker threads that take small batches from it and predict them."""

import asyncio
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fovsfe.arrays import Pixels
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.predictor import BATCH, ModelInputs, Prediction, Predictor
from fovsfe.photos.decode import BadPhoto, load_photo, read_header
from fovsfe.service import logs
from fovsfe.service.decode_memory import DecodeMemory, memory_needed
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import HOW_TO_SEND, Problem, busy
from fovsfe.service.settings import Settings

BATCH_SECONDS = 60.0  # a worker thread that is busy with one batch for longer hangs
NICENESS = 5  # of the worker threads; the event loop keeps 0, so that it can refuse without delay


@dataclass(frozen=True)
class PhotoResult:
    """The prediction for one photo of an upload."""

    prediction: Prediction
    size: tuple[int, int]
    """height and width of the upright photo in pixels"""


class _QueuedPhoto:
    """A photo in the queue. Either a worker thread claims it or, when it has waited too long, its request."""

    def __init__(self, data: bytes, result: "asyncio.Future[PhotoResult | Problem]") -> None:
        self.data = data
        self.result = result
        self.since = time.perf_counter()
        self.claimed = False


class Engine:
    """Predicts what photos show in `settings.threads` worker threads, each on one core.

    The coroutines must run in the event loop that `start` was called in.
    """

    def __init__(self, predictor: Predictor, settings: Settings, metrics: ServiceMetrics) -> None:
        """`settings` must have their threads and memory filled in."""
        self._predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self._class_names = predictor.bundle.class_names
        self._longest_side = max(max(member.size) for member in predictor.bundle.members)
        self._queue: queue.SimpleQueue[_QueuedPhoto | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._mean_seconds = 0.0  # that a photo takes a thread: a moving average
        self._decode_memory = DecodeMemory(settings.decode_memory)
        self._threads: list[threading.Thread] = []
        self._busy_since: dict[threading.Thread, float] = {}
        self._drawing = ThreadPoolExecutor(1, "drawing")

    def start(self) -> None:
        """Starts the worker threads."""
        self._loop = asyncio.get_running_loop()
        count = self._settings.threads
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets the worker threads finish their batches and end; waits no longer than a second for them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(1 / len(self._threads))
        self._drawing.shutdown(wait=False, cancel_futures=True)

    def check_capacity(self, photos: int = 1) -> None:
        """Raises Problem if the queue has no room for so many more photos, or if they would wait too long."""
        wait = self._queued * self._mean_seconds / self._settings.threads
        if self._queued + photos > self._settings.queue_length or wait > self._settings.queue_seconds / 2:
            raise busy(wait)

    def check_threads(self) -> None:
        """Raises Problem if a worker thread has ended, or hangs."""
        latest = time.monotonic() - BATCH_SECONDS
        if not all(thread.is_alive() for thread in self._threads):
            raise Problem("not-ready", "A worker thread has ended; restart the service.")
        if any(since < latest for since in [*self._busy_since.values()]):
            raise Problem("not-ready", f"A batch has taken more than {BATCH_SECONDS:.0f} s.")

    async def predict(self, data: bytes) -> PhotoResult:
        """Returns the prediction for a photo. Raises Problem if it is unreadable or waits too long."""
        photo = _QueuedPhoto(data, self._loop.create_future())
        self._put(photo)
        try:
            async with asyncio.timeout(self._settings.queue_seconds):
                result = await asyncio.shield(photo.result)
        except TimeoutError:
            if self._claim(photo):
                photo.data = b""
                raise Problem(
                    "long-wait", "The photo waited too long; try again in a moment.", {"Retry-After": "5"}
                ) from None
            result = await photo.result
        if isinstance(result, Problem):
            raise result
        return result

    async def predict_all(self, photos: Sequence[bytes]) -> list[PhotoResult | Problem]:
        """Returns for each photo its prediction, or the Problem if it cannot be read.

        Raises Problem if that is not a photo's fault.
        """
        self.check_capacity(len(photos))
        results: list[PhotoResult | Problem] = []
        for result in await asyncio.gather(*map(self.predict, photos), return_exceptions=True):
            if isinstance(result, BaseException) and not (
                isinstance(result, Problem) and result.status < 500
            ):
                raise result
            results.append(result)
        return results

    async def overlay(self, result: PhotoResult, label: int) -> bytes | None:
        """Draws `bundle.cam.cam_overlay` for the label at this position, in a thread of its own."""
        return await self._loop.run_in_executor(
            self._drawing, cam_overlay, result.prediction, self._predictor.bundle, label, result.size
        )

    async def resize(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """Returns a photo that was predicted at another size (height, width), made in a thread of its own."""

        def load() -> Pixels:
            max_pixels = self._settings.max_pixels
            needed = memory_needed(data, read_header(data, max_pixels), max(size))
            with self._decode_memory.reserved(needed):
                return load_photo(data, size, "squash", max_pixels)

        return await self._loop.run_in_executor(self._drawing, load)

    def _put(self, photo: _QueuedPhoto) -> None:
        with self._lock:
            self.check_capacity()
            self._queued += 1
            self._metrics.waiting.set(self._queued)
        self._queue.put(photo)

    def _claim(self, photo: _QueuedPhoto) -> bool:
        """Takes a photo out of the queue; False if that was done before."""
        with self._lock:
            if photo.claimed:
                return False
            photo.claimed = True
            self._queued -= 1
            self._metrics.waiting.set(self._queued)
            return True

    def _work(self) -> None:
        """Runs in each worker thread."""
        if sys.platform == "linux":  # where a thread can have another niceness than its process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (first := self._queue.get()) is not None:
            batch = [photo for photo in (first, *self._next_photos()) if self._claim(photo)]
            self._busy_since[threading.current_thread()] = started = time.monotonic()
            results = self._predict_or_fail(batch)
            del self._busy_since[threading.current_thread()]
            for photo in batch:
                photo.data = b""  # `batch` lives until the next one comes
                seconds = (time.monotonic() - started) / len(batch)
                self._mean_seconds = (
                    0.9 * self._mean_seconds + 0.1 * seconds if self._mean_seconds else seconds
                )
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_deliver, batch, results)

    def _predict_or_fail(self, batch: Sequence[_QueuedPhoto]) -> Sequence[PhotoResult | Problem]:
        """Returns a result for each photo, whatever happens: a thread that ended would leave them waiting."""
        try:
            return self._predict_batch(batch)
        except BaseException as error:  # of a library, which may be no Exception
            logs.exception(error)
            return [Problem("internal", "The prediction failed.")] * len(batch)

    def _next_photos(self) -> Iterator[_QueuedPhoto]:
        """Yields what is in the queue already and fits into the batch."""
        for _ in range(BATCH - 1):
            try:
                photo = self._queue.get_nowait()
            except queue.Empty:
                return
            if photo is None:  # this thread's sign to stop, or another's: it is for the next `get`
                self._queue.put(None)
                return
            yield photo

    def _predict_batch(self, batch: Sequence[_QueuedPhoto]) -> list[PhotoResult | Problem]:
        loaded = [self._load(photo) for photo in batch]
        readable = [photo for photo in loaded if not isinstance(photo, Problem)]
        if not readable:
            return [photo for photo in loaded if isinstance(photo, Problem)]
        started = time.perf_counter()
        predictions = iter(self._predictor.predict_inputs([inputs for inputs, _ in readable]))
        self._metrics.infer.observe(time.perf_counter() - started)
        self._metrics.batch.observe(len(readable))
        return [
            photo if isinstance(photo, Problem) else self._counted(PhotoResult(next(predictions), photo[1]))
            for photo in loaded
        ]

    def _load(self, photo: _QueuedPhoto) -> tuple[ModelInputs, tuple[int, int]] | Problem:
        """Returns the photo as the networks take it, with its height and width."""
        started = time.perf_counter()
        self._metrics.queue.observe(started - photo.since)
        try:
            header = read_header(photo.data, self._settings.max_pixels)
            with self._decode_memory.reserved(memory_needed(photo.data, header, self._longest_side)):
                inputs = self._predictor.prepare(photo.data, self._settings.max_pixels)
            return inputs, (header.height, header.width)
        except BadPhoto as error:
            return _unreadable(str(error))
        except Problem as problem:
            return problem
        finally:
            self._metrics.decode.observe(time.perf_counter() - started)

    def _counted(self, result: PhotoResult) -> PhotoResult:
        label = self._class_names[int(result.prediction.probabilities.argmax())]
        self._metrics.answers.labels(label).inc()
        if not result.prediction.known:
            self._metrics.unknown.inc()
        return result


def _unreadable(reason: str) -> Problem:
    """Returns the problem for a photo that `photos.decode` refuses for this reason."""
    if reason in ("not an image", "empty"):
        return Problem("not-an-image", f"This is not an image in a supported format. {HOW_TO_SEND}")
    if "the limit of" in reason:
        return Problem("too-many-pixels", f"The photo has too many pixels: {reason}.")
    return Problem("damaged-photo", f"The photo cannot be read: {reason}.")


def _deliver(batch: Sequence[_QueuedPhoto], results: Sequence[PhotoResult | Problem]) -> None:
    for photo, result in zip(batch, results, strict=True):
        if not photo.result.done():
            photo.result.set_result(result)
