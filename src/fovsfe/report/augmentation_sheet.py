"""What augmentation does: the same photos, drawn several times as training draws them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fovsfe.errors import FovsfeError
from fovsfe.photos.dataset import ResizedPhotos, TrainDataset
from fovsfe.photos.transforms import build_augmentation, build_mixup
from fovsfe.recipe import Recipe
from fovsfe.report.thumbnails import data_uri
from fovsfe.storage.locations import AnyPath


def augmentation_sheet(
    root: AnyPath, paths: Sequence[str], recipe: Recipe, draws: int = 5
) -> list[list[str]]:
    """A row a photo, of data URIs: first as the largest member gets it, then `draws` of the augmentation.

    Where the recipe mixes photos, these mix among each other. A photo that cannot be read has no row.
    """
    member = max(recipe.members, key=lambda member: member.size[0] * member.size[1])
    settings = recipe.photos
    photos = ResizedPhotos(root, paths, member.size, settings.fit, settings.max_pixels)
    readable = np.array([i for i in range(len(photos)) if _is_readable(photos, i)], np.int64)
    if not len(readable):
        return []
    transform = build_augmentation(recipe.augment.strength, member.size)
    mix = build_mixup(recipe.augment.mixup, recipe.augment.cutmix)
    own = np.eye(len(readable), dtype=np.float32)  # as if each photo were its own label
    batches = [torch.from_numpy(np.stack([photos[int(i)] for i in readable]))]
    for draw in range(draws):
        learning = TrainDataset(photos, readable, own, transform, recipe.seed + draw)
        drawn = torch.stack([learning[i][0] for i in range(len(learning))])
        batches.append(drawn if mix is None else _mixed(mix, drawn, torch.from_numpy(own), draw))
    return [list(_pictures(row)) for row in zip(*batches, strict=True)]


def _is_readable(photos: ResizedPhotos, index: int) -> bool:
    try:
        photos[index]
    except FovsfeError:
        return False
    return True


def _mixed(mix: nn.Module, photos: Tensor, targets: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mixed, _ = mix(photos.permute(0, 3, 1, 2).float(), targets)
    whole: Tensor = mixed.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8)
    return whole


def _pictures(row: Sequence[Tensor]) -> Iterator[str]:
    return (data_uri(photo.contiguous().numpy()) for photo in row)
