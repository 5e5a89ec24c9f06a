"""executors.tasks: who is trained on what, as the manifest and the pseudo-labels say."""

from dataclasses import replace

import numpy as np
import pandas as pd

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
