import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def network(title: str, seed: int) -> Network:
    """A network as if trained: sure of something, with batch norms that have seen something."""
    torch.manual_seed(seed)
    member = next(member for member in RECIPE.members if member.title == title)
    made = build(member.backbone, member.size, member.head, len(LABELS), "none")
    made.train()
    made(torch.randint(0, 256, (8, *member.size, 3), dtype=torch.uint8))
    made.eval()
    last = made.head if isinstance(made.head, torch.nn.Linear) else made.head[-1]
    with torch.no_grad():
        last.weight *= 30
    return made


@dataclass(frozen=True)
class Made:
    """Trained networks, and the bundle that was made of them."""

    files: dict[str, list[Path]]
    networks: dict[str, list[Network]]
    folder: Path
    proof: Proof

    def export(self, folder: Path, **changes: object) -> Proof:
        arguments = {
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


def fitted(title: str) -> np.ndarray:
    member = next(member for member in RECIPE.members if member.title == title)
    return np.stack([load(photo, member.size, "pad") for photo in PHOTOS])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    networks = {"small": [network("small", 1)], "test_resnet": [network("test_resnet", s) for s in (2, 3)]}
    files = {title: [folder / f"{title}-{k}.st" for k in range(len(n))] for title, n in networks.items()}
    for title, folds in networks.items():
        for fold, file in zip(folds, files[title], strict=True):
            save_file({name: value.contiguous() for name, value in fold.state_dict().items()}, file)
    proof = Made(files, networks, folder, Proof.model_construct()).export(folder / "bundle")
    return Made(files, networks, folder / "bundle", proof)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Callable[[], Path]:
    """Makes a copy of the bundle that a test may spoil."""
    return lambda: Path(shutil.copytree(made.folder, tmp_path / "copy", dirs_exist_ok=True))
