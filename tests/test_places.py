"""A run is the same from a folder, from shards and from a bucket, and goes on elsewhere after a kill."""

import json
import os
import shutil
import time
from functools import partial

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.forked import ForkedProgram

from fovsfe import context
from fovsfe.arguments import RunArguments
from fovsfe.context import RunContext
from fovsfe.executors.tasks import build_task
from fovsfe.photos import sampler
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.manifest import ListingFacts
from fovsfe.photos.sampler import ShardSampler, assign_shards
from fovsfe.photos.splits import assign_folds
from fovsfe.recipe import MemberSettings, PhotoSettings, Recipe, TrainingSettings
from fovsfe.run import Run
from fovsfe.storage.locations import as_path
from fovsfe.training.launch import train_network
from fovsfe.training.task import NetworkKey

A_SHARD = 6


def recipe(tmp_path, num_workers=0, epochs=1, cache_gb=0.0):
    file = tmp_path / f"recipe-{num_workers}-{epochs}-{cache_gb}.toml"
    file.write_text(
        f"[photos]\nnum_workers = {num_workers}\ncache_gb = {cache_gb}\n[training]\nstages = [0, 1.0]\n"
        f'head_epochs = 5\nepochs = {epochs}\nbatch_size = 8\nprecision = "fp32"\n'
        '[[members]]\nbackbone = "test_resnet"\nsize = [48, 64]\n'
    )
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """45 photos of three labels, and six to ask about."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("photos") / "photos"
    for index in range(51):
        pixels = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        pixels[..., index % 3] //= 3
        file = root / (f"train/{index % 3}/{index}.jpg" if index < 45 else f"test_upload/{index}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((80, 60)).save(file)
    tested = sorted(file.name for file in (root / "test_upload").iterdir())
    (root / "sample-submission.csv").write_text("Id,Category\n" + "".join(f"{name},0\n" for name in tested))
    return root


def first_epoch(photos, num_workers, folder):
    """The ids in the order of the first epoch, its loss, and predictions for the test photos."""
    member = MemberSettings(backbone="test_resnet", size=(48, 64))
    recipe = Recipe(
        photos=PhotoSettings(num_workers=num_workers, cache_gb=0),
        training=TrainingSettings(stages=(1.0,), epochs=1, batch_size=8, precision="fp32"),
        members=(member,),
    )
    listing = find_photos(as_path(str(photos)))
    audited = audit_photos(listing).table
    audited["fold"] = assign_folds(audited, 0.25, 0, 0)
    arguments = RunArguments(photos=str(photos), weights="none", minutes=None)
    run_context = RunContext(Run(folder), recipe, arguments, ListingFacts.of(listing), audited)
    task = build_task(run_context, NetworkKey(folder, 1, 0, 0), "fp32")
    train_network(task, lambda event: None)
    sampler_ = ShardSampler(task.photos, task.train_idx, task.seed)
    with np.load(task.folder / "predictions.npz") as saved:
        predictions = saved["test"].tolist()
    loss = (task.folder / "history.csv").read_text().splitlines()[1].split(",")[2]
    return [run_context.readable["id"][task.train_idx[i]] for i in sampler_], loss, predictions


def test_the_same_photos_in_the_same_order_and_the_same_loss_from_everywhere(
    fovsfe, folder, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(context, "assign_shards", partial(assign_shards, photos_per_shard=A_SHARD))
    monkeypatch.setattr(sampler, "BUFFER_SHARDS", 2)
    fsspec.filesystem("s3").put(str(folder), f"{bucket}/", recursive=True)
    places = [folder, f"{bucket}/photos", tmp_path / "shards", f"{bucket}/shards"]
    for out in places[2:]:
        assert fovsfe("shard", folder, "--out", out, "--photos-per-shard", A_SHARD).code == 0
    ids, loss, answers = first_epoch(folder, 0, tmp_path / "plain")
    assert len(set(ids)) == len(ids) == 33
    for index, photos in enumerate(places):
        for num_workers in (1, 4):
            seen = first_epoch(photos, num_workers, tmp_path / f"{index}-{num_workers}")
            assert seen == (ids, loss, answers), (photos, num_workers)


@pytest.mark.parametrize("choice", ["refuse", "skip"])
def test_a_damaged_shard_is_refused_or_left_out(fovsfe, folder, tmp_path, choice):
    shards = tmp_path / "shards"
    assert fovsfe("shard", folder, "--out", shards, "--photos-per-shard", 8).code == 0
    (shards / "train-000002.tar").write_bytes(b"gone")
    ended = fovsfe("check", shards)
    assert ended.code == 1
    assert "error: damaged shard: train-000002.tar is damaged" in ended.out
    command = ["train", shards, "--recipe", recipe(tmp_path), "--weights", "none", "--out", tmp_path / "run"]
    ended = fovsfe(*command, "--set", f"photos.damaged_shards={choice}")
    if choice == "refuse":
        assert ended.code == 1
        assert "train-000002.tar is damaged" in ended.line
        assert "photos.damaged_shards=skip" in ended.line
        return
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["photos"]["unreadable"] == 8
    assert len((tmp_path / "run" / "submission.csv").read_text().splitlines()) == 7


def test_killed_on_one_machine_a_run_ends_the_same_on_another(fovsfe, folder, bucket, tmp_path, monkeypatch):
    photos, url, mine = f"{bucket}/shards", f"{bucket}/runs/one", recipe(tmp_path, epochs=12)
    assert fovsfe("shard", folder, "--out", photos).code == 0
    command = ["train", photos, "--recipe", mine, "--weights", "none", "--out"]
    assert fovsfe(*command, tmp_path / "whole").code == 0
    program = ForkedProgram("from fovsfe.cli import main; main()", [*command, url], os.environ)
    system, checkpoint = fsspec.filesystem("s3"), f"{url}/round-1/test_resnet/fold-0/checkpoint.pt"
    end = time.monotonic() + 120
    while not system.exists(checkpoint) and time.monotonic() < end and program.poll() is None:
        time.sleep(0.05)
        system.invalidate_cache()
    program.kill()
    said = program.communicate()
    assert system.exists(checkpoint), said
    assert not system.exists(f"{url}/metrics.json")
    shutil.rmtree(tmp_path / "fovsfe-cache")
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "another machine"))
    assert fovsfe(*command, url).line.endswith(f"fovsfe resume {url}")
    ended = fovsfe("resume", url)
    assert ended.code == 0, ended.err
    assert f"run folder: {url}" in ended.out
    one = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    two = json.loads(system.cat_file(f"{url}/metrics.json"))
    for each in (one, two):
        each.pop("steps")
        each.pop("next_steps")  # the features that tell them were cached on the other machine
    assert one == two
    assert system.cat_file(f"{url}/submission.csv") == (tmp_path / "whole" / "submission.csv").read_bytes()
    assert not system.exists(checkpoint)
    # The bundle can be exported, served and asked from there.
    assert fovsfe("report", url).out == f"report: {url}/report.html\n"
    assert fovsfe("export", url, "--out", f"{bucket}/bundle").code == 0
    ended = fovsfe("predict", f"{bucket}/bundle", photos, "--out", tmp_path / "answers.csv")
    assert ended.code == 0, ended.err
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert len(answers) == 51
    assert answers["photo"].is_unique
    assert answers["photo"][0].startswith(f"{photos}/test-000000.tar/")
