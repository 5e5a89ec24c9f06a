"""executors.tasks: who is trained on what, as the manifest and the pseudo-labels say."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fovsfe.ensemble.predictions import predictions_frame, write_predictions
from fovsfe.executors.tasks import build_task, network_keys
from fovsfe.training.task import NetworkKey


def test_networks_come_member_by_member(context):
    keys = network_keys(context, 2)
    assert [(key.round_index, key.member_index, key.fold) for key in keys] == [
        (2, 0, 0),
        (2, 0, 1),
        (2, 1, 0),
        (2, 1, 1),
    ]
    names = [build_task(context, key, "fp32").name for key in keys[:2]]
    assert names == [f"{context.member_names[0]}, round 2, fold {fold}" for fold in (0, 1)]


def test_a_network_is_validated_on_its_fold_and_trained_on_the_others(context):
    for fold in context.folds:
        task = build_task(context, NetworkKey(context.run.root, 1, 0, fold), "bf16")
        folds = context.readable["fold"].to_numpy()
        splits = context.readable["split"].to_numpy()
        assert task.val_idx.tolist() == np.flatnonzero(folds == fold).tolist()
        assert task.train_idx.tolist() == np.flatnonzero((splits == "train") & (folds != fold)).tolist()
        assert task.targets.argmax(1).tolist() == context.y_true(task.train_idx).tolist()
        assert (task.targets.sum(1) == 1).all()
        assert task.test_idx.tolist() == context.test_idx.tolist()
        assert task.precision == "bf16"


def test_round_2_is_trained_on_its_folds_pseudo_labels_too(context):
    pseudo = pd.read_csv(context.run.pseudo_labels_file, dtype={"id": str})
    for fold in context.folds:
        first = build_task(context, NetworkKey(context.run.root, 1, 0, fold), "fp32")
        second = build_task(context, NetworkKey(context.run.root, 2, 0, fold), "fp32")
        own = pseudo[pseudo["fold"] == fold]
        added = second.train_idx[len(first.train_idx) :]
        assert context.ids(added) == list(own["id"])
        columns = [f"p:{label}" for label in context.facts.class_names]
        np.testing.assert_array_equal(
            second.targets[len(first.train_idx) :], own[columns].to_numpy(np.float32)
        )


def test_near_duplicates_of_a_folds_validation_photos_are_not_pseudo_labelled_for_it(context):
    manifest = context.manifest.copy()
    pseudo = pd.read_csv(context.run.pseudo_labels_file, dtype={"id": str})
    copy = pseudo["id"].iloc[0]
    validated = manifest["id"][manifest["fold"] == 0].iloc[0]
    group = manifest.loc[manifest["id"] == validated, "group"].item()
    manifest.loc[manifest["id"] == copy, "group"] = group
    context = replace(context, manifest=manifest)
    for fold in (0, 1):
        task = build_task(context, NetworkKey(context.run.root, 2, 0, fold), "fp32")
        assert (copy in context.ids(task.train_idx)) == (fold == 1)
        assert len(task.targets) == len(task.train_idx)
        trained, held_out = context.groups(task.train_idx), context.groups(task.val_idx)
        assert not set(trained) & set(held_out)


def test_seeds_differ_by_fold_and_round_and_not_by_member(context):
    keys = [key for round_index in (1, 2) for key in network_keys(context, round_index)]
    seeds = {(key.round_index, key.fold): build_task(context, key, "fp32").seed for key in keys}
    assert len(set(seeds.values())) == 4
    assert all(build_task(context, key, "fp32").seed == seeds[key.round_index, key.fold] for key in keys)


def with_teacher(context, answers):
    """The run as a student's: what its teacher answers, by position; nothing for other photos."""
    class_names = context.facts.class_names
    ids = context.ids(np.array(list(answers), np.int64))
    write_predictions(
        context.run.teacher_file, predictions_frame(ids, class_names, np.array(list(answers.values())))
    )
    return replace(context, arguments=context.arguments.model_copy(update={"teacher": "teacher"}))


def test_a_student_learns_the_mean_of_label_and_answer_and_answers_for_photos_without_a_label(context):
    labelled = context.positions(context.readable["split"] == "train")
    answers = {int(index): [0.25, 0.75] for index in [*labelled[1:], *context.test_idx[1:]]}
    key = NetworkKey(context.run.root, 1, 0, 0)
    alone, task = build_task(context, key, "fp32"), build_task(with_teacher(context, answers), key, "fp32")
    assert task.train_idx.tolist() == [*alone.train_idx, *context.test_idx[1:]]
    has_answer = np.isin(alone.train_idx, list(answers))
    own = task.targets[: len(alone.targets)]
    np.testing.assert_array_equal(own[~has_answer], alone.targets[~has_answer])
    np.testing.assert_array_equal(own[has_answer], (alone.targets[has_answer] + [0.25, 0.75]) / 2)
    np.testing.assert_array_equal(
        task.targets[len(own) :], [[0.25, 0.75]] * (len(answers) - len(labelled) + 1)
    )
    assert task.val_idx.tolist() == alone.val_idx.tolist()


def test_a_student_is_not_taught_near_duplicates_of_its_validation_photos(context):
    manifest = context.manifest.copy()
    copy = context.ids(context.test_idx)[0]
    validated = manifest[manifest["fold"] == 0].iloc[0]
    manifest.loc[manifest["id"] == copy, "group"] = validated["group"]
    context = with_teacher(
        replace(context, manifest=manifest), {int(i): [0.5, 0.5] for i in context.test_idx}
    )
    for fold in (0, 1):
        task = build_task(context, NetworkKey(context.run.root, 1, 0, fold), "fp32")
        assert (copy in context.ids(task.train_idx)) == (fold == 1)
