"""outputs: the learning curve of a run, from the features that its members have left in the cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fovsfe import outputs
from fovsfe.arguments import RunArguments
from fovsfe.context import RunContext
from fovsfe.outputs import _measure_curve
from fovsfe.photos.manifest import ListingFacts
from fovsfe.recipe import Recipe
from fovsfe.run import Run
from fovsfe.training.learning_curve import LearningCurve

LABELS, OF_LABEL, WIDTH = ("a", "b", "c"), 40, 24


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    """A run of labelled and test photos with two members that share a backbone, and one cache of features."""
    labels = [*np.repeat(LABELS, OF_LABEL), *[""] * 10]
    ids = [f"{index}.jpg" for index in range(len(labels))]
    manifest = pd.DataFrame({"id": ids, "path": ids, "label": labels})
    manifest = manifest.assign(split="train", group=range(len(labels)), fault="", given_fold="", fold=-1)
    manifest.loc[manifest["label"] == "", "split"] = "test"
    members = [{"backbone": "test_resnet", "size": [32, 32], "name": name} for name in ("one", "two")]
    facts: dict[str, Any] = {"root": str(tmp_path), "layout": "folders", "class_names": LABELS}
    facts |= {"sample_columns": None, "sample_rows": ()}
    context = RunContext(
        Run(tmp_path),
        Recipe.model_validate({"members": members}),
        RunArguments(photos=str(tmp_path), weights="none", minutes=None),
        ListingFacts.model_validate({**facts, "label_ids": dict(zip(LABELS, "012", strict=True))}),
        manifest,
    )
    random = np.random.default_rng(0)
    features = random.normal(size=(len(labels), 2, WIDTH)).astype(np.float32)
    for index, label in enumerate(LABELS):
        features[manifest["label"] == label, :, index] += 1.5
    file = context.feature_cache(context.recipe.members[0])
    file.parent.mkdir()
    features.tofile(file)
    return context


def test_a_curve_of_the_cached_features(context: RunContext) -> None:
    curve = _measure_curve(context, 0.8)
    assert isinstance(curve, LearningCurve)
    assert (curve.photos, curve.accuracy) == (120, 0.8)
    assert [each.label for each in curve.labels] == list(LABELS)
    assert curve.doubled.gain > 0


def test_of_many_photos_some_are_enough(context: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "CURVE_PHOTOS", 60)
    curve = _measure_curve(context, 0.8)
    assert isinstance(curve, LearningCurve) and curve.photos == 120  # all there are


def test_without_features_it_says_so(context: RunContext) -> None:
    context.feature_cache(context.recipe.members[0]).unlink()
    assert "no member of this recipe begins with a frozen backbone" in str(_measure_curve(context, 0.8))


def test_photos_of_two_groups_are_too_few(context: RunContext) -> None:
    context.manifest["group"] = context.manifest.index % 2
    assert "are too few" in str(_measure_curve(context, 0.8))


def test_features_that_are_not_finite_tell_nothing(context: RunContext) -> None:
    file = context.feature_cache(context.recipe.members[0])
    np.full_like(np.fromfile(file, np.float32), np.inf).tofile(file)
    assert "not finite" in str(_measure_curve(context, 0.8))
