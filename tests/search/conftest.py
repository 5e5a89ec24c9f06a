import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fovsfe import pipeline
from fovsfe.arguments import RunArguments
from fovsfe.context import RunContext
from fovsfe.files import write_json, write_text
from fovsfe.photos.layouts import find_photos
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run

LABELS = ("blue", "green", "red")
EACH = 14  # labelled photos of a label
TEST_PHOTOS = 4


@pytest.fixture(scope="session")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of noise, 96x128, of three labels in three colours, and some test photos."""
    folder, random = tmp_path_factory.mktemp("tinted") / "photos", np.random.default_rng(0)
    for index in range(EACH * len(LABELS) + TEST_PHOTOS):
        pixels = random.integers(0, 190, (96, 128, 3), dtype=np.uint8)
        pixels[..., 2 - index % 3] += 50
        labelled = index < EACH * len(LABELS)
        part = f"train/{LABELS[index % 3]}" if labelled else "test"
        file = folder / part / f"{index:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return folder


@pytest.fixture
def screen() -> Screen:
    return Screen(Console(file=io.StringIO(), width=200))


@pytest.fixture
def make_context(
    tinted: Path, packed_weights: Path, tmp_path: Path, screen: Screen
) -> Callable[..., RunContext]:
    """A run of these photos, audited and split, whose members are to be searched for."""

    def make(**changes: Any) -> RunContext:
        run = Run(tmp_path / "run")
        recipe = Recipe.model_validate({"search": {}, "split": {"folds": 2}} | changes)
        arguments = RunArguments(photos=str(tinted), weights=str(packed_weights), minutes=None)
        write_text(run.recipe_file, to_toml(recipe))
        write_json(run.arguments_file, arguments.model_dump(mode="json"))
        pipeline._audit_and_split(run, screen, find_photos(tinted))
        return RunContext.open(run)

    return make
