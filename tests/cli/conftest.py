"""Photos without a fault, and a run that was trained on such photos once for all tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fovsfe import pipeline
from fovsfe.arguments import run_arguments
from fovsfe.progress import Screen
from fovsfe.recipe import load_recipe

TINY = """
[training]
stages = [0]
head_epochs = 1
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [48, 64]
"""


def _draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(path)


def _draw_folders(root: Path) -> Path:
    for index in range(8):
        _draw(root / ("Приора", "Нива")[index % 2] / f"{index}.png", index)
    return root


@pytest.fixture(scope="session")
def draw() -> Callable[[Path, int], None]:
    """Draws a photo of coloured clouds, unlike those of any other seed."""
    return _draw


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders without a fault: eight photos of two labels."""
    return _draw_folders(tmp_path / "photos")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a recipe that trains in seconds."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(TINY, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The folder of a complete run on such photos, which no test changes. The photos are beside it."""
    root = tmp_path_factory.mktemp("trained")
    arguments = run_arguments(str(_draw_folders(root / "photos")), "none", None)
    with (root / "screen.txt").open("w", encoding="utf-8") as file:
        screen = Screen(Console(file=file))
        pipeline.train(load_recipe(str(tiny)), arguments, str(root / "run"), screen)
    return root / "run"
