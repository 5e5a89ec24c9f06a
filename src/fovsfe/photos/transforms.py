"""What changes in a training photo from one epoch to the next (torchvision.transforms.v2)."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import InterpolationMode

_GREY = [124, 116, 104]  # ImageNet's mean: what padding looks like to the network


def build_augmentation(strength: str, size: tuple[int, int]) -> Any:
    """A transform of one uint8 (3, height, width) photo into another of the same size.

    "light" crops, flips and recolours a little; "strong" adds rotation, shear, RandAugment, JPEG artefacts
    and erasing; "none" leaves the photo as it is.
    """
    if strength == "none":
        return nn.Identity()
    crop = v2.RandomResizedCrop(
        size, scale=(0.5, 1.0) if strength == "strong" else (0.6, 1.0), ratio=_ratios(size), antialias=True
    )
    colour = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)
    if strength == "light":
        return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.RandomApply([colour], 0.5)])
    tilt = v2.RandomAffine(10, shear=8, interpolation=InterpolationMode.BILINEAR, fill=_GREY)
    return v2.Compose(
        [
            v2.RandomApply([tilt], 0.5),
            crop,
            v2.RandomHorizontalFlip(),
            v2.RandomApply([colour], 0.5),
            v2.RandAugment(num_ops=2, magnitude=7, fill=_GREY),
            v2.RandomApply([v2.JPEG((40, 95))], 0.2),
            v2.RandomErasing(p=0.25, scale=(0.02, 0.2)),
        ]
    )


def _ratios(size: tuple[int, int]) -> tuple[float, float]:
    height, width = size
    return 0.8 * width / height, 1.25 * width / height


def build_mixup(mixup: float, cutmix: float) -> nn.Module | None:
    """Mixup (Zhang et al., 2018) or cutmix (Yun et al., 2019) of a batch, by chance where both are on.

    A transform of float (n, 3, height, width) photos and (n, classes) targets; None where both are 0.
    """
    kinds: list[v2.Transform] = []
    if mixup:
        kinds.append(v2.MixUp(alpha=mixup))
    if cutmix:
        kinds.append(v2.CutMix(alpha=cutmix))
    return v2.RandomChoice(kinds) if kinds else None


def stress_augment(photos: Tensor, seed: int) -> Tensor:
    """Strongly augmented copies of uint8 (n, height, width, 3) photos, the same for the same seed."""
    transform = build_augmentation("strong", (photos.shape[1], photos.shape[2]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(photo.permute(2, 0, 1)).permute(1, 2, 0) for photo in photos])
