"""What a network makes of photos: features of a frozen backbone, kept in a file, and probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovsfe.networks.network import Network
from fovsfe.photos.dataset import FittedPhotos, loader_workers
from fovsfe.photos.views import view
from fovsfe.run import replacing

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

BATCH = 32


class _Seen(Dataset[Tensor]):
    """One view of some photos."""

    def __init__(self, photos: FittedPhotos, indices: Indices, name: str) -> None:
        self.photos, self.indices, self.name = photos, indices, name

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        photo = self.photos[int(self.indices[position])]
        return torch.from_numpy(np.array(view(photo[None], self.name)[0]))


@torch.no_grad()
def outputs(
    fabric: Any,
    network: Network,
    forward: Callable[[Tensor], Tensor],
    photos: FittedPhotos,
    indices: Indices,
    name: str,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Floats:
    """`forward` of one view of the photos at `indices`: float32 (n, whatever it gives), in their order.

    Each process does its part and writes its own rows, so no photo is counted twice.
    """
    network.eval()
    mine = np.arange(fabric.global_rank, len(indices), fabric.world_size)
    workers = loader_workers(fabric.device.type == "cpu")
    loader = DataLoader(_Seen(photos, indices[mine], name), BATCH, num_workers=workers)
    parts = []
    for number, batch in enumerate(loader):
        with fabric.autocast():
            parts.append(forward(batch.to(fabric.device)).float().cpu())
        tick(min((number + 1) * BATCH, len(mine)), len(mine))
    width = parts[0].shape[1] if parts else 0
    if fabric.world_size == 1:
        return torch.cat(parts).numpy() if parts else np.zeros((0, width), np.float32)
    width = int(fabric.all_reduce(torch.tensor(width), reduce_op="max"))
    rows = torch.zeros(len(indices), width)
    if parts:
        rows[torch.from_numpy(mine)] = torch.cat(parts)
    total: Tensor = fabric.all_reduce(rows, reduce_op="sum")
    return total.cpu().numpy()


def probabilities(
    fabric: Any, network: Network, photos: FittedPhotos, indices: Indices, views: tuple[str, ...]
) -> Floats:
    """float32 (views, n, labels): what the network gives each label, view by view."""
    each = [outputs(fabric, network, network, photos, indices, name) for name in views]
    return torch.from_numpy(np.stack(each)).softmax(-1).numpy()


def frozen_features(
    fabric: Any,
    network: Network,
    photos: FittedPhotos,
    file: Path,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Floats:
    """The backbone's features of all photos, plain and mirrored: float16 (2, photos, width), memory-mapped.

    Computed once for a member: until a stage opens layers, its backbone is the same in every fold and round.
    """
    if not file.exists():

        def both(batch: Tensor) -> Tensor:  # so that a photo is read once, not once a view
            return torch.cat([network.features(batch), network.features(batch.flip(2))], dim=1)

        seen = outputs(fabric, network, both, photos, np.arange(len(photos)), "plain", tick)
        if fabric.is_global_zero:
            with replacing(file) as temporary, temporary.open("wb") as out:
                np.save(out, np.stack(np.split(seen, 2, axis=1)).astype(np.float16))
        fabric.barrier()
    features: Floats = np.load(file, mmap_mode="r")
    return features
