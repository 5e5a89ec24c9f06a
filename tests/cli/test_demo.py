"""fovsfe demo: its steps, without the minutes of a real training."""

import shutil
from pathlib import Path

import pytest

from fovsfe import pipeline
from fovsfe.bundle.format import load_bundle
from fovsfe.recipe import load_recipe
from fovsfe.run import Run
from fovsfe.service import server
from fovsfe.synthetic import dataset


@pytest.fixture
def steps(monkeypatch, run):
    """What the demo does, with a run of two of its labels in place of the real one."""
    done = []
    names = {language: {name: names[name] for name in ("Нива", "Приора") if name in names}
             for language, names in dataset.TRANSLATIONS.items()}  # fmt: skip

    def draw(folder, per_label, test, seed, progress):
        done.append("draw")
        folder.mkdir(parents=True)

    def train(settings, arguments, location, screen):
        assert (settings, arguments.weights) == (load_recipe("demo"), "none")
        done.append("train")
        return Run(Path(shutil.copytree(run, location)))

    def resume(location, screen):
        done.append("resume")
        return Run(Path(location))

    monkeypatch.setattr(dataset, "TRANSLATIONS", names)
    monkeypatch.setattr(dataset, "draw_dataset", draw)
    monkeypatch.setattr(pipeline, "train", train)
    monkeypatch.setattr(pipeline, "resume", resume)
    monkeypatch.setattr(server, "serve", lambda folder, settings, on_ready: done.append(folder))
    return done


def test_the_demo_draws_trains_and_serves_and_again_resumes(fovsfe, steps, tmp_path):
    ended = fovsfe("demo", "--out", tmp_path / "demo")
    assert ended.code == 0, ended.err
    assert steps == ["draw", "train", tmp_path / "demo" / "run" / "bundle"]
    steps.clear()
    ended = fovsfe("demo", "--out", tmp_path / "demo", "--no-serve")
    assert ended.code == 0, ended.err
    assert steps == ["resume"]


def test_the_bundle_of_the_demo_has_latin_names(fovsfe, steps, tmp_path):
    fovsfe("demo", "--out", tmp_path / "demo", "--no-serve")
    bundle = load_bundle(tmp_path / "demo" / "run" / "bundle")  # the checksums are right, too
    assert set(bundle.translations["en"]) == {"Нива", "Приора"}
    assert all(name.isascii() for name in bundle.translations["en"].values())
    assert bundle.example_paths  # which it shows, too
