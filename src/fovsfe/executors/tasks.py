"""The networks of a run as training tasks."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fovsfe.arrays import Float32s, Ints
from fovsfe.context import RunContext
from fovsfe.training.task import NetworkKey, OnEvent, TrainingTask


def network_keys(context: RunContext, round: int) -> list[NetworkKey]:
    """Returns the networks of a round: every fold of the first member, then of the next."""
    members = range(len(context.recipe.members))
    root = context.run.root
    return [NetworkKey(root, round, member, fold) for member in members for fold in context.folds]


def is_trained(context: RunContext, key: NetworkKey) -> bool:
    """Returns whether a network is trained."""
    title = context.recipe.members[key.member].title
    return (context.run.fold(key.round, title, key.fold) / "result.json").exists()


def build_task(context: RunContext, key: NetworkKey, precision: str) -> TrainingTask:
    """Returns the task of one network. In round 2 it is trained on its fold's pseudo-labels, too."""
    member, manifest = context.recipe.members[key.member], context.manifest
    class_names = context.facts.class_names
    train_idx = context.positions((manifest["part"] == "train") & (manifest["fold"] != key.fold))
    val_idx = context.positions(manifest["fold"] == key.fold)
    targets = np.eye(len(class_names), dtype=np.float32)[context.y_true(train_idx)]
    if key.round == 2:
        pseudo_idx, pseudo_targets = _pseudo_targets(context, key.fold)
        train_idx = np.concatenate([train_idx, pseudo_idx])
        targets = np.concatenate([targets, pseudo_targets])
    height, width = member.size
    fold = f", fold {key.fold}" if len(context.folds) > 1 else ""
    return TrainingTask(
        key=key,
        name=f"{member.title}, round {key.round}{fold}",
        folder=context.run.fold(key.round, member.title, key.fold),
        member=member,
        recipe=context.recipe,
        weights=context.arguments.weights,
        num_classes=len(class_names),
        photos=context.resized(member),
        train_idx=train_idx,
        targets=targets,
        val_idx=val_idx,
        y_true=context.y_true(val_idx),
        test_idx=context.test_idx,
        photo_cache=context.run.cache / f"{height}x{width}.bin",
        feature_cache=context.run.cache / f"{member.title}.features",
        precision=precision,
        seed=context.recipe.seed + 7919 * member.seed + 104_729 * key.fold + 1_299_709 * key.round,
        deadline=context.deadline,
    )


def _pseudo_targets(context: RunContext, fold: int) -> tuple[Ints, Float32s]:
    """Positions and targets (n, classes) of a fold's pseudo-labelled photos: soft ones, or one-hot."""
    pseudo = pd.read_csv(context.run.pseudo_labels, dtype=str, keep_default_na=False)
    pseudo = pseudo[pseudo["fold"] == str(fold)]
    position = {photo: i for i, photo in enumerate(context.manifest["id"])}
    positions = np.array([position[photo] for photo in pseudo["id"]], np.int64)
    class_names = context.facts.class_names
    if context.recipe.pseudo_labels.soft:
        columns = [f"p:{label}" for label in class_names]
        return positions, pseudo[columns].to_numpy(object).astype(np.float32)
    number = {label: i for i, label in enumerate(class_names)}
    labels = np.array([number[label] for label in pseudo["label"]], np.int64)
    return positions, np.eye(len(class_names), dtype=np.float32)[labels]


def with_decoded_photos(task: TrainingTask, on_event: OnEvent) -> TrainingTask:
    """Returns the task with its photos decoded into its photo cache, unless they are too large for it."""

    def progress(done: int, total: int) -> None:
        on_event({"doing": "decoding", "done": done, "of": total})

    limit = task.recipe.photos.cache_gb * 1e9
    return replace(task, photos=task.photos.cached(task.photo_cache, limit, progress))
