"""What a network makes of photos: a frozen backbone's features, cached in a file, and probabilities."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fovsfe.arrays import Float32s, Ints
from fovsfe.callbacks import Progress, no_progress
from fovsfe.files import atomic_path
from fovsfe.networks.network import Network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.tta import apply_tta
from fovsfe.training.device import PREDICTION_BATCH, Device

CACHED_VARIANTS = ("plain", "flip")  # of photos, in a cache of features


class _TtaDataset(Dataset[Tensor]):
    """One test-time variant of some photos."""

    def __init__(self, photos: ResizedPhotos, indices: Ints, variant: str) -> None:
        self.photos, self.indices, self.variant = photos, indices, variant

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        photo = self.photos[int(self.indices[position])]
        return torch.from_numpy(np.array(apply_tta(photo[None], self.variant)[0]))


@torch.no_grad()
def _predict_batches(
    device: Device,
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    dataset: _TtaDataset,
    progress: Progress,
) -> Iterator[tuple[Ints, Float32s]]:
    """Yields, batch by batch of this process's part, positions in the dataset and what `forward` gives."""
    network.eval()
    photos, indices = dataset.photos, dataset.indices
    order = photos.order_by_shard(indices)
    positions = order[device.own_slice(len(order))]
    part = _TtaDataset(photos, indices[positions], dataset.variant)
    loader = DataLoader(part, PREDICTION_BATCH, **device.loader_options(photos))
    done = 0
    for batch in loader:
        here = positions[done : done + len(batch)]
        values = predict_batch(device, forward, batch)
        done += len(here)
        yield here, values
        progress(done, len(positions))


@torch.no_grad()
def predict_batch(device: Device, forward: Callable[[Tensor], Tensor], batch: Tensor) -> Float32s:
    """Returns what `forward` gives for n photos, (n, width), as many at a time as fit into memory."""

    def in_parts(at_once: int) -> Float32s:
        with device.autocast():
            return np.concatenate(
                [
                    forward(device.put(part)).float().cpu().numpy()[: len(part)]
                    for part in torch.split(batch, at_once)
                ]
            )

    return device.within_memory(in_parts, len(batch))


def predict_logits(
    device: Device,
    network: nn.Module,
    photos: ResizedPhotos,
    indices: Ints,
    variant: str,
    progress: Progress = no_progress,
) -> Float32s:
    """Returns a network's logits (n, classes) for one test-time variant of the photos at `indices`.

    Each process computes its own part, so no photo is counted twice.
    """
    return _rows(device, network, network, photos, indices, variant, progress)


def _rows(
    device: Device,
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    photos: ResizedPhotos,
    indices: Ints,
    variant: str,
    progress: Progress = no_progress,
) -> Float32s:
    """Returns what `forward` gives, (n, width), for one test-time variant of the photos at `indices`."""
    dataset = _TtaDataset(photos, indices, variant)
    parts = list(_predict_batches(device, network, forward, dataset, progress))
    positions = np.concatenate([where for where, _ in parts]) if parts else np.empty(0, np.int64)
    rows = np.concatenate([values for _, values in parts]) if parts else np.empty((0, 0), np.float32)
    return device.merge_rows(rows, positions, len(indices))


@dataclass(frozen=True)
class Features:
    """A frozen backbone's features of all photos, plain and mirrored, in a file: float32 (photos, 2, width).

    A row is one read at an offset, so the process stays small whatever the number of photos.
    """

    file: Path
    width: int

    @classmethod
    def read(cls, file: Path, photos: int) -> "Features":
        """Returns the features that `frozen_features` has left of so many photos."""
        return cls(file, file.stat().st_size // (2 * photos * np.dtype(np.float32).itemsize))

    def rows(self, indices: Ints, mirrored: npt.NDArray[np.bool_]) -> Tensor:
        """Returns float32 (n, width) features of photos, mirrored where `mirrored` (n,) is true."""
        rows = np.empty((len(indices), self.width), np.float32)
        with self.file.open("rb", buffering=0) as file:
            for row, index, flip in zip(rows, indices, mirrored, strict=True):
                file.seek((2 * int(index) + int(flip)) * row.nbytes)
                file.readinto(row.data)
        return torch.from_numpy(rows)


def photo_features(
    device: Device, network: Network, photos: ResizedPhotos, indices: Ints, progress: Progress = no_progress
) -> Float32s:
    """Returns the backbone's features of the photos at `indices`, plain and mirrored: (n, 2, width)."""
    dataset = _TtaDataset(photos, indices, "plain")
    batches = _predict_batches(device, network, partial(_plain_and_mirrored, network), dataset, progress)
    parts = list(batches)
    positions = np.concatenate([where for where, _ in parts])
    rows = np.concatenate([values for _, values in parts])
    return device.merge_rows(rows, positions, len(indices)).reshape(len(indices), 2, -1)


def _plain_and_mirrored(network: Network, batch: Tensor) -> Tensor:
    """Returns (n, 2 * width) features; so a photo is read once for both."""
    return torch.cat([network.features(batch), network.features(batch.flip(2))], dim=1)


def frozen_features(
    device: Device, network: Network, photos: ResizedPhotos, file: Path, progress: Progress = no_progress
) -> Features:
    """Returns the backbone's features of all photos, in `file`; computes them unless it is there.

    Once for a member: until a stage unfreezes layers, its backbone is the same in every fold and round.

    Raises:
        FovsfeError: the file cannot be written.
    """
    backbone: Any = network.backbone
    width: int = backbone.head_hidden_size
    if not device.broadcast(file.exists()):  # the first process decides: another may see an older folder
        dataset = _TtaDataset(photos, np.arange(len(photos)), "plain")
        with atomic_path(file) if device.is_first else nullcontext(file) as temporary:
            shared = Path(device.broadcast(str(temporary)))
            if device.is_first:
                shared.touch()
            device.barrier()  # each process writes its own rows of the first one's file
            with shared.open("r+b") as out:
                for positions, rows in _predict_batches(
                    device, network, partial(_plain_and_mirrored, network), dataset, progress
                ):
                    for position, row in zip(positions, rows, strict=True):
                        out.seek(int(position) * row.nbytes)
                        out.write(row.tobytes())
            device.barrier()
        device.barrier()
    return Features(file, width)


def features_and_logits(
    device: Device, network: Network, photos: ResizedPhotos, indices: Ints, features: Features | None = None
) -> tuple[Float32s, Float32s]:
    """Returns, of the plain photos at `indices`, the backbone's features (n, width) and the network's logits
    (n, classes). What `features` of its backbone tell need not be computed again."""
    if features is not None:
        rows = features.rows(indices, np.zeros(len(indices), np.bool_)).numpy()
        return rows, head_logits(network.head, features, indices).numpy()

    def forward(batch: Tensor) -> Tensor:
        of_batch = network.features(batch)
        return torch.cat([of_batch, network.head(of_batch)], dim=1)

    backbone: Any = network.backbone
    both = _rows(device, network, forward, photos, indices, "plain")
    width: int = backbone.head_hidden_size
    return both[:, :width], both[:, width:]


def predict_tta(
    device: Device,
    network: Network,
    photos: ResizedPhotos,
    indices: Ints,
    tta: tuple[str, ...],
    features: Features | None = None,
    plain_logits: Float32s | None = None,
) -> Float32s:
    """Returns the network's probabilities (tta, n, classes), one row of photos for each test-time variant.

    What `features` of its backbone tell need not be computed again, and neither need `plain_logits`, those of
    the plain photos, if they are given.
    """

    def logits(variant: str) -> Float32s:
        if variant == "plain" and plain_logits is not None:
            return plain_logits
        if features is None or variant not in CACHED_VARIANTS:
            return predict_logits(device, network, photos, indices, variant)
        return head_logits(network.head, features, indices, variant == "flip").numpy()

    return torch.from_numpy(np.stack([logits(variant) for variant in tta])).softmax(-1).numpy()


@torch.no_grad()
def head_logits(head: nn.Module, features: Features, indices: Ints, is_mirrored: bool = False) -> Tensor:
    """Returns a head's logits (n, classes) for cached features of the photos at `indices`, on the CPU."""
    head.eval()
    device = next(head.parameters()).device
    parts = np.array_split(indices, math.ceil(len(indices) / PREDICTION_BATCH) or 1)
    rows = [features.rows(part, np.full(len(part), is_mirrored)).to(device) for part in parts]
    return torch.cat([head(part).cpu() for part in rows])
