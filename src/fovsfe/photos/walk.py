"""Finds photos in folders and archives, here or at a URL: the one walk of all commands."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from fovsfe.errors import FovsfeError
from fovsfe.photos import passed_over as reasons
from fovsfe.photos.archives import Archive, BadArchive
from fovsfe.photos.decode import HEAD_BYTES, SUFFIXES, begins_like_photo
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import is_archive_name, local_path, open_archive, read_head
from fovsfe.storage.locations import AnyPath, filesystem_of
from fovsfe.storage.retry import retry

_SYSTEM = {
    "__macosx", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip

# Files that nobody takes for photos: they are not opened, which would cost a request each in a bucket. Raw
# files of cameras begin like a TIFF, but hold one that is tiny.
_OTHER_SUFFIXES = {
    ".csv", ".tsv", ".txt", ".json", ".xml", ".yaml", ".yml", ".toml", ".md", ".rst", ".html",
    ".htm", ".css", ".js", ".py", ".ipynb", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".npy",
    ".npz", ".pt", ".pth", ".pkl", ".h5", ".onnx", ".safetensors", ".parquet", ".mat", ".mp4", ".mov",
    ".avi", ".mkv", ".webm", ".mp3", ".wav", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw",
    ".orf", ".rw2", ".raf", ".pef", ".exe", ".dll", ".so", ".lnk", ".url",
}  # fmt: skip
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
_OTHER_ARCHIVES = (".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".tbz2", ".txz")


Kind = Literal["file", "folder", "special", "nothing"]


@dataclass(frozen=True)
class Entry:
    """What a folder holds under a name; links are followed."""

    name: str
    kind: Kind
    """"special" is a device, a pipe or a socket, "nothing" a link that leads nowhere"""
    is_link: bool = False
    is_empty: bool = False
    """whether it is known to be a file of no bytes, of which a bucket would refuse to give the first"""


def walk_photos(
    folder: AnyPath,
    passed_over: PassedOver,
    skip: Container[str] = (),
    tables: list[str] | None = None,
) -> Iterator[str]:
    """Yields the photos under a folder, as paths in it: at any depth, and in zips and tars.

    A photo is told by its name or, if that has no known suffix, by its first bytes. A folder or a link with
    the name of a photo, and an archive that cannot be read, are yielded as well: reading them says what is
    wrong. Links are followed, after all that is not linked, and each folder is read once: links in a circle
    come to an end, and a photo goes by the name of the folder that it is in. Hidden files, and those of the
    system, are passed over.

    Args:
        folder: here or at a URL.
        passed_over: is told of everything that is not yielded.
        skip: paths in the folder that are not looked into, and that `passed_over` is not told of.
        tables: gets the paths of files that may be lists of photos, instead of `passed_over`.

    Raises FovsfeError if `folder` itself cannot be read, or a URL cannot be reached.
    """
    seen: set[tuple[int, int]] = set()
    waiting, linked = [""], list[str]()
    while waiting or linked:
        under = waiting.pop() if waiting else linked.pop(0)
        location = folder / under if under else folder
        try:
            if not _is_first_visit(location, seen):
                passed_over.add(reasons.READ_ALREADY, under)
                continue
            entries = list_folder(location)
        except FovsfeError:
            if not under or local_path(folder) is None:  # a URL that is lost now may be there again later
                raise
            passed_over.add(reasons.UNREADABLE, under)
            continue
        if under and not entries:
            passed_over.add(reasons.EMPTY_FOLDERS, under)
        folders: list[str] = []
        for entry in entries:
            path = f"{under}/{entry.name}" if under else entry.name
            if path in skip:
                continue
            if is_hidden(entry.name):
                passed_over.add(reasons.HIDDEN, path)
            elif tables is not None and entry.kind == "file" and is_table_name(entry.name):
                tables.append(path)
            elif entry.kind == "folder" and not is_photo_name(entry.name):
                (linked if entry.is_link else folders).append(path)
            elif entry.kind == "file" and is_archive_name(entry.name):
                yield from _photos_of_archive(location / entry.name, path, passed_over, tables)
            elif is_photo(location, entry, passed_over, path):
                yield path
        waiting.extend(reversed(folders))


def photos_of_archive(
    location: AnyPath, passed_over: PassedOver, tables: list[str] | None = None
) -> list[str]:
    """Returns the photos in a zip or tar, by name; `passed_over` is told of everything else in it.

    `tables` gets the names of files that may be lists of photos, instead of `passed_over`.

    Raises FovsfeError if the archive cannot be read.
    """
    try:
        archive = open_archive(location)
    except OSError as error:
        raise FovsfeError(f"{location}: cannot be read ({error.strerror or error})") from error
    passed_over.add_all(archive.passed_over, location.name)
    names = archive.names
    if tables is not None:
        found = {name for name in names if is_table_name(name) and not any(map(is_hidden, name.split("/")))}
        tables.extend(sorted(found))
        names = [name for name in names if name not in found]
    return [name for name in names if _is_entry_a_photo(archive, name, passed_over, location.name)]


def list_folder(folder: AnyPath) -> list[Entry]:
    """Returns what a folder holds, by name. Raises FovsfeError if it cannot be read."""
    here = local_path(folder)
    try:
        if here is None:
            return _list_remote(str(folder))
        with os.scandir(here) as entries:
            return sorted(map(_local_entry, entries), key=lambda entry: entry.name)
    except OSError as error:
        raise FovsfeError(
            f"{folder}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def is_photo(folder: AnyPath, entry: Entry, passed_over: PassedOver, path: str) -> bool:
    """Returns whether an entry of a folder counts as a photo; if not, `passed_over` is told of its `path`."""
    if entry.kind == "special":  # a pipe of any name would keep its reader waiting
        passed_over.add(reasons.SPECIAL, path)
        return False
    if is_photo_name(entry.name):
        return True
    if entry.kind == "nothing":
        passed_over.add(reasons.DANGLING, path)
        return False
    if entry.name.lower().endswith(_OTHER_ARCHIVES):
        passed_over.add(reasons.OTHER_ARCHIVES, path)
        return False
    if entry.kind == "file" and not entry.is_empty and _suffix(entry.name) not in _OTHER_SUFFIXES:
        try:
            if begins_like_photo(read_head(folder / entry.name)):
                return True
        except OSError:
            return True  # reading it will say why it cannot be read
    passed_over.add(reasons.NOT_PHOTOS, path)
    return False


def is_photo_name(name: str) -> bool:
    """Returns whether a file of this name counts as a photo, whatever is in it."""
    return _suffix(name) in SUFFIXES


def is_table_name(name: str) -> bool:
    """Returns whether a file of this name may be a list of photos."""
    return _suffix(name) in TABLE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of this name is hidden, or the system's, and so is no photo."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _photos_of_archive(
    location: AnyPath, path: str, passed_over: PassedOver, tables: list[str] | None
) -> Iterator[str]:
    found, found_tables = PassedOver(), None if tables is None else list[str]()
    try:
        names = photos_of_archive(location, found, found_tables)
    except BadArchive:
        yield path
        return
    above = path.rpartition("/")[0]
    passed_over.add_all(found, above)
    if tables is not None:
        tables.extend(f"{path}/{name}" for name in found_tables or ())
    yield from (f"{path}/{name}" for name in names)


def _is_entry_a_photo(archive: Archive, name: str, passed_over: PassedOver, under: str) -> bool:
    path = f"{under}/{name}"
    *folders, last = name.split("/")
    if is_hidden(last) or any(map(is_hidden, folders)):
        passed_over.add(reasons.HIDDEN, path)
        return False
    if is_photo_name(last):
        return True
    if is_archive_name(last) or last.lower().endswith(_OTHER_ARCHIVES):
        passed_over.add(reasons.OTHER_ARCHIVES, path)
        return False
    if _suffix(last) not in _OTHER_SUFFIXES:
        try:
            if begins_like_photo(archive.read(name, HEAD_BYTES)):
                return True
        except Exception:  # whatever the libraries raise: reading it will say why it cannot be read
            return True
    passed_over.add(reasons.NOT_PHOTOS, path)
    return False


def _is_first_visit(folder: AnyPath, seen: set[tuple[int, int]]) -> bool:
    if (here := local_path(folder)) is None:
        return True  # there are no links
    try:
        status = here.stat()
    except OSError:
        return True  # listing it says why it cannot be read
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    is_link = entry.is_symlink()
    try:
        if entry.is_dir():
            return Entry(entry.name, "folder", is_link)
        if entry.is_file():
            return Entry(entry.name, "file", is_link)
        entry.stat()
        return Entry(entry.name, "special", is_link)
    except OSError:  # is gone, or in a circle of links
        return Entry(entry.name, "nothing", is_link)


def _list_remote(url: str) -> list[Entry]:
    fs, path = filesystem_of(url)
    facts = retry(lambda: fs.ls(path, detail=True), url)
    kinds: dict[str, Kind] = {"file": "file", "directory": "folder"}
    entries = {}
    for each in facts:
        name = PurePosixPath(str(each["name"]).rstrip("/")).name
        is_itself = str(each["name"]).strip("/") == path.strip("/")  # as a bucket marks an empty folder
        if name and not is_itself:
            kind = kinds.get(each["type"], "special")
            entries[name] = Entry(name, kind, is_empty=each.get("size") == 0)
    return [entries[name] for name in sorted(entries)]
