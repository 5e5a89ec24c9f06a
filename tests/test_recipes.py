"""The built-in recipes: each can be read; the reference's runs from end to end."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image

from fovsfe.recipe import builtin_recipes, load_recipe


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_every_backbone_is_known_to_timm(name):
    for member in load_recipe(name).members:
        assert timm.is_model(member.backbone)


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_the_head_of_a_recipe_says_what_it_is_for_and_its_command(name):
    first, *rest = builtin_recipes()[name].splitlines()
    assert first.startswith("# ")
    assert any(line.startswith("#   fovsfe ") for line in rest)


@pytest.mark.slow
def test_twas_goes_through_every_stage_and_both_rounds(tmp_path, fovsfe):
    random = np.random.default_rng(0)
    photos = tmp_path / "photos"
    for index in range(16):
        part = f"train/{index % 2}" if index < 12 else "test_upload"
        file = photos / part / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file)
    sample = pd.DataFrame({"Id": [f"{index}.png" for index in range(12, 16)], "Category": "0"})
    sample.to_csv(photos / "sample-submission.csv", index=False)
    fewer = [f"--set=training.{change}" for change in ("epochs=1", "head_epochs=2", "batch_size=4")]

    ended = fovsfe(
        "train", photos, "--recipe", "twas", "--weights", "none", "--out", tmp_path / "run", *fewer
    )

    assert ended.code == 0
    metrics = json.loads(Path(tmp_path / "run" / "metrics.json").read_text())
    assert [part["round"] for part in metrics["rounds"]] == [1, 2]
    for round_index in (1, 2):
        for member, size in (
            ("xception", (480, 640)),
            ("inception_resnet_v2", (480, 640)),
            ("inception_v3", (299, 299)),
        ):
            assert next(m.size for m in load_recipe("twas").members if m.unique_name == member) == size
            history = pd.read_csv(
                tmp_path / "run" / f"round-{round_index}" / member / "fold-0" / "history.csv"
            )
            assert history["layer_share"].unique().tolist() == [0, 0.25, 0.5, 0.75, 1.0]
    assert pd.read_csv(tmp_path / "run" / "submission.csv")["Id"].tolist() == sample["Id"].tolist()
