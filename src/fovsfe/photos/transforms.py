"""Augmentations of training photos: transforms of torchvision.transforms.v2.

A new augmentation is a transform in `build_augmentation`; one that mixes photos goes into `build_mixup`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import InterpolationMode

_GREY = [124, 116, 104]  # ImageNet's mean, the colour of padding


def build_augmentation(strength: str, size: tuple[int, int]) -> Any:
    """Returns a transform of a uint8 (3, height, width) photo into another of `size` (height, width).

    `strength` "light" crops, flips and changes colours a little; "strong" adds rotation, shear, RandAugment,
    JPEG artefacts and erasing; "none" leaves the photo as it is.
    """
    if strength == "none":
        return nn.Identity()
    crop = v2.RandomResizedCrop(
        size,
        scale=(0.5, 1.0) if strength == "strong" else (0.6, 1.0),
        ratio=_aspect_ratios(size),
        antialias=True,
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


def _aspect_ratios(size: tuple[int, int]) -> tuple[float, float]:
    """Returns the least and the greatest aspect ratio (width / height) of a random crop."""
    height, width = size
    return 0.8 * width / height, 1.25 * width / height


def build_mixup(mixup: float, cutmix: float) -> nn.Module | None:
    """Returns a transform of a batch, float (n, 3, height, width) photos and (n, classes) targets.

    It is mixup (Zhang et al., 2018) with alpha `mixup`, or cutmix (Yun et al., 2019) with alpha `cutmix`, or
    one of them at random for each batch; None if both are 0.
    """
    transforms: list[v2.Transform] = []
    if mixup:
        transforms.append(v2.MixUp(alpha=mixup))
    if cutmix:
        transforms.append(v2.CutMix(alpha=cutmix))
    return v2.RandomChoice(transforms) if transforms else None


def robustness_augment(photos: Tensor, seed: int) -> Tensor:
    """Returns strongly augmented copies of uint8 (n, height, width, 3) photos, the same for the same seed."""
    transform = build_augmentation("strong", (photos.shape[1], photos.shape[2]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(photo.permute(2, 0, 1)).permute(1, 2, 0) for photo in photos])
