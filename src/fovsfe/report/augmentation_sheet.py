"""What augmentation does: a few photos, each drawn several times as training draws it."""

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
    root: AnyPath, paths: Sequence[str], sha256: Sequence[str], recipe: Recipe, draws: int = 5
) -> list[list[str]]:
    """Returns one row of data URIs per photo: the photo itself, then `draws` augmented versions of it.

    The photos have the size of the largest member. If the recipe uses mixup or cutmix, the photos are mixed
    with each other. A photo that cannot be read, or whose content has not its SHA-256 of the run, has no row.
    """
    member = max(recipe.members, key=lambda member: member.size[0] * member.size[1])
    settings = recipe.photos
    photos = ResizedPhotos(root, paths, member.size, settings.resize_mode, settings.max_pixels, sha256=sha256)
    readable = np.array([i for i in range(len(photos)) if _is_readable(photos, i)], np.int64)
    if not len(readable):
        return []
    transform = build_augmentation(recipe.augment.strength, member.size)
    mixup = build_mixup(recipe.augment.mixup, recipe.augment.cutmix)
    targets = np.eye(len(readable), dtype=np.float32)  # as if each photo had a label of its own
    batches = [torch.from_numpy(np.stack([photos[int(i)] for i in readable]))]
    for draw in range(draws):
        dataset = TrainDataset(photos, readable, targets, transform, recipe.seed + draw)
        augmented = torch.stack([dataset[i][0] for i in range(len(dataset))])
        if mixup is not None:
            augmented = _mix(mixup, augmented, torch.from_numpy(targets), draw)
        batches.append(augmented)
    return [list(_data_uris(row)) for row in zip(*batches, strict=True)]


def _is_readable(photos: ResizedPhotos, index: int) -> bool:
    try:
        photos[index]
    except FovsfeError:
        return False
    return True


def _mix(mixup: nn.Module, photos: Tensor, targets: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mixed, _ = mixup(photos.permute(0, 3, 1, 2).float(), targets)
    pixels: Tensor = mixed.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8)
    return pixels


def _data_uris(row: Sequence[Tensor]) -> Iterator[str]:
    return (data_uri(photo.contiguous().numpy()) for photo in row)
