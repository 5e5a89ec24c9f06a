"""Predictions for many photos, one after the other: photos are decoded in threads, in flat memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from fovsfe import machine
from fovsfe.bundle.predictor import BATCH, ModelInputs, Prediction, Predictor
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto
from fovsfe.photos.reader import read_encoded

T = TypeVar("T")


def predict_files(
    predictor: Predictor, files: Iterable[str], max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[str, Prediction | str]]:
    """Yields each file with its prediction or, in words, why it has none; in their order."""
    return predict_stream(
        predictor, files, lambda file: read_photo(file, lambda data: predictor.prepare(data, max_pixels))
    )


def predict_stream(
    predictor: Predictor, photos: Iterable[T], prepare: Callable[[T], ModelInputs | str]
) -> Iterator[tuple[T, Prediction | str]]:
    """Yields each of `photos` with its prediction or, in words, why it has none; in their order.

    Takes photos only as it goes, prepares a few ahead in threads, and keeps none that is done.

    Args:
        photos: whatever `prepare` takes: names of files, encoded photos, arrays.
        prepare: called in threads; returns what `Predictor.prepare` returns for a photo or, in words, why it
            cannot be read. What it raises is raised here.
    """
    source, threads = iter(photos), machine.cores()
    ahead: deque[tuple[list[T], list[Future[ModelInputs | str]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            while len(ahead) < 1 + threads and (batch := list(islice(source, BATCH))):
                ahead.append((batch, [pool.submit(prepare, photo) for photo in batch]))
            if not ahead:
                return
            batch, futures = ahead.popleft()
            prepared = [future.result() for future in futures]
            readable = [inputs for inputs in prepared if not isinstance(inputs, str)]
            predictions = iter(predictor.predict_inputs(readable))
            for photo, inputs in zip(batch, prepared, strict=True):
                yield photo, inputs if isinstance(inputs, str) else next(predictions)


def read_photo(file: str, decode: Callable[[bytes], T]) -> T | str:
    """Returns what `decode` makes of a file's bytes or, in words, why it cannot be read.

    `decode` may raise BadPhoto. The file may be at a URL or in an archive.
    """
    try:
        return decode(read_encoded(file))
    except BadPhoto as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
