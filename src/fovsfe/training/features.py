"""What a network makes of photos: features of a frozen backbone, kept in a file, and probabilities."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovsfe.files import atomic_path
from fovsfe.networks.network import Network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.tta import apply_tta
from fovsfe.training.device import loader_options, to_device

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

BATCH = 32


class _Seen(Dataset[Tensor]):
    """One view of some photos."""

    def __init__(self, photos: ResizedPhotos, indices: Indices, name: str) -> None:
        self.photos, self.indices, self.name = photos, indices, name

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        photo = self.photos[int(self.indices[position])]
        return torch.from_numpy(np.array(apply_tta(photo[None], self.name)[0]))


@torch.no_grad()
def _each(
    fabric: Any,
    network: Network,
    forward: Callable[[Tensor], Tensor],
    photos: ResizedPhotos,
    indices: Indices,
    name: str,
    tick: Callable[[int, int], None],
) -> Iterator[tuple[Indices, Floats]]:
    """This process's part of the photos, batch by batch: places in `indices`, and `forward` of one view."""
    network.eval()
    mine = np.array_split(photos.together(indices), fabric.world_size)[fabric.global_rank]
    loader = DataLoader(_Seen(photos, indices[mine], name), BATCH, **loader_options(fabric, photos))
    for number, batch in enumerate(loader):
        places = mine[number * BATCH : (number + 1) * BATCH]
        with fabric.autocast():
            values = forward(to_device(fabric, batch, BATCH)).float().cpu().numpy()[: len(places)]
        yield places, values
        tick(min((number + 1) * BATCH, len(mine)), len(mine))


def predict_outputs(
    fabric: Any,
    network: Network,
    forward: Callable[[Tensor], Tensor],
    photos: ResizedPhotos,
    indices: Indices,
    name: str,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Floats:
    """`forward` of one view of the photos at `indices`: float32 (n, whatever it gives), in their order.

    Each process does its part and writes its own rows, so no photo is counted twice.
    """
    parts = list(_each(fabric, network, forward, photos, indices, name, tick))
    width = parts[0][1].shape[1] if parts else 0
    if fabric.world_size > 1:
        width = int(fabric.all_reduce(torch.tensor(width), reduce_op="max"))
    rows = np.zeros((len(indices), width), np.float32)
    for places, values in parts:
        rows[places] = values
    if fabric.world_size == 1:
        return rows
    total: Tensor = fabric.all_reduce(torch.from_numpy(rows), reduce_op="sum")
    return total.cpu().numpy()


def predict_tta(
    fabric: Any, network: Network, photos: ResizedPhotos, indices: Indices, tta: tuple[str, ...]
) -> Floats:
    """float32 (tta, n, classes): what the network gives each label, view by view."""
    each = [predict_outputs(fabric, network, network, photos, indices, name) for name in tta]
    return torch.from_numpy(np.stack(each)).softmax(-1).numpy()


@dataclass(frozen=True)
class Features:
    """A frozen backbone's features of photos in two tta, plain and mirrored, in a file: float32 (photos, 2,
    width). A row is one read at an offset, so the process stays small whatever the number of photos.
    """

    file: Path
    width: int

    def rows(self, indices: Indices, mirrored: npt.NDArray[np.bool_]) -> Tensor:
        """float32 (n, width): of the photos at `indices`, plain or, where `mirrored`, mirrored."""
        rows = np.empty((len(indices), self.width), np.float32)
        with self.file.open("rb", buffering=0) as file:
            for row, index, flip in zip(rows, indices, mirrored, strict=True):
                file.seek((2 * int(index) + int(flip)) * row.nbytes)
                file.readinto(row.data)
        return torch.from_numpy(rows)


def frozen_features(
    fabric: Any,
    network: Network,
    photos: ResizedPhotos,
    file: Path,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> Features:
    """The backbone's features of all photos, in `file`; computes them unless it is there.

    Once for a member: until a stage opens layers, its backbone is the same in every fold and round. Raises
    FovsfeError where the file cannot be written.
    """
    backbone: Any = network.backbone
    width: int = backbone.head_hidden_size

    def both(batch: Tensor) -> Tensor:  # so that a photo is read once, not once a view
        return torch.cat([network.features(batch), network.features(batch.flip(2))], dim=1)

    if not file.exists():
        with atomic_path(file) if fabric.is_global_zero else nullcontext(file) as temporary:
            shared = Path(fabric.broadcast(str(temporary)))
            if fabric.is_global_zero:
                shared.touch()
            fabric.barrier()  # each process writes its own rows of the first one's file
            with shared.open("r+b") as out:
                everyone = np.arange(len(photos))
                for places, values in _each(fabric, network, both, photos, everyone, "plain", tick):
                    for place, row in zip(places, values, strict=True):
                        out.seek(int(place) * row.nbytes)
                        out.write(row.tobytes())
            fabric.barrier()
        fabric.barrier()
    return Features(file, width)
