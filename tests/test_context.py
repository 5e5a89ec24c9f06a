"""context: a run knows its photos, folds, labels and shards from what it wrote at its start."""

import numpy as np
import pandas as pd
import pytest

from fovsfe.context import RunArguments, RunContext, require_run
from fovsfe.ensemble.blend import Blend
from fovsfe.errors import FovsfeError
from fovsfe.files import write_json, write_text
from fovsfe.photos.manifest import ListingFacts, write_facts, write_manifest
from fovsfe.photos.sampler import assign_shards
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run


def photos(rows):
    """A manifest with one row per (split, label, fold, fault)."""
    rows = [
        {"id": f"{i}.jpg", "path": f"{label}/{i}.jpg", "split": split, "label": label, "group": i,
         "fold": fold, "fault": fault, "width": 8, "height": 6, "bytes": 9, "sha256": "ab"}
        for i, (split, label, fold, fault) in enumerate(rows)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def context(tmp_path):
    run = Run(tmp_path / "run")
    recipe = Recipe.model_validate(
        {"rounds": 2, "members": [{"backbone": f"test_{name}", "size": [48, 64]} for name in ("a", "b")]}
    )
    facts = ListingFacts(
        root=str(tmp_path / "gone"),
        layout="class folders",
        class_names=("ж", "a"),
        label_ids={"ж": "7", "a": "3"},
        sample_columns=("Id", "Category"),
        sample_rows=(("5.jpg", "0"), ("NA", "")),
    )
    manifest = photos(
        [
            ("train", "a", 0, ""),
            ("train", "ж", 1, ""),
            ("train", "ж", -1, "truncated"),
            ("train", "ж", 0, ""),
            ("train", "a", 1, ""),
            ("test", "", -1, ""),
        ]
    )
    write_text(run.recipe_file, to_toml(recipe))
    write_json(run.arguments_file, RunArguments(photos="p", weights="none", minutes=None).model_dump())
    write_facts(run.dataset_file, facts)
    write_manifest(run.manifest_file, manifest)
    return RunContext.open(run)


def test_what_a_run_remembers_comes_back(context):
    assert context.facts.class_names == ("ж", "a")
    assert context.facts.sample.to_dict("list") == {"Id": ["5.jpg", "NA"], "Category": ["0", ""]}
    assert context.arguments.weights == "none"
    assert list(context.manifest["fault"]) == ["", "", "truncated", "", "", ""]
    assert context.member_names == ["test_a", "test_b"]


def test_positions_are_of_readable_photos(context):
    assert context.ids(np.arange(len(context.readable))) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert context.val_idx.tolist() == [0, 1, 2, 3]
    assert context.test_idx.tolist() == [4]
    assert list(context.folds) == [0, 1]
    assert context.y_true(context.val_idx).tolist() == [1, 0, 0, 1]


def test_a_photo_keeps_its_shard_whatever_else_is_unreadable(context):
    every = assign_shards(list(context.manifest["id"]), list(context.manifest["split"]))
    shards = context.resized_photos(context.recipe.members[0]).shards
    assert shards.tolist() == every[[0, 1, 3, 4, 5]].tolist()


def test_without_test_photos_there_is_one_round(context):
    assert context.rounds == 2
    write_manifest(context.run.manifest_file, context.manifest[context.manifest["split"] == "train"])
    assert RunContext.open(context.run).rounds == 1


def test_a_blend_gets_its_members_in_its_order(context):
    probabilities = np.arange(8.0).reshape(2, 2, 2)
    blend = Blend(kind="mean", members=("test_b", "test_a"))
    assert context.select_members(blend, probabilities).tolist() == probabilities[::-1].tolist()


@pytest.mark.parametrize("name", ["dataset.json", "photos.csv", "arguments.json"])
def test_a_missing_file_is_named(context, name):
    (context.run.root / name).unlink()
    with pytest.raises(FovsfeError, match=f"cannot read .*{name}"):
        RunContext.open(context.run)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(FovsfeError, match=r"is not a run: it has no arguments\.json; start one"):
        require_run(Run(tmp_path))
