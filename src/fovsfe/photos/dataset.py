"""Photos as a data set: decoded and fitted once into a file where that fits, then read back by position."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import BadPhoto, load
from fovsfe.photos.layouts import read_bytes
from fovsfe.run import replacing

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FittedPhotos:
    """The readable photos of a run at one size. Indexing gives uint8 (height, width, 3) pixels;
    FovsfeError names a photo that has become unreadable since the audit.

    With a `cache` file, a photo is one read at an offset: the page cache keeps what fits into memory, and the
    process itself stays small whatever the number of photos.
    """

    root: Path
    paths: Sequence[str]
    size: tuple[int, int]
    how: str
    max_pixels: int
    cache: Path | None = None

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
            return load(read_bytes(self.root, path), self.size, self.how, self.max_pixels)
        except (OSError, BadPhoto) as error:
            raise FovsfeError(
                f"{self.root / path}: could be read when the run began, but not now: {error}; put it back"
            ) from error

    def cached(self, file: Path, limit: float, progress: Callable[[int, int], None]) -> "FittedPhotos":
        """The same photos, read from `file`; decodes them into it first unless it is there.

        Where they would take more than `limit` bytes or half of the free disk, gives the photos as they are.
        """
        photo = 3 * self.size[0] * self.size[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if len(self) * photo > min(limit, shutil.disk_usage(file.parent).free / 2):
                return self
            with replacing(file) as temporary, temporary.open("wb") as out, ThreadPoolExecutor() as threads:
                for start in range(0, len(self), 64):  # threads.map alone would hold every photo at once
                    for pixels in threads.map(self.__getitem__, range(len(self))[start : start + 64]):
                        out.write(pixels.tobytes())
                    progress(min(start + 64, len(self)), len(self))
        return FittedPhotos(self.root, self.paths, self.size, self.how, self.max_pixels, file)


class LearningPhotos(Dataset[tuple[Tensor, Tensor]]):
    """Augmented photos with their targets, for one epoch: uint8 (height, width, 3) and float (labels,).

    What happens to a photo depends on the epoch's seed and the photo alone, not on the number of workers.
    """

    def __init__(
        self,
        photos: FittedPhotos,
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


def loader_workers(on_cpu: bool) -> int:
    """How many processes load photos: none where the network itself needs every core."""
    return 0 if on_cpu else min(os.cpu_count() or 1, 16)
