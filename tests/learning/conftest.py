from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.learning.training import Task
from fovsfe.photos.dataset import FittedPhotos
from fovsfe.recipe import Recipe

SIZE = (48, 64)
LABELS = 3


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> FittedPhotos:
    """81 photos of noise, every third one reddish, greenish or bluish."""
    folder = tmp_path_factory.mktemp("coloured")
    random = np.random.default_rng(0)
    for number in range(81):
        pixels = random.integers(0, 180, (*SIZE, 3), dtype=np.uint8)
        pixels[..., number % LABELS] += 60
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return FittedPhotos(folder, [f"{number}.png" for number in range(81)], SIZE, "pad", 10**6)


@pytest.fixture
def make_task(coloured: FittedPhotos, tmp_path: Path) -> Callable[..., Task]:
    """A task on these photos: 54 to learn from, 15 that judge, 12 to answer for; settings of [training]."""

    def make(
        name: str = "network",
        deadline: float | None = None,
        photos: FittedPhotos = coloured,
        head: str = "linear",
        augment: dict[str, Any] | None = None,
        judge: int = 15,
        **training: Any,
    ) -> Task:
        settings = {
            "stages": [0, 1.0],
            "head_epochs": 3,
            "epochs": 4,
            "batch_size": 9,
            "rate": 3e-3,
            "head_rate": 1e-2,
            "ema": 0.8,
            "precision": "fp32",
        }
        recipe = Recipe.model_validate(
            {
                "augment": {"strength": "none"} | (augment or {}),
                "training": settings | training,
                "members": [{"backbone": "test_resnet", "size": SIZE, "head": head}],
            }
        )
        judged = np.arange(54, 54 + judge)
        return Task(
            folder=tmp_path / name,
            member=recipe.members[0],
            recipe=recipe,
            weights="none",
            labels=LABELS,
            photos=photos,
            learn=np.arange(54),
            targets=np.eye(LABELS, dtype=np.float32)[np.arange(54) % LABELS],
            judge=judged,
            truth=judged % LABELS,
            ask=np.arange(69, 81),
            features=tmp_path / name / "features.bin",
            precision="fp32",
            seed=5,
            deadline=deadline,
        )

    return make
