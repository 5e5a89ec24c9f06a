"""The training tasks whose speed is measured: as a run would make them, of recipe quick."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fovsfe.learning.device import fastest_precision
from fovsfe.learning.training import Task
from fovsfe.networks.network import build
from fovsfe.photos import layouts
from fovsfe.photos.dataset import FittedPhotos
from fovsfe.recipe import Member, Recipe, read

JUDGES = 8  # photos that validate: few, as it is training that is timed


@dataclass(frozen=True)
class Tasks:
    """One network on one set of photos."""

    task: Task

    def head(self, epochs: int) -> Task:
        """The head stage alone, never stopped early."""
        return self._with("head", stages=(0.0,), head_epochs=epochs, patience=1000)

    def whole(self, name: str) -> Task:
        """One epoch of everything."""
        return self._with(name, stages=(1.0,), epochs=1, patience=1000)

    def _with(self, name: str, **settings: object) -> Task:
        recipe = self.task.recipe
        changed = recipe.model_copy(update={"training": recipe.training.model_copy(update=settings)})
        return replace(self.task, recipe=changed, folder=self.task.folder / name)


def tasks_of(root: Path, backbone: str, folder: Path) -> Tasks:
    """The labelled photos under `root`, decoded into a file in `folder`, at recipe quick's size."""
    recipe = read("quick")
    sizes = {member.backbone: member.size for member in recipe.members}
    member = Member(backbone=backbone, size=sizes.get(backbone, recipe.members[0].size))
    found = layouts.find(root)
    table = found.table[found.table["part"] == "train"]
    height, width = member.size
    photos = FittedPhotos(
        found.root, list(table["path"]), member.size, recipe.photos.fit, recipe.photos.max_pixels
    ).cached(folder / f"{height}x{width}.bin", 1e12, lambda done, of: None)
    number = {label: i for i, label in enumerate(found.labels)}
    truth = np.array([number[label] for label in table["label"]], np.int64)
    order = np.random.default_rng(0).permutation(len(photos)).astype(np.int64)
    judge, learn = order[:JUDGES], order[JUDGES:]
    return Tasks(
        Task(
            folder=folder / backbone,
            member=member,
            recipe=recipe,
            weights="none",
            labels=len(found.labels),
            photos=photos,
            learn=learn,
            targets=np.eye(len(found.labels), dtype=np.float32)[truth[learn]],
            judge=judge,
            truth=truth[judge],
            ask=np.zeros(0, np.int64),
            features=folder / f"{backbone}.features",
            precision=_precision(recipe, member),
            seed=0,
        )
    )


def _precision(recipe: Recipe, member: Member) -> str:
    if recipe.training.precision != "auto":
        return recipe.training.precision
    return fastest_precision(build(member.backbone, member.size, member.head, 2, "none"), member.size)
