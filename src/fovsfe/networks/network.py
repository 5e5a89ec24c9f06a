"""A network: normalisation, a timm backbone, a head. Takes uint8 photos, gives logits."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fovsfe.errors import FovsfeError


class Network(nn.Module):
    """A backbone with a head, on photos as they leave the decoder.

    `forward`: (n, height, width, 3) photos, uint8 or float in 0..255 -> float (n, classes) logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def normalised(self, photos: Tensor) -> Tensor:
        """(n, height, width, 3) photos -> float (n, 3, height, width), as the backbone expects them."""
        pixels = photos.permute(0, 3, 1, 2).float()  # NHWC seen as NCHW is channels-last already
        return (pixels - self.mean) / self.std

    def features(self, photos: Tensor) -> Tensor:
        """(n, height, width, 3) photos -> (n, width of the backbone) pooled features."""
        features: Tensor = self.backbone(self.normalised(photos))
        return features

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(photos))
        return logits


def build_network(backbone: str, size: tuple[int, int], head: str, num_classes: int, weights: str) -> Network:
    """A network for photos of `size` (height, width).

    Args:
        head: "linear", or "hidden" for the reference team's Dense(256), BatchNorm, Dropout, Dense(classes).
        weights: "hub", "none", or a folder with NAME.safetensors and NAME.json (its mean and std).

    Raises:
        FovsfeError: no such backbone, weights missing, damaged or of another shape, no network for the hub.
    """
    if not timm.is_model(backbone):
        near = timm.list_models(f"*{backbone.split('.')[0].split('_')[0]}*")[:3]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise FovsfeError(f'backbone "{backbone}" is not one that timm knows{hint}')
    model = _create(backbone, size, pretrained=weights == "hub")
    mean, std = list(model.pretrained_cfg["mean"]), list(model.pretrained_cfg["std"])
    if weights not in ("hub", "none"):
        mean, std = _load(model, backbone, Path(weights))
    return Network(model, _head(head, model.head_hidden_size, num_classes), mean, std)


def _create(backbone: str, size: tuple[int, int], pretrained: bool) -> Any:
    try:
        config = timm.get_pretrained_cfg(backbone)
        fixed = {"img_size": size} if config is not None and config.fixed_input_size else {}
        return timm.create_model(backbone, pretrained=pretrained, num_classes=0, **fixed)
    except Exception as error:  # the hub raises what its transport raises: there is no common class
        where = " from the hub (--weights FOLDER takes local ones, --weights none none)" if pretrained else ""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FovsfeError(
            f"cannot make backbone {backbone} at {size[0]}x{size[1]}{where}: {reason}"
        ) from error


def _load(model: nn.Module, backbone: str, folder: Path) -> tuple[list[float], list[float]]:
    file = folder / f"{backbone}.safetensors"
    if not file.is_file():
        there = ", ".join(sorted(f.stem for f in folder.glob("*.safetensors"))) or "no weights at all"
        raise FovsfeError(f"no weights {file}: --weights {folder} holds {there}")
    try:
        # Stored in float16; copying into the float32 parameters widens them.
        model.load_state_dict(load_file(file))
        config = json.loads(file.with_suffix(".json").read_text())
        mean, std = list(config["mean"]), list(config["std"])
        if not len(mean) == len(std) == 3:
            raise ValueError(f"mean {mean} and std {std} are not three numbers each")
        return mean, std
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(
            f"weights {file} (and .json) do not fit timm.create_model('{backbone}', num_classes=0): {reason}"
        ) from error


def _head(kind: str, width: int, num_classes: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, num_classes)
    return nn.Sequential(
        nn.Linear(width, 256), nn.ReLU(), nn.BatchNorm1d(256), nn.Dropout(0.5), nn.Linear(256, num_classes)
    )
