"""Many files through a bundle, one after the other: finding, reading and answering them in flat memory."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from upath import UPath

from fovsfe import machine
from fovsfe.bundle.predictor import BATCH, ModelInputs, Prediction, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto
from fovsfe.photos.reader import ARCHIVES, is_photo_name, names_in, read_named
from fovsfe.storage.locations import AnyPath, as_path, filesystem_of, is_file, is_url
from fovsfe.storage.retry import retry

T = TypeVar("T")


def expand_paths(paths: Iterable[str], lines: Iterable[str]) -> Iterator[str]:
    """The files that `paths` stand for, as they are found.

    A folder stands for the photos in it, at any depth and also in zips and tars; a pattern ("cars/**/*.jpg")
    for what it matches; "-" for the paths in `lines`, one a line; anything else for itself, also where there
    is no such file. Folders may be URLs.
    """
    for path in paths:
        if path == "-":
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
        elif is_url(path):
            yield from _photos_at(path)
        elif Path(path).is_dir():
            yield from _photos_in(path)
        elif not Path(path).exists() and glob.has_magic(path):
            # Path.glob takes no absolute pattern
            yield from sorted(glob.glob(path, recursive=True)) or [path]  # noqa: PTH207
        else:
            yield path


def predict_files(
    predictor: Predictor, files: Iterable[str], max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[str, Prediction | str]]:
    """Each file with its answer or, in words, why there is none; in their order.

    Takes files only as it goes, reads and decodes a few ahead in threads, and keeps no answered photo.
    """

    def fitted(file: str) -> ModelInputs | str:
        return read_photo(file, lambda data: predictor.pixels(data, max_pixels))

    source, threads = iter(files), machine.cores()
    ahead: deque[tuple[list[str], list[Future[ModelInputs | str]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            while len(ahead) < 1 + threads and (some := list(islice(source, BATCH))):
                ahead.append((some, [pool.submit(fitted, file) for file in some]))
            if not ahead:
                return
            some, results = ahead.popleft()
            yield from zip(some, _answers(predictor, [result.result() for result in results]), strict=True)


def read_photo(file: str, fit: Callable[[bytes], T]) -> T | str:
    """What `fit` makes of a file's bytes or, in words, why there is nothing: it may raise BadPhoto."""
    try:
        return fit(read_named(file))
    except BadPhoto as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError as error:  # a path that no system has
        return str(error)


def _answers(predictor: Predictor, photos: Sequence[ModelInputs | str]) -> Iterator[Prediction | str]:
    answers = iter(predictor.answers([photo for photo in photos if not isinstance(photo, str)]))
    return (photo if isinstance(photo, str) else next(answers) for photo in photos)


def _photos_in(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield from _photos_of(str(Path(parent) / name), Path(parent) / name)


def _photos_at(url: str) -> Iterator[str]:
    where = UPath(as_path(url))
    if is_file(where):
        yield from _photos_of(url, where) if url.lower().endswith(ARCHIVES) else [url]
        return
    fs, path = filesystem_of(str(where))
    try:
        found = retry(lambda: fs.glob(path) if glob.has_magic(path) else fs.find(path), url)
    except FileNotFoundError:
        found = []
    if not found:
        yield url  # whoever reads it says that it is not there
    for name in sorted(str(fs.unstrip_protocol(file)) for file in found):
        yield from _photos_of(name, as_path(name))


def _photos_of(name: str, file: AnyPath) -> Iterator[str]:
    """The photos that a file of a folder holds: itself, those in an archive, or none."""
    if is_photo_name(name):
        yield name
    elif name.lower().endswith(ARCHIVES):
        try:
            yield from (f"{name}/{entry}" for entry in names_in(file))
        except FovsfeError:  # whoever reads it says so
            yield name
