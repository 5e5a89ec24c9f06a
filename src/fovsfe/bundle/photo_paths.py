"""The photos that the arguments of a command name: files, folders, patterns, archives and URLs."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from upath import UPath

from fovsfe.errors import FovsfeError
from fovsfe.photos.reader import ARCHIVES, is_photo_name, photo_names
from fovsfe.storage.locations import AnyPath, as_path, filesystem_of, is_file, is_url
from fovsfe.storage.retry import retry


def expand_paths(paths: Iterable[str], lines: Iterable[str]) -> Iterator[str]:
    """Yields the photos that `paths` name, as they are found.

    A folder stands for the photos in it, at any depth and also in zips and tars; a pattern ("cars/**/*.jpg")
    for the files that it matches; "-" for the paths in `lines`, one a line; anything else for itself, even if
    there is no such file. Folders and patterns may be URLs.
    """
    for path in paths:
        if path == "-":
            yield from (line.rstrip("\r\n") for line in lines if line.strip())
        elif is_url(path):
            yield from _photos_at_url(path)
        elif Path(path).is_dir():
            yield from _photos_in_folder(path)
        elif not Path(path).exists() and glob.has_magic(path):
            # Path.glob takes no absolute pattern
            yield from sorted(glob.glob(path, recursive=True)) or [path]  # noqa: PTH207
        else:
            yield path


def _photos_in_folder(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield from _photos_of_file(str(Path(parent) / name), Path(parent) / name)


def _photos_at_url(url: str) -> Iterator[str]:
    location = UPath(as_path(url))
    if is_file(location):
        yield from _photos_of_file(url, location) if url.lower().endswith(ARCHIVES) else [url]
        return
    fs, path = filesystem_of(str(location))
    try:
        files = retry(lambda: fs.glob(path) if glob.has_magic(path) else fs.find(path), url)
    except FileNotFoundError:
        files = []
    if not files:
        yield url  # reading it will report that it does not exist
    for name in sorted(str(fs.unstrip_protocol(file)) for file in files):
        yield from _photos_of_file(name, as_path(name))


def _photos_of_file(name: str, file: AnyPath) -> Iterator[str]:
    """Yields the photos that a file of a folder holds: itself, those in an archive, or none."""
    if is_photo_name(name):
        yield name
    elif name.lower().endswith(ARCHIVES):
        try:
            yield from (f"{name}/{entry}" for entry in photo_names(file))
        except FovsfeError:  # reading the archive will report why
            yield name
