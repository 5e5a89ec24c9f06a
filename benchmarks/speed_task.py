"""The training tasks that the benchmark of speed measures: as a run of recipe quick would build them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fovsfe.callbacks import no_progress
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.layouts import find_photos
from fovsfe.recipe import MemberSettings, Recipe, load_recipe
from fovsfe.training.launch import fastest_precision
from fovsfe.training.task import NetworkKey, TrainingTask

VAL_PHOTOS = 8  # few, because it is training that is timed
CACHE_BYTES = 1e12  # no limit in practice


@dataclass(frozen=True)
class SpeedTasks:
    """One network on one set of photos, as tasks of single stages."""

    task: TrainingTask

    def head(self, epochs: int) -> TrainingTask:
        """Returns the task of the head stage alone, which is never stopped early."""
        return self._with_training("head", stages=(0.0,), head_epochs=epochs, patience=1000)

    def all_layers(self, name: str) -> TrainingTask:
        """Returns the task of one epoch of all layers, with results in a folder `name`."""
        return self._with_training(name, stages=(1.0,), epochs=1, patience=1000)

    def _with_training(self, name: str, **settings: object) -> TrainingTask:
        recipe = self.task.recipe
        changed = recipe.model_copy(update={"training": recipe.training.model_copy(update=settings)})
        return replace(self.task, recipe=changed, folder=self.task.folder / name)


def build_speed_tasks(root: Path, backbone: str, folder: Path) -> SpeedTasks:
    """Returns the tasks of a backbone on the labelled photos under `root`.

    The photos have the size of recipe quick and are decoded into a file in `folder`.
    """
    recipe = load_recipe("quick")
    sizes = {member.backbone: member.size for member in recipe.members}
    member = MemberSettings(backbone=backbone, size=sizes.get(backbone, recipe.members[0].size))
    listing = find_photos(root)
    table = listing.table[listing.table["split"] == "train"]
    height, width = member.size
    photo_cache = folder / f"{height}x{width}.bin"
    photos = ResizedPhotos(
        listing.root, list(table["path"]), member.size, recipe.photos.resize_mode, recipe.photos.max_pixels
    ).cached(photo_cache, CACHE_BYTES, no_progress)
    position = {label: i for i, label in enumerate(listing.class_names)}
    y_true = np.array([position[label] for label in table["label"]], np.int64)
    shuffled = np.random.default_rng(0).permutation(len(photos)).astype(np.int64)
    val_idx, train_idx = shuffled[:VAL_PHOTOS], shuffled[VAL_PHOTOS:]
    return SpeedTasks(
        TrainingTask(
            key=NetworkKey(folder, 1, 0, 0),
            name=backbone,
            folder=folder / backbone,
            member=member,
            recipe=recipe,
            weights="none",
            num_classes=len(listing.class_names),
            photos=photos,
            train_idx=train_idx,
            targets=np.eye(len(listing.class_names), dtype=np.float32)[y_true[train_idx]],
            val_idx=val_idx,
            y_true=y_true[val_idx],
            test_idx=np.zeros(0, np.int64),
            groups=np.arange(len(photos)),
            photo_cache=photo_cache,
            feature_cache=folder / f"{backbone}.features",
            precision=_precision(recipe, member),
            seed=0,
        )
    )


def _precision(recipe: Recipe, member: MemberSettings) -> str:
    if recipe.training.precision != "auto":
        return recipe.training.precision
    return fastest_precision(member)
