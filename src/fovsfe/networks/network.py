"""Heads, and the network that has them: normalisation, a timm backbone, a head. uint8 photos to logits.

A new head is a case in `_head`, and a value of `head` in recipe.MemberSettings.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fovsfe.errors import FovsfeError

ONEDNN_BLOCK = 16
"""channels that oneDNN takes together, at most"""

SMALLEST_ROOTED = 1e-6
"""features nearer to 0 than this are not taken the root of but scaled, so that gradients stay finite"""


class RootHead(nn.Linear):
    """A linear head on the signed square roots of features, so that a few large ones do not outweigh others.

    Source: power normalization, Perronnin et al. 2010, https://doi.org/10.1007/978-3-642-15561-1_11.
    """

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features * inverse_roots(features))


def inverse_roots(features: Tensor) -> Tensor:
    """Returns what features, of any shape, are multiplied by to become their signed square roots."""
    magnitudes = features.abs()
    # Not a sum or a clamp, which quantization would reduce to 256 steps.
    return torch.where(magnitudes > SMALLEST_ROOTED, magnitudes, SMALLEST_ROOTED).rsqrt()


def linear_inputs(head: nn.Module, features: Tensor) -> Tensor:
    """Returns what the linear layer of a linear or root head gets of features (n, width)."""
    return features * inverse_roots(features) if isinstance(head, RootHead) else features


class Network(nn.Module):
    """A backbone with a head, for photos as `photos.decode` returns them.

    `forward` takes (n, height, width, 3) photos, uint8 or float from 0 to 255, and returns float (n, classes)
    logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def normalize(self, photos: Tensor) -> Tensor:
        """Returns (n, height, width, 3) photos as the backbone expects them: float (n, 3, height, width)."""
        pixels = photos.permute(0, 3, 1, 2).float()  # this view is in torch's channels-last format
        return (pixels - self.mean) / self.std

    def features(self, photos: Tensor) -> Tensor:
        """Returns the backbone's pooled features of (n, height, width, 3) photos: float (n, features)."""
        features: Tensor = self.backbone(self.normalize(photos))
        return features

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(photos))
        return logits


def build_network(backbone: str, size: tuple[int, int], head: str, num_classes: int, weights: str) -> Network:
    """Builds a network for photos of `size` (height, width).

    Args:
        backbone: the name of a timm model.
        size: height and width in pixels.
        head: "linear", "root" for `RootHead`, or "hidden" for the reference team's Dense(256), BatchNorm,
            Dropout, Dense(classes).
        num_classes: the number of labels.
        weights: "hub", "none", or a folder with NAME.safetensors and NAME.json (its mean and std).

    Raises:
        FovsfeError: no such backbone; weights are missing, damaged or of another shape; the hub cannot be
            reached.
    """
    require_backbone(backbone)
    model = _create(backbone, size, pretrained=weights == "hub")
    _spare_onednn(model)
    mean, std = list(model.pretrained_cfg["mean"]), list(model.pretrained_cfg["std"])
    if weights not in ("hub", "none"):
        mean, std = _load_weights(model, backbone, Path(weights))
    return Network(model, _head(head, model.head_hidden_size, num_classes), mean, std)


def require_backbone(backbone: str) -> None:
    """Raises FovsfeError, which names similar ones, unless timm has the backbone."""
    if not timm.is_model(backbone):
        similar = timm.list_models(f"*{backbone.split('.')[0].split('_')[0]}*")[:3]
        hint = f"; similar ones: {', '.join(similar)}" if similar else ""
        raise FovsfeError(f'timm has no backbone "{backbone}"{hint}')
    name, _, tag = backbone.partition(".")
    if tag and backbone not in (tagged := timm.list_pretrained(f"{name}.*")):
        hint = f"; there are {', '.join(tagged)}" if tagged else ""
        raise FovsfeError(f'timm has no weights "{tag}" of {name}{hint}')


def _create(backbone: str, size: tuple[int, int], pretrained: bool) -> Any:
    try:
        config = timm.get_pretrained_cfg(backbone)
        fixed = {"img_size": size} if config is not None and config.fixed_input_size else {}
        return timm.create_model(backbone, pretrained=pretrained, num_classes=0, **fixed)
    except Exception as error:  # the hub's errors have no common class
        source = " from the hub (use --weights FOLDER, or --weights none)" if pretrained else ""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FovsfeError(
            f"cannot create backbone {backbone} at {size[0]}x{size[1]}{source}: {reason}"
        ) from error


def _spare_onednn(model: nn.Module) -> None:
    """Keeps a backbone from what oneDNN, torch's library for CPUs, does wrong.

    The gradients of a 1x1 convolution with a stride, of few channels that come last in memory, write past
    their buffer: the process crashes, or they are wrong (https://github.com/uxlfoundation/oneDNN/issues/6035).
    FastViT, MobileOne and RepVGG begin with such a convolution.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and max(module.stride) > 1
            and module.in_channels // module.groups < ONEDNN_BLOCK
        ):
            module.register_forward_pre_hook(_channels_first)


def _channels_first(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def _load_weights(model: nn.Module, backbone: str, folder: Path) -> tuple[list[float], list[float]]:
    """Loads weights of a folder into a backbone; returns its mean and std."""
    file = folder / f"{backbone}.safetensors"
    if not file.is_file():
        names = ", ".join(sorted(f.stem for f in folder.glob("*.safetensors"))) or "no weights at all"
        raise FovsfeError(f"no weights {file}: --weights {folder} has {names}")
    try:
        # They may be stored as float16; copying them converts to the float32 of the parameters.
        model.load_state_dict(load_file(file))
        config = json.loads(file.with_suffix(".json").read_text())
        mean, std = list(config["mean"]), list(config["std"])
        if not len(mean) == len(std) == 3:
            raise ValueError(f"mean {mean} and std {std} are not three numbers each")
        return mean, std
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(
            f"weights {file} (and .json) do not fit timm.create_model('{backbone}', num_classes=0); replace"
            f" or remove both: {reason}"
        ) from error


def _head(head: str, features: int, num_classes: int) -> nn.Module:
    if head == "linear":
        return nn.Linear(features, num_classes)
    if head == "root":
        return RootHead(features, num_classes)
    return nn.Sequential(
        nn.Linear(features, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(0.5), nn.Linear(256, num_classes)
    )
