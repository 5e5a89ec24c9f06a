"""Keeps what is at a URL equal to a local folder, from a thread of its own."""

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from upath import UPath

from fovsfe.callbacks import Notify
from fovsfe.errors import FovsfeError
from fovsfe.files import MISSING_STAMP, file_stamp
from fovsfe.storage.locations import filesystem_of
from fovsfe.storage.retry import retry
from fovsfe.storage.transfer import upload

POLL_SECONDS = 1.0  # between looks for changed files

LOG, CACHE = "log.jsonl", "cache"  # in a run folder: LOG tells which copy is ahead, CACHE is never uploaded


class Mirror:
    """Keeps what is at `url` equal to the local `folder`.

    `download` or `prepare` fills the folder; after `mark_remote_outdated` it replaces what is at the URL.
    `push` uploads its changes once; between `start_watching` and `stop` a thread does so all the time.
    """

    def __init__(self, folder: Path, url: str, notify: Notify) -> None:
        self._folder, self._url, self._notify = folder, url, notify
        self._uploaded: dict[str, tuple[int, int]] = {}  # file name -> the stamp that the URL has
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def prepare(self, resuming: bool) -> bool:
        """Makes the folder equal to the URL, unless it is ahead of it; returns whether there is anything.

        A local copy is ahead if its log continues the URL's. If there is no log at the URL, it is ahead only
        when a run is being resumed.
        """
        log = self._folder / LOG
        if log.exists():
            remote_log = self._remote_log()
            if log.read_bytes().startswith(remote_log) and (remote_log or resuming):
                self.push()
                return True
        part = self._folder.with_name(f".{self._folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        count = self.download(part)
        if (self._folder / CACHE).exists():  # what it holds is the same for every copy
            (self._folder / CACHE).rename(part / CACHE)
        shutil.rmtree(self._folder, ignore_errors=True)
        part.rename(self._folder)
        return count > 0

    def download(self, folder: Path) -> int:
        """Downloads everything at the URL into a folder; returns the number of files."""
        try:
            names = retry(self._remote_names, self._url, self._notify)
        except FileNotFoundError:
            return 0
        for name in names:
            file = folder / name
            if ".." in name.split("/"):
                raise FovsfeError(f"{self._url}: the name {name!r} leads out of the folder; remove it there")
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                retry(partial(self._download_file, name, file), f"{self._url}/{name}", self._notify)
            except FileNotFoundError:
                continue  # another process has removed it meanwhile
            self._uploaded[name] = file_stamp(file)
        return len(names)

    def mark_remote_outdated(self) -> list[str]:
        """Marks all files at the URL as outdated, and returns their names.

        `push` then uploads everything, and removes from the URL what the folder does not have.
        """
        try:
            names = retry(self._remote_names, self._url, self._notify)
        except FileNotFoundError:
            names = []
        self._uploaded = {name: MISSING_STAMP for name in names if ".." not in name.split("/")}
        return names

    def start_watching(self) -> None:
        """Starts the thread that uploads every change."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread and uploads what is left. Raises FovsfeError if that fails."""
        self._stopping.set()
        self._thread.join()
        try:
            self.push()
        except FovsfeError as error:
            raise FovsfeError(
                f"{error}; the run so far is in {self._folder}, and can be resumed from there on this machine"
            ) from error

    def push(self) -> None:
        """Uploads the changed files, oldest first, and removes from the URL what is gone from the folder."""
        stamps = {name: file_stamp(self._folder / name) for name in self._local_names()}
        stamps = {name: stamp for name, stamp in stamps.items() if stamp != MISSING_STAMP}
        for name in sorted(stamps, key=lambda name: stamps[name]):
            if self._uploaded.get(name) != stamps[name]:
                try:
                    upload(self._folder / name, UPath(f"{self._url}/{name}"), self._notify)
                except FovsfeError:
                    if (self._folder / name).exists():
                        raise
                    continue  # removed meanwhile
                self._uploaded[name] = stamps[name]
        for name in [name for name in self._uploaded if not (self._folder / name).exists()]:
            self._remove(name)
            del self._uploaded[name]

    def _watch(self) -> None:
        warned = False
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self.push()
                warned = False
            except (FovsfeError, OSError) as error:  # the next look may succeed
                if not warned:
                    self._notify(f"warning: {error}; continuing in {self._folder}")
                warned = True

    def _local_names(self) -> Iterator[str]:
        for parent, folders, names in os.walk(self._folder):
            relative = Path(parent).relative_to(self._folder)
            folders[:] = [name for name in folders if not _is_unfinished(name)]
            if relative == Path():
                folders[:] = [name for name in folders if name != CACHE]
            yield from ((relative / name).as_posix() for name in names if not _is_unfinished(name))

    def _remote_names(self) -> list[str]:
        fs, root = filesystem_of(self._url)
        fs.invalidate_cache()
        root = root.rstrip("/")
        names = [str(path).removeprefix(root).lstrip("/") for path in fs.find(root)]
        return [name for name in names if ".." in name.split("/") or not _is_unfinished(name)]

    def _remote_log(self) -> bytes:
        """Returns the log of the run at the URL; empty if there is none."""
        fs, root = filesystem_of(self._url)
        fs.invalidate_cache()
        try:
            data: bytes = retry(lambda: fs.cat_file(f"{root.rstrip('/')}/{LOG}"), self._url, self._notify)
        except FileNotFoundError:
            return b""
        return data

    def _download_file(self, name: str, file: Path) -> None:
        fs, root = filesystem_of(self._url)
        fs.get_file(f"{root.rstrip('/')}/{name}", str(file))

    def _remove(self, name: str) -> None:
        def remove() -> None:
            fs, root = filesystem_of(self._url)
            fs.rm_file(f"{root.rstrip('/')}/{name}")

        try:
            retry(remove, f"{self._url}/{name}", self._notify)
        except FileNotFoundError:
            return  # it is gone already


def _is_unfinished(name: str) -> bool:
    """Returns whether a file, or a folder above it, has the name of something that is still being written."""
    return any(part.startswith(".") for part in name.split("/"))
