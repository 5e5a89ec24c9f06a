"""Where the members looked, for photos of a run: class activation maps, and Grad-CAM where there are none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerGradCam
from safetensors.torch import load_file
from torch import Tensor, nn

from fovsfe import machine
from fovsfe.bundle import format
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.format import Bundle, BundleMember
from fovsfe.bundle.predictor import Cams, Prediction
from fovsfe.bundle.runtime import open_graph
from fovsfe.files import read_json
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.decode import BadPhoto, Pixels, decode, load_photo, read_header
from fovsfe.photos.reader import read_bytes
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath


@dataclass(frozen=True)
class _ReadablePhoto:
    """A photo that can be read, and the label that its map is of."""

    path: str
    fold: int
    label: int
    size: tuple[int, int]


def cams_for_photos(
    run: Run, root: AnyPath, photos: pd.DataFrame, num_classes: Sequence[str]
) -> list[bytes | None]:
    """For each photo the picture of what spoke for its label that `bundle.heat.overlay` draws.

    `photos` are rows of the run's table (path, fold) and lie under `root`; `labels` are names, one a row. Of
    a member with a linear head the map is what the bundle's graphs give beside the logits; of another,
    Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391). A photo that judged is shown to the
    networks that have not learned from it, another one to those of every fold. None where the photo cannot
    be read, no member has a map, or the run has no bundle yet.

    Raises FovsfeError where the bundle is damaged.
    """
    if not (run.bundle / format.FILE).exists():
        return [None] * len(photos)
    bundle, recipe = format.load_bundle(run.bundle), load_recipe(str(run.recipe))
    asked = [
        _readable_photo(root, str(path), int(fold), bundle.class_names.index(label), recipe.photos.max_pixels)
        for path, fold, label in zip(photos["path"], photos["fold"], num_classes, strict=True)
    ]
    readable = [photo for photo in asked if photo is not None]
    looked = [_member_cams(run, recipe, bundle, member, root, readable) for member in bundle.members]
    pictures = iter(
        cam_overlay(
            Prediction(np.zeros(len(bundle.class_names)), True, maps), bundle, photo.label, photo.size
        )
        for photo, maps in zip(readable, zip(*looked, strict=True), strict=True)
    )
    return [None if photo is None else next(pictures) for photo in asked]


def _readable_photo(
    root: AnyPath, path: str, fold: int, label: int, max_pixels: int
) -> _ReadablePhoto | None:
    try:
        data = read_bytes(root, path)
        decode(data, (1, 1), max_pixels)
        head = read_header(data, max_pixels)
    except (OSError, BadPhoto):
        return None
    return _ReadablePhoto(path, fold, label, (head.height, head.width))


def _member_cams(
    run: Run,
    recipe: Recipe,
    bundle: Bundle,
    member: BundleMember,
    root: AnyPath,
    asked: Sequence[_ReadablePhoto],
) -> list[Cams | None]:
    """A member's map for each photo, float32 (rows, columns, classes): the mean over the networks asked."""
    num_classes = len(bundle.class_names)
    found: list[list[Cams]] = [[] for _ in asked]
    for fold, path in enumerate(member.networks):
        mine = [place for place, photo in enumerate(asked) if photo.fold in (fold, -1)]
        if not mine:
            continue
        look = (
            _class_activation(run.bundle / path, num_classes)
            if member.has_cam
            else _grad_cam(_trained(run, recipe, member, fold, num_classes), member.size, num_classes)
        )
        if look is None:
            break
        for place in mine:
            photo = asked[place]
            data = read_bytes(root, photo.path)
            pixels = load_photo(data, member.size, member.fit, recipe.photos.max_pixels)
            found[place].append(look(pixels, photo.label))
    return [np.mean(maps, axis=0) if maps else None for maps in found]


# ---- class activation maps


def _class_activation(file: Path, num_classes: int) -> Callable[[Pixels, int], Cams]:
    network = open_graph(file, 2, num_classes, machine.cores())

    def look(pixels: Pixels, label: int) -> Cams:
        maps: Cams = network(pixels[None])[1][0]
        return maps

    return look


# ---- Grad-CAM


def _trained(run: Run, recipe: Recipe, member: BundleMember, fold: int, num_classes: int) -> Network:
    chosen = read_json(run.metrics)["chosen"]["round"]
    heads = {each.title: each.head for each in recipe.members}
    network = build_network(member.backbone, member.size, heads[member.title], num_classes, weights="none")
    network.load_state_dict(load_file(run.fold(chosen, member.title, fold) / "network.safetensors"))
    return network.eval()


def _grad_cam(
    network: Network, size: tuple[int, int], num_classes: int
) -> Callable[[Pixels, int], Cams] | None:
    """Grad-CAM of one label as a map of all, float32 (rows, columns, classes).

    Scaled as class activation maps are: with a linear head on the mean over the places the two are equal, but
    for the bias. None for a network whose features have no places that we know how to find.
    """
    backbone: Any = network.backbone
    with torch.no_grad():
        last = backbone.forward_features(network.normalised(torch.zeros(1, *size, 3)))
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", (0, 0))
    contrast: _Contrast | _TokenContrast
    if last.ndim == 4:
        contrast = _Contrast(network)
    elif any(grid) and hasattr(backbone, "blocks"):
        contrast = _TokenContrast(network)
    else:
        return None
    method = LayerGradCam(contrast, contrast.places)

    def look(pixels: Pixels, label: int) -> Cams:
        photo = torch.from_numpy(pixels)[None].float()
        found = method.attribute(photo, target=label).detach()[0, 0]
        if found.ndim == 1:  # class and register tokens come first
            found = found[-grid[0] * grid[1] :].reshape(grid)
        # The other labels share the opposite, so that the mean over all, which `overlay` takes off, is zero.
        maps = (-found / (num_classes - 1)).repeat(num_classes, 1, 1)
        maps[label] = found
        return np.asarray(maps.permute(1, 2, 0).numpy() * found.numel(), np.float32)

    return look


class _Contrast(nn.Module):
    """A network of which each logit is less the mean of all, and whose last places are a layer of their own.

    Less the mean, as in `overlay`: what speaks for every label alike decides nothing.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.places = nn.Identity()  # gives (n, features, rows, columns)

    def forward(self, photos: Tensor) -> Tensor:
        backbone: Any = self.network.backbone
        last = backbone.forward_features(self.network.normalised(photos))
        width = backbone.num_features
        if last.shape[-1] == width != last.shape[1]:
            last = self.places(last.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            last = self.places(last)
        return _less_the_mean(self.network.head(backbone.forward_head(last)))


class _TokenContrast(nn.Module):
    """The same of a transformer, whose places are tokens: those that its last block takes.

    Those that it gives would do only where all are pooled: a class token leaves the others no gradient.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.places = nn.Identity()  # gives (n, features, tokens)
        blocks: Any = network.backbone.blocks
        blocks[-1].register_forward_pre_hook(self._through_places)

    def _through_places(self, block: nn.Module, taken: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.places(taken[0].transpose(1, 2)).transpose(1, 2), *taken[1:]

    def forward(self, photos: Tensor) -> Tensor:
        return _less_the_mean(self.network(photos))


def _less_the_mean(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)
