"""The training tasks whose speed is measured: as a run would make them, of recipe quick."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fovsfe.networks.network import build_network
from fovsfe.photos import layouts
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings, Recipe, load_recipe
from fovsfe.training.device import fastest_precision
from fovsfe.training.loop import TrainingTask

JUDGES = 8  # photos that validate: few, as it is training that is timed


@dataclass(frozen=True)
class Tasks:
    """One network on one set of photos."""

    task: TrainingTask

    def head(self, epochs: int) -> TrainingTask:
        """The head stage alone, never stopped early."""
        return self._with("head", stages=(0.0,), head_epochs=epochs, patience=1000)

    def whole(self, name: str) -> TrainingTask:
        """One epoch of everything."""
        return self._with(name, stages=(1.0,), epochs=1, patience=1000)

    def _with(self, name: str, **settings: object) -> TrainingTask:
        recipe = self.task.recipe
        changed = recipe.model_copy(update={"training": recipe.training.model_copy(update=settings)})
        return replace(self.task, recipe=changed, folder=self.task.folder / name)


def tasks_of(root: Path, backbone: str, folder: Path) -> Tasks:
    """The labelled photos under `root`, decoded into a file in `folder`, at recipe quick's size."""
    recipe = load_recipe("quick")
    sizes = {member.backbone: member.size for member in recipe.members}
    member = MemberSettings(backbone=backbone, size=sizes.get(backbone, recipe.members[0].size))
    found = layouts.find_photos(root)
    table = found.table[found.table["part"] == "train"]
    height, width = member.size
    photos = ResizedPhotos(
        found.root, list(table["path"]), member.size, recipe.photos.fit, recipe.photos.max_pixels
    ).cached(folder / f"{height}x{width}.bin", 1e12, lambda done, of: None)
    number = {label: i for i, label in enumerate(found.class_names)}
    y_true = np.array([number[label] for label in table["label"]], np.int64)
    order = np.random.default_rng(0).permutation(len(photos)).astype(np.int64)
    val_idx, train_idx = order[:JUDGES], order[JUDGES:]
    return Tasks(
        TrainingTask(
            folder=folder / backbone,
            member=member,
            recipe=recipe,
            weights="none",
            num_classes=len(found.class_names),
            photos=photos,
            train_idx=train_idx,
            targets=np.eye(len(found.class_names), dtype=np.float32)[y_true[train_idx]],
            val_idx=val_idx,
            y_true=y_true[val_idx],
            test_idx=np.zeros(0, np.int64),
            features=folder / f"{backbone}.features",
            precision=_precision(recipe, member),
            seed=0,
        )
    )


def _precision(recipe: Recipe, member: MemberSettings) -> str:
    if recipe.training.precision != "auto":
        return recipe.training.precision
    return fastest_precision(build_network(member.backbone, member.size, member.head, 2, "none"), member.size)
