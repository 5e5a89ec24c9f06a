"""A bundle of the members of recipe `quick`, untrained: as large and as slow as a trained one.

python tests/container/bundle.py FOLDER
"""

import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file

from fovsfe import recipe as recipes
from fovsfe.arrays import Pixels
from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.ensemble.blend import Blend
from fovsfe.networks.network import build_network
from fovsfe.photos.decode import load_photo
from fovsfe.synthetic.dataset import CLASS_NAMES, cars, draw_photo


def make(folder: Path) -> None:
    """Writes the bundle to `folder`, with a network for each member and fold, and with the recipe's tta."""
    recipe = recipes.load_recipe("quick")
    photos = [draw_photo(model, Random(model.name)) for model in cars.MODELS[:4]]

    def fitted(title: str) -> Pixels:
        member = next(member for member in recipe.members if member.title == title)
        return np.stack([load_photo(photo, member.size, recipe.photos.fit) for photo in photos])

    with TemporaryDirectory() as scratch:
        networks = {}
        for member in recipe.members:
            files = [Path(scratch) / f"{member.title}-{fold}" for fold in range(recipe.split.folds)]
            networks[member.title] = files
            for seed, file in enumerate(files):
                torch.manual_seed(seed)
                network = build_network(
                    member.backbone, member.size, member.head, len(CLASS_NAMES), "none"
                ).train()
                with torch.no_grad():  # its batch norms have seen photos, or every answer is the same
                    network(torch.from_numpy(fitted(member.title)))
                save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        inputs = ExportInputs(
            networks=networks,
            recipe=recipe,
            blend=Blend(kind="mean", members=tuple(networks)),
            class_names=CLASS_NAMES,
            label_ids={label: str(number) for number, label in enumerate(CLASS_NAMES)},
            tta=("plain", *recipe.ensemble.tta),
            metrics={},
            proof_photos=fitted,
        )
        export_bundle(folder, inputs)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
