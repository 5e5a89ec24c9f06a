"""Photos as torch data sets: decoded and resized at each access, or once into a cache file."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from upath import UPath

from fovsfe import machine
from fovsfe.arrays import Float32s, Ints, Pixels
from fovsfe.callbacks import Progress
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path
from fovsfe.photos.decode import BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.reader import is_archive_name, local_copy, read_bytes, read_unchanged
from fovsfe.storage.locations import AnyPath

PREFETCH_THREADS = 4  # archives that are downloaded at the same time


@dataclass(frozen=True)
class ResizedPhotos:
    """The readable photos of a run, resized to (height, width) = `size`.

    Indexing returns uint8 (height, width, 3) pixels; FovsfeError names a photo that has become unreadable
    since the audit. With a `cache` file, a photo is one read at an offset: the page cache keeps what fits
    into memory, and the process itself stays small, however many photos there are.
    """

    root: AnyPath
    paths: Sequence[str]
    """under `root`, one for each photo"""
    size: tuple[int, int]
    resize_mode: str
    """as in `decode.resize_photo`"""
    max_pixels: int
    cache: Path | None = None
    shards: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,): the shard of each photo, from `sampler.assign_shards`; by default all are in one"""
    sha256: Sequence[str] = ()
    """of each photo, in hexadecimal: one whose content is another is refused; empty: any content will do"""
    num_workers: int | str = "auto"
    """how many DataLoader workers load photos for a network; "auto" decides by the device"""
    others: tuple[int, AnyPath] | None = None
    """the position from which on paths are under another root, and that root"""

    def __post_init__(self) -> None:
        if not len(self.shards):
            object.__setattr__(self, "shards", np.zeros(len(self.paths), np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        if self.cache is None:
            return self._decode(index)
        count = 3 * self.size[0] * self.size[1]
        with self.cache.open("rb", buffering=0) as file:
            return np.fromfile(file, np.uint8, count, offset=index * count).reshape(*self.size, 3)

    def _decode(self, index: int) -> Pixels:
        root, path = self._root_of(index), self.paths[index]
        try:
            data = read_unchanged(root, path, self.sha256[index]) if self.sha256 else read_bytes(root, path)
            input_sizes = [(self.size, self.resize_mode)]
            return shared_pool().decode_to_sizes(data, input_sizes, self.max_pixels).pixels[0]
        except (OSError, BadPhoto) as error:
            raise FovsfeError(
                f"{root / path}: could be read when the run started, but not now: {error}; put it back"
            ) from error

    def _root_of(self, index: int) -> AnyPath:
        return self.root if self.others is None or index < self.others[0] else self.others[1]

    def cached(self, file: Path, limit: float, progress: Progress) -> "ResizedPhotos":
        """Returns the same photos with the cache `file`, which is written first if it does not exist.

        If they would take over `limit` bytes, or half of the free disk, it returns the photos as they are.
        """
        bytes_per_photo = 3 * self.size[0] * self.size[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if len(self) * bytes_per_photo > min(limit, shutil.disk_usage(file.parent).free / 2):
                return self
            order = self.order_by_shard(np.arange(len(self)))
            with atomic_path(file) as temporary, temporary.open("wb") as out, ThreadPoolExecutor() as threads:
                for start in range(0, len(self), 64):  # not all at once: threads.map keeps its results
                    batch = order[start : start + 64].tolist()
                    for index, pixels in zip(batch, threads.map(self.__getitem__, batch), strict=True):
                        out.seek(index * bytes_per_photo)
                        out.write(pixels.tobytes())
                    progress(min(start + 64, len(self)), len(self))
        return replace(self, cache=file)

    def order_by_shard(self, indices: Ints) -> Ints:
        """Returns the positions 0 to n - 1 in `indices` (n,), ordered so that each shard is read once."""
        return np.argsort(self.shards[indices], kind="stable")

    def num_workers_on(self, on_cpu: bool) -> int:
        """Returns `num_workers` or, for "auto", one for each core, at most 16.

        On a CPU "auto" means none, because the network itself needs every core.
        """
        if isinstance(self.num_workers, int):
            return self.num_workers
        return 0 if on_cpu else min(machine.cores(), 16)

    def prefetch(self, indices: Ints) -> None:
        """Starts to download the archives of some photos, so that they are local when the photos are read.

        It raises nothing: an archive that cannot be downloaded is reported when a photo is read from it.
        """
        if self.cache is not None:
            return
        tops = dict.fromkeys(
            (root, self.paths[index].partition("/")[0])
            for index in indices.tolist()
            if isinstance(root := self._root_of(index), UPath)
        )
        archives = [root / name for root, name in tops if is_archive_name(name)]
        for start in range(min(PREFETCH_THREADS, len(archives))):
            # Daemons, because nobody waits for them when the process ends.
            Thread(target=_download, args=(archives[start::PREFETCH_THREADS],), daemon=True).start()


def _download(archives: list[UPath]) -> None:
    with suppress(FovsfeError, OSError):  # reading from the archive will report it
        for archive in archives:
            local_copy(archive)


class TrainDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented photos and their targets for one epoch: uint8 (height, width, 3) and float32 (classes,).

    The augmentation of a photo depends only on the epoch's `seed` and on the photo, not on the number of
    DataLoader workers. `indices` (n,) are positions in `photos`, `targets` is (n, classes).
    """

    def __init__(
        self,
        photos: ResizedPhotos,
        indices: Ints,
        targets: Float32s,
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
