import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fovsfe.bundle.export import export
from fovsfe.bundle.format import Proof
from fovsfe.ensemble.blend import Blend
from fovsfe.networks.network import Network, build
from fovsfe.photos.decode import load
from fovsfe.recipe import Recipe

LABELS = ("ВАЗ-2109", "a|b", "Ford")
RECIPE = Recipe.model_validate(
    {
        "members": [
            {"backbone": "test_resnet", "size": [64, 96]},
            {"backbone": "test_efficientnet", "size": [48, 48], "name": "small", "head": "hidden"},
        ]
    }
)
BLEND = Blend(
    kind="stacking",
    members=("small", "test_resnet"),
    weights=(0.4, 0.7),
    bias=(0.1, 0.0, -0.1),
    temperature=1.5,
    threshold=0.5,
)


def jpeg(seed: int, size: tuple[int, int] = (480, 360)) -> bytes:
    """A drawn photo: coloured clouds."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


PHOTOS = [jpeg(seed) for seed in range(6)]


def fitted(title: str) -> np.ndarray:
    """The photos as the member takes them."""
    member = next(member for member in RECIPE.members if member.title == title)
    return np.stack([load(photo, member.size, "pad") for photo in PHOTOS])


def network(title: str, seed: int) -> Network:
    """A network as if trained: its batch norms have seen photos, and it answers one so and another so."""
    torch.manual_seed(seed)
    member = next(member for member in RECIPE.members if member.title == title)
    made = build(member.backbone, member.size, member.head, len(LABELS), "none")
    photos = torch.from_numpy(fitted(title))
    with torch.no_grad():
        for _ in range(30):
            made.train()(photos)
        last = made.head if isinstance(made.head, torch.nn.Linear) else made.head[-1]
        last.weight *= 2 / made.eval()(photos).std(dim=0).mean()
        last.bias -= made(photos).mean(dim=0)
    return made


@dataclass(frozen=True)
class Made:
    """Trained networks, and the bundle that was made of them."""

    files: dict[str, list[Path]]
    networks: dict[str, list[Network]]
    folder: Path

    labels = LABELS
    recipe = RECIPE
    blend = BLEND
    photos = tuple(PHOTOS)

    def export(self, folder: Path, **changes: Any) -> Proof:
        """`export` with what the bundle was made of, but for `changes`."""
        arguments: dict[str, Any] = {
            "networks": self.files,
            "recipe": RECIPE,
            "blend": BLEND,
            "labels": LABELS,
            "label_ids": {label: str(number) for number, label in enumerate(LABELS)},
            "views": ("plain", "flip"),
            "metrics": {},
            "proof": fitted,
        }
        return export(folder, **(arguments | changes))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    networks = {"small": [network("small", 1)], "test_resnet": [network("test_resnet", s) for s in (2, 3)]}
    files = {title: [folder / f"{title}-{k}.st" for k in range(len(n))] for title, n in networks.items()}
    for title, folds in networks.items():
        for fold, file in zip(folds, files[title], strict=True):
            save_file({name: value.contiguous() for name, value in fold.state_dict().items()}, file)
    everything = Made(files, networks, folder / "bundle")
    everything.export(everything.folder)
    return everything


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))
