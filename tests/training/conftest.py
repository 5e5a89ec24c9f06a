from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import Recipe
from fovsfe.training.task import NetworkKey, TrainingTask

SIZE = (48, 64)
LABELS = 3


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> ResizedPhotos:
    """81 photos of noise, every third one reddish, greenish or bluish."""
    folder = tmp_path_factory.mktemp("coloured")
    random = np.random.default_rng(0)
    for index in range(81):
        pixels = random.integers(0, 180, (*SIZE, 3), dtype=np.uint8)
        pixels[..., index % LABELS] += 60
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return ResizedPhotos(folder, [f"{index}.png" for index in range(81)], SIZE, "pad", 10**6)


@pytest.fixture
def make_task(coloured: ResizedPhotos, tmp_path: Path) -> Callable[..., TrainingTask]:
    """A task on these photos: 54 to learn from, 15 to validate on, 12 to predict; settings of [training]."""

    def make(
        name: str = "network",
        deadline: float | None = None,
        photos: ResizedPhotos = coloured,
        head: str = "linear",
        augment: dict[str, Any] | None = None,
        val: int = 15,
        rounds: int = 1,
        **training: Any,
    ) -> TrainingTask:
        settings = {
            "stages": [0, 1.0],
            "head_epochs": 3,
            "epochs": 4,
            "batch_size": 9,
            "lr": 3e-3,
            "head_lr": 1e-2,
            "ema": 0.8,
            "precision": "fp32",
        }
        recipe = Recipe.model_validate(
            {
                "rounds": rounds,
                "augment": {"strength": "none"} | (augment or {}),
                "training": settings | training,
                "members": [{"backbone": "test_resnet", "size": SIZE, "head": head}],
            }
        )
        val_idx = np.arange(54, 54 + val)
        return TrainingTask(
            key=NetworkKey(tmp_path, 1, 0, 0),
            name=name,
            folder=tmp_path / name,
            member=recipe.members[0],
            recipe=recipe,
            weights="none",
            num_classes=LABELS,
            photos=photos,
            train_idx=np.arange(54),
            targets=np.eye(LABELS, dtype=np.float32)[np.arange(54) % LABELS],
            val_idx=val_idx,
            y_true=val_idx % LABELS,
            test_idx=np.arange(69, 81),
            groups=np.arange(81),
            photo_cache=tmp_path / name / "photos.bin",
            feature_cache=tmp_path / name / "features.bin",
            precision="fp32",
            seed=5,
            deadline=deadline,
        )

    return make
