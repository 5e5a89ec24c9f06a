"""Makes a bundle of the members of recipe `quick`, untrained: as large and as slow as a trained one.

python tests/container/bundle.py FOLDER
"""

import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file

from fovsfe.arrays import Pixels
from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.ensemble.blend import Blend
from fovsfe.networks.network import build_network
from fovsfe.photos.decode import decode_to_size
from fovsfe.recipe import MemberSettings, load_recipe
from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import CLASS_NAMES, draw_photo

PHOTOS = 4


def make_untrained_bundle(folder: Path) -> None:
    """Writes the bundle to `folder`, with a network for each member and fold, and the recipe's tta."""
    recipe = load_recipe("quick")
    photos = [draw_photo(model, Random(model.name)) for model in MODELS[:PHOTOS]]

    def resized_photos(name: str) -> Pixels:
        size = next(member.size for member in recipe.members if member.unique_name == name)
        return np.stack([decode_to_size(photo, size, recipe.photos.resize_mode) for photo in photos])

    with TemporaryDirectory() as scratch:
        networks = {}
        for member in recipe.members:
            files = [Path(scratch) / f"{member.unique_name}-{fold}" for fold in range(recipe.split.folds)]
            networks[member.unique_name] = files
            for seed, file in enumerate(files):
                _save_untrained_network(file, member, resized_photos(member.unique_name), seed)
        inputs = ExportInputs(
            networks=networks,
            recipe=recipe,
            blend=Blend(kind="mean", members=tuple(networks)),
            class_names=CLASS_NAMES,
            label_ids={label: str(index) for index, label in enumerate(CLASS_NAMES)},
            tta=("plain", *recipe.ensemble.tta),
            metrics={},
            parity_photos=resized_photos,
        )
        export_bundle(folder, inputs)


def _save_untrained_network(file: Path, member: MemberSettings, photos: Pixels, seed: int) -> None:
    torch.manual_seed(seed)
    network = build_network(member.backbone, member.size, member.head, len(CLASS_NAMES), "none").train()
    with torch.no_grad():  # lets its batch norms see photos; otherwise all predictions would be the same
        network(torch.from_numpy(photos))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)


if __name__ == "__main__":
    make_untrained_bundle(Path(sys.argv[1]))
