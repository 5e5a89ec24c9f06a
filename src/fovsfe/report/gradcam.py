"""Grad-CAM: class activation maps of networks that have no linear head.

Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from fovsfe.arrays import Pixels
from fovsfe.bundle.predictor import Cams
from fovsfe.networks.network import Network

CamFunction = Callable[[Pixels, int], Cams]
"""uint8 (height, width, 3), the position of a label -> float32 (rows, columns, classes)"""


def grad_cam(network: Network, size: tuple[int, int], num_classes: int) -> CamFunction | None:
    """Returns a function that computes the Grad-CAM of one label.

    Its result has the shape and the scale of class activation maps. With a linear head on the mean over the
    cells of the feature map, the two are equal but for the bias.

    Args:
        network: a network in evaluation mode.
        size: the height and width of its photos, in pixels.
        num_classes: the number of labels.

    Returns:
        The function, or None for a network whose features cannot be arranged as a map.
    """
    backbone: Any = network.backbone
    with torch.no_grad():
        features = backbone.forward_features(network.normalize(torch.zeros(1, *size, 3)))
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", (0, 0))
    centred: _CentredLogits | _CentredTokenLogits
    if features.ndim == 4:
        centred = _CentredLogits(network)
    elif any(grid) and hasattr(backbone, "blocks"):
        centred = _CentredTokenLogits(network)
    else:
        return None
    attribution = LayerGradCam(centred, centred.feature_map)

    def cam_function(pixels: Pixels, label: int) -> Cams:
        photo = torch.from_numpy(pixels)[None].float()
        cam = attribution.attribute(photo, target=label).detach()[0, 0]
        if cam.ndim == 1:  # class and register tokens come first
            cam = cam[-grid[0] * grid[1] :].reshape(grid)
        # The other labels share the opposite, so that the mean over all, which `cam_overlay` subtracts, is 0.
        cams = (-cam / (num_classes - 1)).repeat(num_classes, 1, 1)
        cams[label] = cam
        return np.asarray(cams.permute(1, 2, 0).numpy() * cam.numel(), np.float32)

    return cam_function


class _CentredLogits(nn.Module):
    """A network that returns each logit less the mean of all, and whose last feature map is a layer.

    The mean is subtracted as in `cam_overlay`: evidence for every label alike decides nothing.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.feature_map = nn.Identity()  # returns (n, features, rows, columns)

    def forward(self, photos: Tensor) -> Tensor:
        backbone: Any = self.network.backbone
        features = backbone.forward_features(self.network.normalize(photos))
        width = backbone.num_features
        if features.shape[-1] == width != features.shape[1]:  # channels last
            features = self.feature_map(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            features = self.feature_map(features)
        return _subtract_mean(self.network.head(backbone.forward_head(features)))


class _CentredTokenLogits(nn.Module):
    """The same for a transformer: its feature map is made of the tokens that its last block takes.

    The tokens that the last block returns would do only if all of them were pooled: with a class token, the
    others get no gradient.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.feature_map = nn.Identity()  # returns (n, features, tokens)
        blocks: Any = network.backbone.blocks
        blocks[-1].register_forward_pre_hook(self._through_feature_map)

    def _through_feature_map(self, block: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.feature_map(inputs[0].transpose(1, 2)).transpose(1, 2), *inputs[1:]

    def forward(self, photos: Tensor) -> Tensor:
        return _subtract_mean(self.network(photos))


def _subtract_mean(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)
