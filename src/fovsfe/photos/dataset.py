"""Photos as a data set: decoded and fitted once into a file where that fits, then read back by position."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from upath import UPath

from fovsfe import machine
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path
from fovsfe.photos.decode import BadPhoto, load_photo
from fovsfe.photos.reader import ARCHIVES, local_copy, read_bytes
from fovsfe.storage.locations import AnyPath

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

FETCHES = 4  # archives that are fetched ahead at a time


@dataclass(frozen=True)
class ResizedPhotos:
    """The readable photos of a run at one size. Indexing gives uint8 (height, width, 3) pixels;
    FovsfeError names a photo that has become unreadable since the audit.

    With a `cache` file, a photo is one read at an offset: the page cache keeps what fits into memory, and the
    process itself stays small whatever the number of photos.
    """

    root: AnyPath
    paths: Sequence[str]
    size: tuple[int, int]
    how: str
    max_pixels: int
    cache: Path | None = None
    shards: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,): which photos lie together, as `order.shard_numbers` says; by default all of them"""
    workers: int | str = "auto"
    """processes that load photos for a network"""

    def __post_init__(self) -> None:
        if not len(self.shards):
            object.__setattr__(self, "shards", np.zeros(len(self.paths), np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        if self.cache is None:
            return self._decoded(self.paths[index])
        values = 3 * self.size[0] * self.size[1]
        with self.cache.open("rb", buffering=0) as file:
            return np.fromfile(file, np.uint8, values, offset=index * values).reshape(*self.size, 3)

    def _decoded(self, path: str) -> Pixels:
        try:
            return load_photo(read_bytes(self.root, path), self.size, self.how, self.max_pixels)
        except (OSError, BadPhoto) as error:
            raise FovsfeError(
                f"{self.root / path}: could be read when the run began, but not now: {error}; put it back"
            ) from error

    def cached(self, file: Path, limit: float, progress: Callable[[int, int], None]) -> "ResizedPhotos":
        """The same photos, read from `file`; decodes them into it first unless it is there.

        Where they would take more than `limit` bytes or half of the free disk, gives the photos as they are.
        """
        photo = 3 * self.size[0] * self.size[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if len(self) * photo > min(limit, shutil.disk_usage(file.parent).free / 2):
                return self
            order = self.together(np.arange(len(self)))
            with atomic_path(file) as temporary, temporary.open("wb") as out, ThreadPoolExecutor() as threads:
                for start in range(0, len(self), 64):  # threads.map alone would hold every photo at once
                    some = order[start : start + 64].tolist()
                    for index, pixels in zip(some, threads.map(self.__getitem__, some), strict=True):
                        out.seek(index * photo)
                        out.write(pixels.tobytes())
                    progress(min(start + 64, len(self)), len(self))
        return replace(self, cache=file)

    def together(self, indices: Ints) -> Ints:
        """The positions 0 to n - 1 of `indices` (n,), those of photos that lie together one after another."""
        return np.argsort(self.shards[indices], kind="stable")

    def loader_workers(self, on_cpu: bool) -> int:
        """How many processes load photos: as `workers` says, or for "auto" one a core, but none where the
        network itself needs every core."""
        if isinstance(self.workers, int):
            return self.workers
        return 0 if on_cpu else min(machine.cores(), 16)

    def fetch_ahead(self, indices: Ints) -> None:
        """Begins to fetch the archives of some photos from a URL, so that they are here when they are read.

        What cannot be fetched is left to the reading, which says so.
        """
        if self.cache is not None or not isinstance(self.root, UPath):
            return
        names = dict.fromkeys(self.paths[int(index)].partition("/")[0] for index in indices)
        archives = [self.root / name for name in names if name.lower().endswith(ARCHIVES)]
        for some in (archives[number::FETCHES] for number in range(FETCHES)):
            if some:
                Thread(target=_fetch, args=(some,), daemon=True).start()  # nobody waits for it at the end


def _fetch(archives: list[UPath]) -> None:
    with suppress(FovsfeError, OSError):  # whoever reads from it says so
        for archive in archives:
            local_copy(archive)


class TrainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented photos with their targets, for one epoch: uint8 (height, width, 3) and float (classes,).

    What happens to a photo depends on the epoch's seed and the photo alone, not on the number of workers.
    """

    def __init__(
        self,
        photos: ResizedPhotos,
        indices: npt.NDArray[np.int64],
        targets: npt.NDArray[np.float32],
        transform: nn.Module,
        seed: int,
    ) -> None:
        self.photos, self.indices, self.targets = photos, indices, targets
        self.transform, self.seed = transform, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        index = int(self.indices[position])
        photo = torch.from_numpy(self.photos[index]).permute(2, 0, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + index)
            photo = self.transform(photo)
        return photo.permute(1, 2, 0).contiguous(), torch.from_numpy(self.targets[position])
