"""Heat maps for photos of a run: class activation maps of its members, or Grad-CAM where there are none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fovsfe import machine
from fovsfe.arrays import Pixels
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.format import BUNDLE_FILE, Bundle, BundleMember, load_bundle
from fovsfe.bundle.predictor import Cams, Prediction
from fovsfe.bundle.runtime import open_graph
from fovsfe.files import read_json
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.decode import BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.reader import read_unchanged
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.report.gradcam import CamFunction, grad_cam
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath
from fovsfe.training.results import load_trained
from fovsfe.training.task import WEIGHTS


@dataclass(frozen=True)
class _ReadablePhoto:
    """A photo that can be read, and the position of the label that its map is for."""

    path: str
    sha256: str
    fold: int
    label: int
    size: tuple[int, int]


@dataclass(frozen=True)
class _CamSource:
    """What the maps are computed from."""

    run: Run
    root: AnyPath
    recipe: Recipe
    bundle: Bundle


def cams_for_photos(
    run: Run, root: AnyPath, photos: pd.DataFrame, labels: Sequence[str]
) -> list[bytes | None]:
    """Returns for each photo a heat map of the evidence for a label, to be laid over the photo.

    The maps of a member with a linear or root head are the class activation maps of the bundle's graphs;
    those of another member are Grad-CAM. A photo that was held out is given to the networks that were not
    trained on it, another one to the networks of every fold; the only network of a member is given them all.

    Args:
        run: a finished run.
        root: the folder that the photos' paths are relative to.
        photos: n rows of the run's manifest, with path, sha256 and fold.
        labels: the names of n labels, one for each photo.

    Returns:
        PNG files as `bundle.cam.cam_overlay` draws them. None where a photo cannot be read or has another
        content, where no member has a map, or, for all photos, if the run has no bundle yet.

    Raises:
        FovsfeError: the bundle is damaged.
    """
    if not (run.bundle_folder / BUNDLE_FILE).exists():
        return [None] * len(photos)
    source = _CamSource(run, root, load_recipe(str(run.recipe_file)), load_bundle(run.bundle_folder))
    found = [
        _find_readable(source, str(path), str(sha256), int(fold), label)
        for path, sha256, fold, label in zip(
            photos["path"], photos["sha256"], photos["fold"], labels, strict=True
        )
    ]
    readable = [photo for photo in found if photo is not None]
    overlays = _overlays(source, readable)
    return [None if photo is None else next(overlays) for photo in found]


def _find_readable(
    source: _CamSource, path: str, sha256: str, fold: int, label: str
) -> _ReadablePhoto | None:
    max_pixels = source.recipe.photos.max_pixels
    try:
        data = read_unchanged(source.root, path, sha256)
        header = shared_pool().decode(data, (1, 1), max_pixels).header
    except (OSError, BadPhoto):
        return None
    position = source.bundle.class_names.index(label)
    return _ReadablePhoto(path, sha256, fold, position, (header.height, header.width))


def _overlays(source: _CamSource, photos: Sequence[_ReadablePhoto]) -> Iterator[bytes | None]:
    bundle = source.bundle
    of_members = [_member_cams(source, member, photos) for member in bundle.members]
    for photo, cams in zip(photos, zip(*of_members, strict=True), strict=True):
        # The overlay is drawn from the maps alone.
        prediction = Prediction(np.zeros(len(bundle.class_names)), True, cams)
        yield cam_overlay(prediction, bundle, photo.label, photo.size)


def _member_cams(
    source: _CamSource, member: BundleMember, photos: Sequence[_ReadablePhoto]
) -> list[Cams | None]:
    """Returns a member's maps of each photo, float32 (rows, columns, classes), the mean over its networks."""
    cams: list[list[Cams]] = [[] for _ in photos]
    for fold, path in enumerate(member.networks):
        is_only = len(member.networks) == 1
        positions = [i for i, photo in enumerate(photos) if is_only or photo.fold in (fold, -1)]
        if not positions:
            continue
        cam_function = (
            _class_activation(source.run.bundle_folder / path, len(source.bundle.class_names))
            if member.has_cam
            else _grad_cam(source, member, fold)
        )
        if cam_function is None:
            break
        for i in positions:
            data = read_unchanged(source.root, photos[i].path, photos[i].sha256)
            max_pixels = source.recipe.photos.max_pixels
            photo = shared_pool().decode_to_sizes(data, [(member.size, member.resize_mode)], max_pixels)
            cams[i].append(cam_function(photo.pixels[0], photos[i].label))
    return [np.mean(of_photo, axis=0) if of_photo else None for of_photo in cams]


def _class_activation(file: Path, num_classes: int) -> CamFunction:
    graph = open_graph(file, 3, num_classes, machine.cores())

    def cam_function(pixels: Pixels, label: int) -> Cams:
        cams: Cams = graph(pixels[None])[2][0]
        return cams

    return cam_function


def _grad_cam(source: _CamSource, member: BundleMember, fold: int) -> CamFunction | None:
    return grad_cam(_load_network(source, member, fold), member.size, len(source.bundle.class_names))


def _load_network(source: _CamSource, member: BundleMember, fold: int) -> Network:
    selected_round_index = read_json(source.run.metrics_file)["selected"]["round"]
    heads = {each.unique_name: each.head for each in source.recipe.members}
    num_classes = len(source.bundle.class_names)
    network = build_network(member.backbone, member.size, heads[member.name], num_classes, weights="none")
    folder = source.run.fold_folder(selected_round_index, member.name, fold)
    network.load_state_dict(load_trained(folder / WEIGHTS))
    return network.eval()
