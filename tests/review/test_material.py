"""What is known of photos: from a run, or from a look at them."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from fovsfe import pipeline
from fovsfe.arguments import run_arguments
from fovsfe.errors import FovsfeError
from fovsfe.photos.fixes import Fix, write_fixes
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe
from fovsfe.review import material as module
from fovsfe.review.material import material_of_photos, material_of_run
from fovsfe.run import Run
from fovsfe.training.task import PREDICTIONS

LABELS = ("blue", "green", "red")
FROZEN = {
    "split": {"folds": 3},
    "training": {"stages": [0], "precision": "fp32"},
    "members": [{"backbone": "test_resnet", "size": [48, 64]}],
}


def screen():
    return Screen(Console(file=io.StringIO(), width=200))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty photos of three colours, a copy under two labels, and five photos without labels."""
    folder, random = tmp_path_factory.mktemp("tinted") / "photos", np.random.default_rng(0)
    for index in range(35):
        pixels = random.integers(0, 190, (48, 64, 3), dtype=np.uint8)
        pixels[..., 2 - index % 3] += 60
        file = folder / (f"train/{LABELS[index % 3]}" if index < 30 else "test") / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    shutil.copy(folder / "train/blue/00.png", folder / "train/red/copy.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, packed_weights, tmp_path_factory):
    """A run of these photos with a frozen backbone and three folds."""
    run = tmp_path_factory.mktemp("trained") / "run"
    arguments = run_arguments(str(photos), str(packed_weights), None)
    return pipeline.train(Recipe.model_validate(FROZEN), arguments, str(run), screen())


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_run_with_a_frozen_backbone_has_all_that_is_needed(trained, cached):
    photos, evidence = material_of_run(trained, screen())
    assert len(photos.labelled) == 31
    assert np.isfinite(evidence.predicted).all()
    assert evidence.folds.shape == (3, 31)
    assert evidence.components.shape[0] == len(evidence.nearness) == 31
    assert not cached.exists()  # nothing had to look at the photos
    ((detail, rows),) = photos.copies
    assert "blue" in detail
    assert set(photos.table["id"].iloc[rows]) == {"blue/00.png", "red/copy.png"}
    assert set(photos.table["split"].iloc[photos.tested]) == {"test"}
    assert photos.tested_probabilities.shape == (5, 3)
    assert photos.tested_probabilities.sum(axis=1) == pytest.approx(1)


def test_otherwise_its_backbone_looks_at_the_photos_once(trained, cached, tmp_path, monkeypatch):
    run = Run(Path(shutil.copytree(trained.root, tmp_path / "run")))
    for file in run.root.rglob(PREDICTIONS):
        file.unlink()
    _, there = material_of_run(trained, screen())
    _, computed = material_of_run(run, screen())
    assert computed.nearness == pytest.approx(there.nearness, abs=0.01)
    assert [file.suffix for file in (cached / "review").iterdir()] == [".features"]
    monkeypatch.setattr(module, "build_network", None)  # which would fail
    _, again = material_of_run(run, screen())
    assert (again.nearness == computed.nearness).all()


def test_test_photos_that_the_sample_asks_for_get_no_labels(photos, packed_weights, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    rows = "".join(f"{index}.png,blue\n" for index in range(30, 35))
    (folder / "sample-submission.csv").write_text(f"Id,Category\n{rows}")
    arguments = run_arguments(str(folder), str(packed_weights), None)
    run = pipeline.train(Recipe.model_validate(FROZEN), arguments, str(tmp_path / "run"), screen())
    assert len(material_of_run(run, screen())[0].tested) == 0


def test_the_fixes_that_a_run_was_trained_with_are_known(trained, tmp_path):
    run = Run(Path(shutil.copytree(trained.root, tmp_path / "run")))
    fixes = (Fix("blue/03.png", "a" * 64, "keep"),)
    write_fixes(run.fixes_file, fixes)
    assert material_of_run(run, screen())[0].trained_with == fixes
    assert material_of_run(trained, screen())[0].trained_with == ()


def test_photos_without_a_run_are_looked_at_by_a_light_backbone(photos, packed_weights, cached):
    found, evidence = material_of_photos(str(photos), str(packed_weights), screen())
    assert len(found.labelled) == len(evidence.components) == 31
    assert np.isnan(evidence.predicted).all()
    assert np.unique(evidence.folds).tolist() == list(range(10))
    assert len(found.copies) == 1
    assert len(list((cached / "review").iterdir())) == 1


def test_without_weights_photos_cannot_be_looked_at(photos):
    with pytest.raises(FovsfeError, match="--weights"):
        material_of_photos(str(photos), "none", screen())


def test_near_duplicates_are_no_neighbours():
    roots = [np.array([[1, 0], [1, 0], [0, 1], [0.1, 1]], np.float32)]
    alone = module._nearness(roots, np.array([0, 1, 2, 3]))
    together = module._nearness(roots, np.array([0, 0, 2, 3]))
    assert alone[0] > together[0]


def test_too_few_photos_are_an_error(planted):
    few = planted.photos.table.drop_duplicates("label")
    photos = module.Photos(planted.photos.root, pd.DataFrame(few), planted.photos.class_names, ())
    with pytest.raises(FovsfeError, match="too few"):
        module._evidence(photos, [np.ones((5, 3), np.float32)], np.ones((5, 5)))
