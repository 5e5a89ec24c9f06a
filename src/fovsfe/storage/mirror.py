"""Keeps what is at a URL like a folder of this machine, from a thread of its own."""

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from upath import UPath

from fovsfe.errors import FovsfeError
from fovsfe.files import GONE, file_stamp
from fovsfe.storage.locations import filesystem_of
from fovsfe.storage.retry import Notify, retry
from fovsfe.storage.transfer import upload

SECONDS_BETWEEN_LOOKS = 1.0  # for what has changed in the folder

LOG, CACHE = "log.jsonl", "cache"  # of a run: what tells which copy is ahead, and what is never put elsewhere


class Mirror:
    """Keeps a URL like a folder of this machine, from a thread of its own."""

    def __init__(self, folder: Path, url: str, notify: Notify) -> None:
        self._folder, self._url, self._notify = folder, url, notify
        self._sent: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def begin(self, resumes: bool) -> bool:
        """Makes the folder like the URL, unless it is ahead of it; gives whether there is anything."""
        log = self._folder / LOG
        if log.exists():
            there_too = self._log()
            if log.read_bytes().startswith(there_too) and (there_too or resumes):
                self.push()
                return True
        part = self._folder.with_name(f".{self._folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        there = self.fetch(part)
        if (self._folder / CACHE).exists():  # it need not be made anew
            (self._folder / CACHE).rename(part / CACHE)
        shutil.rmtree(self._folder, ignore_errors=True)
        part.rename(self._folder)
        return there > 0

    def fetch(self, into: Path) -> int:
        """Brings everything that is there into a folder; gives the number of files."""

        def names() -> list[str]:
            fs, root = filesystem_of(self._url)
            fs.invalidate_cache()
            root = root.rstrip("/")
            found = [str(path).removeprefix(root).lstrip("/") for path in fs.find(root)]
            return [name for name in found if ".." in name.split("/") or not _is_unfinished(name)]

        def bring(name: str, file: Path) -> None:
            fs, root = filesystem_of(self._url)
            fs.get_file(f"{root.rstrip('/')}/{name}", str(file))

        try:
            every = retry(names, self._url, self._notify)
        except FileNotFoundError:
            return 0
        for name in every:
            file = into / name
            if ".." in name.split("/"):
                raise FovsfeError(f"{self._url}: the name {name!r} leads out of the folder; remove it there")
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                retry(partial(bring, name, file), f"{self._url}/{name}", self._notify)
            except FileNotFoundError:
                continue  # removed meanwhile by who works there
            self._sent[name] = file_stamp(file)
        return len(every)

    def _log(self) -> bytes:
        """The run's log as it is there; empty where there is none."""
        fs, root = filesystem_of(self._url)
        fs.invalidate_cache()
        try:
            data: bytes = retry(lambda: fs.cat_file(f"{root.rstrip('/')}/{LOG}"), self._url, self._notify)
        except FileNotFoundError:
            return b""
        return data

    def start(self) -> None:
        """Begins to watch the folder."""
        self._thread.start()

    def finish(self) -> None:
        """Stops watching and puts what is left. Raises FovsfeError where it could not be put."""
        self._ended.set()
        self._thread.join()
        try:
            self.push()
        except FovsfeError as error:
            raise FovsfeError(
                f"{error}; the run so far is in {self._folder}, and goes on from there on this machine"
            ) from error

    def push(self) -> None:
        """Puts every file that has changed, in the order in which they were written, and removes those that
        are gone."""
        stamps = {name: found for name in self._names() if (found := file_stamp(self._folder / name)) != GONE}
        for name in sorted(stamps, key=lambda name: stamps[name]):
            if self._sent.get(name) != stamps[name]:
                try:
                    upload(self._folder / name, UPath(f"{self._url}/{name}"), self._notify)
                except FovsfeError:
                    if (self._folder / name).exists():
                        raise
                    continue  # removed meanwhile
                self._sent[name] = stamps[name]
        for name in [name for name in self._sent if not (self._folder / name).exists()]:
            self._remove(name)
            del self._sent[name]

    def _remove(self, name: str) -> None:
        def remove() -> None:
            fs, root = filesystem_of(self._url)
            fs.rm_file(f"{root.rstrip('/')}/{name}")

        try:
            retry(remove, f"{self._url}/{name}", self._notify)
        except FileNotFoundError:
            return  # that is how it should be

    def _watch(self) -> None:
        warned = False
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.push()
                warned = False
            except (FovsfeError, OSError) as error:  # of this look: the next may do better
                if not warned:
                    self._notify(f"warning: {error}; going on in {self._folder}")
                warned = True

    def _names(self) -> Iterator[str]:
        for parent, folders, names in os.walk(self._folder):
            here = Path(parent).relative_to(self._folder)
            folders[:] = [name for name in folders if not _is_unfinished(name)]
            if here == Path():
                folders[:] = [name for name in folders if name != CACHE]
            yield from ((here / name).as_posix() for name in names if not _is_unfinished(name))


def _is_unfinished(name: str) -> bool:
    """Whether a file, or a folder that it is in, has the name of what is still being written."""
    return any(part.startswith(".") for part in name.split("/"))
