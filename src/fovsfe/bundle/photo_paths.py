"""The photos that the arguments of `predict` name: files, folders, patterns, archives and URLs."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from upath import UPath

from fovsfe.photos.archives import BadArchive
from fovsfe.photos.passed_over import EMPTY, PassedOver
from fovsfe.photos.reader import is_archive_name
from fovsfe.photos.walk import photos_of_archive, walk_photos
from fovsfe.storage.locations import AnyPath, as_path, exists, filesystem_of, is_dir, is_file, is_url
from fovsfe.storage.retry import retry


def expand_paths(paths: Iterable[str], lines: Iterable[str], passed_over: PassedOver) -> Iterator[str]:
    """Yields the photos that `paths` name, as they are found.

    A folder stands for the photos in it, at any depth and also in zips and tars, an archive for those in it;
    a pattern ("cars/**/*.jpg") for what it matches; "-" for the paths in `lines`, one a line; anything else
    for itself, even if there is no such file. All of them may be URLs. `passed_over` is told of folders and
    archives without a photo, and of everything in them that is not one.

    Raises FovsfeError if a folder cannot be read, or a URL cannot be reached.
    """
    count = 0
    for path in paths:
        for photo in _photos_in_lines(lines, passed_over) if path == "-" else _photos_of(path, passed_over):
            count += 1
            yield photo
    if not count and not passed_over.counts[EMPTY]:
        passed_over.add(EMPTY, "standard input")


def _photos_in_lines(lines: Iterable[str], passed_over: PassedOver) -> Iterator[str]:
    for number, line in enumerate(lines):
        # Windows begins a text with a byte order mark.
        name = (line.removeprefix("\ufeff") if number == 0 else line).rstrip("\r\n")
        if name.strip():
            yield from _photos_of(name, passed_over)


def _photos_of(path: str, passed_over: PassedOver) -> Iterator[str]:
    location: AnyPath = UPath(as_path(path)) if is_url(path) else Path(path)
    if is_file(location):
        if is_archive_name(path):
            yield from _filled(path, _photos_in_archive(path, location, passed_over), passed_over)
        else:
            yield path
    elif is_dir(location):
        found = PassedOver()
        folder = path.rstrip("/")
        photos = (f"{folder}/{name}" for name in walk_photos(location, found))
        yield from _filled(path, photos, passed_over)
        passed_over.add_all(found, folder)
    elif glob.has_magic(path) and not exists(location) and (matches := _matches(path)):
        for match in matches:
            yield from _photos_of(match, passed_over)
    else:
        yield path  # reading it will report why it cannot be read


def _photos_in_archive(path: str, location: AnyPath, passed_over: PassedOver) -> Iterator[str]:
    found = PassedOver()
    try:
        names = photos_of_archive(location, found)
    except BadArchive:
        yield path  # reading it will report why it cannot be read
        return
    passed_over.add_all(found, path.rpartition("/")[0])
    yield from (f"{path}/{name}" for name in names)


def _filled(name: str, photos: Iterator[str], passed_over: PassedOver) -> Iterator[str]:
    """Yields the photos; if there are none, `passed_over` is told that `name` has none."""
    is_empty = True
    for photo in photos:
        is_empty = False
        yield photo
    if is_empty:
        passed_over.add(EMPTY, name)


def _matches(pattern: str) -> list[str]:
    """Returns what a pattern matches, in order."""
    if not is_url(pattern):
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes none that is absolute
    fs, path = filesystem_of(pattern)
    return sorted(str(fs.unstrip_protocol(match)) for match in retry(lambda: fs.glob(path), pattern))
