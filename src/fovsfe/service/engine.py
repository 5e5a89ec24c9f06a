"""The queue of photos: processes decode them, and inference threads predict them in small batches."""

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fovsfe import machine
from fovsfe.arrays import Pixels
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.predictor import BATCH, ModelInputs, Prediction, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import BadPhoto
from fovsfe.photos.decode_pool import DecodePool, ForkServer
from fovsfe.photos.decode_turns import OUT_OF_MEMORY, DecodeBusy, DecodeLimits
from fovsfe.service import logs
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import HOW_TO_SEND, Problem, busy
from fovsfe.service.recent import RecentAnswers
from fovsfe.service.settings import Settings

BATCH_SECONDS = 60.0  # an inference thread that is busy with one batch for longer hangs
NICENESS = 5  # of what computes; the event loop keeps 0, so that it can refuse without delay
UNREADABLE_SECONDS = 0.1  # until an unreadable photo is answered, so that a stream of them is slow
DECODE_THREADS = 64  # that wait for decode processes, if so many photos are in the queue


@dataclass(frozen=True)
class PhotoResult:
    """The prediction for one photo of an upload."""

    prediction: Prediction
    size: tuple[int, int]
    """height and width of the upright photo in pixels"""


class _QueuedPhoto:
    """A photo in the queue. It is decoded there; then either an inference thread claims it or, when it has
    waited too long, its request."""

    def __init__(self, data: bytes, result: "asyncio.Future[PhotoResult | Problem]") -> None:
        self.data = data
        self.result = result
        self.since = time.perf_counter()
        self.claimed = False
        self.decode_seconds: float | None = None
        """None for a slow photo, which says nothing about others"""
        self.inputs: ModelInputs = ()
        self.size = (0, 0)


class Engine:
    """Predicts what photos show in `settings.threads` inference threads, each on one core.

    The coroutines must run in the event loop that `start` was called in.
    """

    def __init__(
        self, predictor: Predictor, settings: Settings, metrics: ServiceMetrics, fork_server: ForkServer
    ) -> None:
        """`settings` must have their threads and memory filled in; `fork_server` is for decoding."""
        self._predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self._class_names = predictor.bundle.class_names
        self.recent = RecentAnswers(predictor.bundle, settings.workers, metrics)
        limits = DecodeLimits(
            processes=settings.threads,
            memory=settings.decode_memory,
            cpu_seconds_factor=1,
            decode_seconds=settings.queue_seconds,
            wait_seconds=settings.queue_seconds,
            yields=True,
        )
        self._pool = DecodePool(limits, fork_server)
        self._decoding = ThreadPoolExecutor(min(settings.queue_length, DECODE_THREADS), "decoding")
        self._ready: queue.SimpleQueue[_QueuedPhoto | None] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(BATCH * settings.threads)  # how many may be ready
        self._lock = threading.Lock()
        self._queued = 0
        self._mean_seconds = 0.0  # that a photo takes a core: a moving average
        self._threads: list[threading.Thread] = []
        self._busy_since: dict[threading.Thread, float] = {}
        self._drawing = ThreadPoolExecutor(1, "drawing")

    def start(self) -> None:
        """Starts the inference threads."""
        self._loop = asyncio.get_running_loop()
        count = self._settings.threads
        self._threads = [threading.Thread(target=self._predict_batches, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets the inference threads finish their batches and end; waits no longer than a second for them."""
        self._pool.close()
        for _ in self._threads:
            self._ready.put(None)
        for thread in self._threads:
            thread.join(1 / len(self._threads))
        self._ahead.release(DECODE_THREADS)  # nobody takes what they have made ready
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._drawing.shutdown(wait=False, cancel_futures=True)

    def check_capacity(self, photos: int = 1) -> None:
        """Raises Problem if the queue has no room for so many more photos, or if they would wait too long."""
        wait = self._queued * self._mean_seconds / self._settings.threads
        if self._queued + photos > self._settings.queue_length or wait > self._settings.queue_seconds / 2:
            raise busy(wait)

    def check_threads(self) -> None:
        """Raises Problem if an inference thread has ended, or hangs."""
        latest = time.monotonic() - BATCH_SECONDS
        if not all(thread.is_alive() for thread in self._threads):
            raise Problem("not-ready", "An inference thread has ended; restart the service.")
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
                photo.data = b""  # it may wait for its turn still
                raise _long_wait() from None
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
        if any(isinstance(result, Problem) for result in results):
            await asyncio.sleep(UNREADABLE_SECONDS)
        return results

    async def overlay(self, result: PhotoResult, label: int) -> bytes | None:
        """Draws `bundle.cam.cam_overlay` for the label at this position, in a thread of its own."""
        return await self._loop.run_in_executor(
            self._drawing, cam_overlay, result.prediction, self._predictor.bundle, label, result.size
        )

    async def resize(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """Returns a photo that was predicted, at another size (height, width). Raises Problem."""

        def decode() -> Pixels:
            try:
                input_sizes, max_pixels = [(size, "squash")], self._settings.max_pixels
                return self._pool.decode_to_sizes(data, input_sizes, max_pixels).pixels[0]
            except BadPhoto as error:
                raise _unreadable(str(error)) from None
            except DecodeBusy:
                raise _long_wait() from None
            except FovsfeError as error:
                logs.exception(error, reason=str(error))
                raise _no_room() from error

        return await self._loop.run_in_executor(self._decoding, decode)

    def _put(self, photo: _QueuedPhoto) -> None:
        with self._lock:
            self.check_capacity()
            self._queued += 1
            self._metrics.waiting.set(self._queued)
        try:
            self._decoding.submit(self._decode, photo)
        except RuntimeError as error:  # the system has no thread to give
            logs.exception(error)
            self._claim(photo)
            raise _no_room() from error

    def _claim(self, photo: _QueuedPhoto) -> bool:
        """Takes a photo out of the queue; False if that was done before."""
        with self._lock:
            if photo.claimed:
                return False
            photo.claimed = True
            self._queued -= 1
            self._metrics.waiting.set(self._queued)
            return True

    def _decode(self, photo: _QueuedPhoto) -> None:
        """Makes a photo ready for the inference threads, in a thread that waits for a decode process."""
        try:
            with self._pool.turn() as turn:
                if photo.claimed:
                    return
                started = time.perf_counter()
                self._metrics.queue.observe(started - photo.since)
                try:
                    decoded = self._pool.decode_to_sizes(
                        photo.data, self._predictor.input_sizes, self._settings.max_pixels, turn
                    )
                finally:
                    seconds = time.perf_counter() - started
                    self._metrics.decode.observe(seconds)
                photo.inputs = self._predictor.inputs(decoded.pixels)
                photo.size = decoded.header.height, decoded.header.width
                photo.decode_seconds = None if turn.is_slow else seconds
                self._ahead.acquire()  # in its turn, because what is ready takes memory, too
            self._ready.put(photo)
        except BadPhoto as error:
            self._refuse(photo, _unreadable(str(error)))
        except DecodeBusy:
            self._refuse(photo, _long_wait())
        except (FovsfeError, MemoryError) as error:  # of the machine, which may have room in a moment
            logs.exception(error, reason=str(error))
            self._refuse(photo, _no_room())
        except Exception as error:
            logs.exception(error)
            self._refuse(photo, Problem("internal", "The photo could not be decoded."))

    def _refuse(self, photo: _QueuedPhoto, problem: Problem) -> None:
        if self._claim(photo):
            self._deliver([photo], [problem])

    def _predict_batches(self) -> None:
        """Predicts batches until the engine stops; runs in each inference thread."""
        if sys.platform == "linux":  # where a thread can have another niceness than its process
            machine.make_nicer(threading.get_native_id(), NICENESS)
        while (first := self._ready.get()) is not None:
            ready = [first, *self._next_photos()]
            self._ahead.release(len(ready))
            if batch := [photo for photo in ready if self._claim(photo)]:
                self._busy_since[threading.current_thread()] = time.monotonic()
                results = self._predict_or_fail(batch)
                del self._busy_since[threading.current_thread()]
                self._deliver(batch, results)

    def _predict_or_fail(self, batch: Sequence[_QueuedPhoto]) -> Sequence[PhotoResult | Problem]:
        """Returns a result for each photo, whatever happens: a thread that ended would leave them waiting."""
        try:
            return self._predict_batch(batch)
        except BaseException as error:  # of a library, which may be no Exception
            logs.exception(error)
            return [Problem("internal", "The prediction failed.")] * len(batch)

    def _next_photos(self) -> Iterator[_QueuedPhoto]:
        """Yields what is ready already and fits into the batch."""
        for _ in range(BATCH - 1):
            try:
                photo = self._ready.get_nowait()
            except queue.Empty:
                return
            if photo is None:  # this thread's sign to stop, or another's: it is for the next `get`
                self._ready.put(None)
                return
            yield photo

    def _predict_batch(self, batch: Sequence[_QueuedPhoto]) -> list[PhotoResult | Problem]:
        started = time.perf_counter()
        predictions = self._predictor.predict_inputs([photo.inputs for photo in batch])
        seconds = time.perf_counter() - started
        self._metrics.infer.observe(seconds)
        self._metrics.batch.observe(len(batch))
        for photo in batch:
            if photo.decode_seconds is not None:
                self._count_seconds(photo.decode_seconds + seconds / len(batch))
        return [
            self._counted(PhotoResult(prediction, photo.size))
            for photo, prediction in zip(batch, predictions, strict=True)
        ]

    def _count_seconds(self, seconds: float) -> None:
        self._mean_seconds = 0.9 * self._mean_seconds + 0.1 * seconds if self._mean_seconds else seconds

    def _counted(self, result: PhotoResult) -> PhotoResult:
        label = self._class_names[int(result.prediction.probabilities.argmax())]
        self._metrics.answers.labels(label).inc()
        if not result.prediction.known:
            self._metrics.unknown.inc()
        self.recent.add(result.prediction)
        return result

    def _deliver(self, batch: Sequence[_QueuedPhoto], results: Sequence[PhotoResult | Problem]) -> None:
        def deliver() -> None:
            for photo, result in zip(batch, results, strict=True):
                if not photo.result.done():
                    photo.result.set_result(result)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(deliver)


def _long_wait() -> Problem:
    return Problem("long-wait", "The photo waited too long; try again in a moment.", {"Retry-After": "5"})


def _no_room() -> Problem:
    detail = "The machine lacks memory or processes to decode the photo right now; try again in a moment."
    return Problem("busy", detail, {"Retry-After": "5"})


def _unreadable(reason: str) -> Problem:
    """Returns the problem for a photo that `photos.decode` refuses for this reason."""
    if reason in ("not an image", "empty"):
        return Problem("not-an-image", f"This is not an image in a supported format. {HOW_TO_SEND}")
    if reason == OUT_OF_MEMORY:
        return Problem(
            "too-much-memory", "Decoding the photo takes more memory than is available; make it smaller."
        )
    if "the limit of" in reason:
        return Problem("too-many-pixels", f"The photo has too many pixels: {reason}.")
    return Problem("damaged-photo", f"The photo cannot be read: {reason}.")
