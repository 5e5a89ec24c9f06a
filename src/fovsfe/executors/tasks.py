"""The networks of a run as training tasks."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fovsfe import run
from fovsfe.arrays import Float32s, Ints
from fovsfe.context import RunContext
from fovsfe.training.task import RESULT, NetworkKey, OnEvent, TrainingTask


def network_keys(context: RunContext, round_index: int) -> list[NetworkKey]:
    """Returns the networks of a round: every fold of the first member, then of the next."""
    member_indices = range(len(context.recipe.members))
    root = context.run.root
    return [NetworkKey(root, round_index, index, fold) for index in member_indices for fold in context.folds]


def network_name(context: RunContext, key: NetworkKey) -> str:
    """Returns what people and the log call a network."""
    name = context.recipe.members[key.member_index].unique_name
    return run.network_name(name, key.round_index, key.fold, len(context.folds))


def network_folder(context: RunContext, key: NetworkKey) -> Path:
    """Returns the folder of a network."""
    return context.run.fold_folder(
        key.round_index, context.recipe.members[key.member_index].unique_name, key.fold
    )


def is_trained(context: RunContext, key: NetworkKey) -> bool:
    """Returns whether a network is trained."""
    return (network_folder(context, key) / RESULT).exists()


def time_weights(context: RunContext, keys: Iterable[NetworkKey]) -> list[float]:
    """Returns how each network's share of the time is weighed."""
    return [context.recipe.members[key.member_index].time_weight for key in keys]


def build_task(context: RunContext, key: NetworkKey, precision: str) -> TrainingTask:
    """Returns the task of one network. In round 2 it is trained on its fold's pseudo-labels, too."""
    member, readable = context.recipe.members[key.member_index], context.readable
    class_names = context.facts.class_names
    train_idx = context.positions((readable["split"] == "train") & (readable["fold"] != key.fold))
    val_idx = context.positions(readable["fold"] == key.fold)
    targets = np.eye(len(class_names), dtype=np.float32)[context.y_true(train_idx)]
    if context.arguments.teacher is not None:
        train_idx, targets = _with_teacher(context, key.fold, train_idx, targets)
    if key.round_index == 2:
        pseudo_idx, pseudo_targets = _pseudo_targets(context, key.fold)
        train_idx = np.concatenate([train_idx, pseudo_idx])
        targets = np.concatenate([targets, pseudo_targets])
    return TrainingTask(
        key=key,
        name=network_name(context, key),
        folder=network_folder(context, key),
        member=member,
        recipe=context.recipe,
        weights=context.arguments.weights,
        num_classes=len(class_names),
        photos=context.resized_photos(member),
        train_idx=train_idx,
        targets=targets,
        val_idx=val_idx,
        y_true=context.y_true(val_idx),
        test_idx=context.test_idx,
        groups=context.groups(np.arange(len(readable))),
        photo_cache=context.photo_cache(member),
        feature_cache=context.feature_cache(member),
        precision=precision,
        seed=context.recipe.seed + 7919 * member.seed + 104_729 * key.fold + 1_299_709 * key.round_index,
        deadline=context.deadline,
    )


def _with_teacher(
    context: RunContext, fold: int, train_idx: Ints, targets: Float32s
) -> tuple[Ints, Float32s]:
    """Returns what a student learns: for labelled photos the mean of the true label and of what the teacher's
    networks that have not seen the photo answer, and for those without a label the teacher's answer."""
    answers = context.teacher_answers.astype(np.float32)
    answered = ~np.isnan(answers[:, 0])
    is_given = answered[train_idx]
    targets[is_given] = (targets[is_given] + answers[train_idx[is_given]]) / 2
    others = np.flatnonzero(answered & (context.readable["split"] != "train").to_numpy())
    others = others[_is_apart(context, fold, others)]
    return np.concatenate([train_idx, others]), np.concatenate([targets, answers[others]])


def _pseudo_targets(context: RunContext, fold: int) -> tuple[Ints, Float32s]:
    """Positions and targets (n, classes) of a fold's pseudo-labelled photos: soft ones, or one-hot."""
    pseudo = context.pseudo_labels[context.pseudo_labels["fold"] == fold]
    position = {photo: i for i, photo in enumerate(context.readable["id"])}
    positions = np.array([position[photo] for photo in pseudo["id"]], np.int64)
    apart = _is_apart(context, fold, positions)
    pseudo, positions = pseudo[apart], positions[apart]
    class_names = context.facts.class_names
    if context.recipe.pseudo_labels.soft:
        return positions, pseudo[[f"p:{label}" for label in class_names]].to_numpy(np.float32)
    labels = context.facts.label_positions(pseudo["label"])
    return positions, np.eye(len(class_names), dtype=np.float32)[labels]


def _is_apart(context: RunContext, fold: int, positions: Ints) -> npt.NDArray[np.bool_]:
    """Returns which photos are no near-duplicates of the fold's validation photos: (n,).

    Trained on one, a network would be validated on what it was trained on.
    """
    validated = context.groups(context.positions(context.readable["fold"] == fold))
    return ~np.isin(context.groups(positions), validated)


def with_cached_photos(task: TrainingTask, on_event: OnEvent) -> TrainingTask:
    """Returns the task with its photos, resized, in its photo cache, unless they are too large for it."""

    def progress(done: int, total: int) -> None:
        on_event({"type": "caching", "done": done, "total": total})

    limit = task.recipe.photos.cache_gb * 1e9
    return replace(task, photos=task.photos.cached(task.photo_cache, limit, progress))
