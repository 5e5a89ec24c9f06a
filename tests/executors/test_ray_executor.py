"""executors.ray_executor: a run on a cluster ends as one on this machine does, also if machines are lost."""

import io
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from PIL import Image, ImageColor
from rich.console import Console

from fovsfe import pipeline
from fovsfe.arguments import RunArguments
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run
from fovsfe.synthetic.dataset import CLASS_NAMES, draw_dataset

pytest.importorskip("ray")

PROGRAM = "from fovsfe.cli import main; main()"


def recipe(epochs=2, **changes):
    training = {
        "stages": [0, 1.0],
        "head_epochs": 10,
        "head_lr": 0.03,
        "epochs": epochs,
        "batch_size": 16,
        "lr": 3e-3,
        "precision": "fp32",
        "patience": epochs,
    }
    members = [
        {"backbone": "test_resnet", "size": [48, 64]},
        {"backbone": "test_efficientnet", "size": [48, 64]},
    ]
    settings = {"rounds": 2, "training": training, "pseudo_labels": {"keep": "all"}, "members": members}
    return Recipe.model_validate(settings | changes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten labels of six photos and ten test photos, each label in a colour of its own."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    y_true = draw_dataset(folder, 6, 10, 0)
    for file in folder.rglob("*.jpg"):
        label = CLASS_NAMES.index(y_true[file.name]) if file.name in y_true else int(file.parent.name)
        with Image.open(file) as photo:
            colour = ImageColor.getrgb(f"hsl({36 * label}, 100%, {35 if label % 2 else 65}%)")
            Image.blend(photo.convert("RGB"), Image.new("RGB", photo.size, colour), 0.5).save(file)
    return folder


@pytest.fixture
def one_thread():
    """As a task with one CPU has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arguments(photos, minutes=None):
    return RunArguments(photos=str(photos), weights="none", minutes=minutes)


def screen():
    return Screen(Console(file=io.StringIO(), width=80))


def said(of):
    return of.console.file.getvalue()


def figures(root):
    """metrics.json without the seconds."""
    return {
        key: value for key, value in json.loads(Run(root).metrics_file.read_text()).items() if key != "steps"
    }


def epochs(root):
    lines = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    return [(e["network"], e["layer_share"], e["epoch"]) for e in lines if e["event"] == "epoch"]


# ---- runs


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory):
    """The same run without a cluster."""
    root = tmp_path_factory.mktemp("alone") / "run"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pipeline.train(recipe(), arguments(photos), str(root), screen())
    torch.set_num_threads(before)
    return root


def test_a_run_on_a_cluster_ends_as_one_without(alone, photos, tmp_path, ray_cluster, fovsfe, one_thread):
    nodes, _ = ray_cluster(1, 1)
    (tmp_path / "mine.toml").write_text(to_toml(recipe()))
    root = tmp_path / "run"
    options = ("--recipe", tmp_path / "mine.toml", "--weights", "none", "--out", root)
    ended = fovsfe("train", photos, *options, "--cluster", nodes.address)
    assert ended.code == 0, ended.err
    assert figures(root) == figures(alone)
    assert sorted(epochs(root)) == sorted(epochs(alone))
    assert Run(root).submission_file.read_bytes() == Run(alone).submission_file.read_bytes()
    assert "training 2 networks on the cluster (2 of 4 are trained)" in ended.out
    assert "test_resnet, round 2: done" in ended.out
    nothing_left = not [p for p in (tmp_path / "fovsfe-cache" / "nodes").rglob("*") if p.suffix != ".lock"]
    assert nothing_left


@pytest.mark.slow
def test_a_machine_lost_in_a_run_in_a_bucket_costs_at_most_an_epoch(
    photos, bucket, tmp_path, ray_cluster, kill, one_thread
):
    """Three machines, twelve networks; what ends is the same run to the last digit."""
    nodes, (*_, lost) = ray_cluster(1, 1, 1)
    settings = recipe(epochs=8, split={"folds": 3})
    pipeline.train(settings, arguments(photos), str(tmp_path / "alone"), screen())
    seen = screen()
    stop = threading.Event()

    def strike():
        while said(seen).count("  test_") < 4 and not stop.is_set():
            time.sleep(0.05)
        kill(lost)

    url = f"{bucket}/run"
    striker = threading.Thread(target=strike)
    striker.start()
    try:
        run = pipeline.train(settings, arguments(photos), url, seen, nodes.address)
    finally:
        stop.set()
        striker.join()
    assert figures(run.root) == figures(tmp_path / "alone")
    assert sorted(epochs(run.root)) == sorted(epochs(tmp_path / "alone"))
    begun = said(seen).count(": on ")
    print(said(seen))
    assert begun == 12 + 1, said(seen)  # every network, and one of them once more


@pytest.mark.slow
def test_stopped_by_ctrl_c_a_run_goes_on_without_a_cluster(photos, tmp_path, ray_cluster, fovsfe, one_thread):
    nodes, _ = ray_cluster(1, 1)
    settings, root = recipe(epochs=12, rounds=1), tmp_path / "run"
    pipeline.train(settings, arguments(photos), str(tmp_path / "alone"), screen())
    (tmp_path / "mine.toml").write_text(to_toml(settings))
    train = ["train", photos, "--recipe", tmp_path / "mine.toml", "--weights", "none", "--out", root]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, train), "--cluster", nodes.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in program.stdout:
        if line.startswith("  test_"):
            program.send_signal(signal.SIGINT)
            break
    _, err = program.communicate(timeout=120)
    assert program.returncode == 1
    assert err.splitlines()[-1] == f"fovsfe: stopped; continue with: fovsfe resume {root}"
    assert any(root.rglob("checkpoint.pt"))
    assert fovsfe("resume", root).code == 0
    assert figures(root) == figures(tmp_path / "alone")


def test_what_ends_one_network_ends_the_run_in_a_line(photos, tmp_path, ray_cluster, fovsfe):
    nodes, _ = ray_cluster(1)
    settings = recipe(rounds=1).model_copy(update={"members": recipe().members[:1]})
    (tmp_path / "mine.toml").write_text(to_toml(settings))
    train = [
        "train",
        photos,
        "--recipe",
        tmp_path / "mine.toml",
        "--weights",
        tmp_path,
        "--cluster",
        nodes.address,
    ]
    ended = fovsfe(*train, "--out", tmp_path / "run")
    assert ended.code == 1
    assert str(tmp_path) in ended.line


@pytest.mark.slow
def test_the_minutes_hold_on_a_cluster_too(photos, tmp_path, ray_cluster):
    """Endless epochs, three networks for two machines: what is over at the deadline counts."""
    nodes, _ = ray_cluster(1, 1)
    settings = recipe(
        epochs=1000, rounds=1, split={"folds": 3}, members=[{"backbone": "test_resnet", "size": [48, 64]}]
    )
    root, began = tmp_path / "run", time.monotonic()
    pipeline.train(settings, arguments(photos, minutes=2.5), str(root), screen(), nodes.address)
    assert 60 < time.monotonic() - began < 150
    networks = [file.parent for file in root.rglob("result.json")]
    assert len(networks) == 3
    assert min(len((each / "history.csv").read_text().splitlines()) for each in networks) > 12
