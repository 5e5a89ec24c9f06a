"""A run to make tasks of; and Ray clusters on this machine: real raylets."""

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe.arguments import RunArguments
from fovsfe.context import RunContext
from fovsfe.files import write_json, write_text
from fovsfe.photos.manifest import ListingFacts, write_facts, write_manifest
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def ray_cluster(tmp_path, monkeypatch) -> Iterator[Callable]:
    """Starts a cluster of machines with so many CPUs each; gives it and its machines."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "fovsfe-cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started = []

    def start(*cpus):
        cluster = cluster_utils.Cluster()
        started.append(cluster)
        options = {"object_store_memory": 150 << 20, "include_dashboard": False}
        return cluster, [cluster.add_node(num_cpus=count, **options) for count in cpus]

    yield start
    for cluster in started:
        cluster.shutdown()


@pytest.fixture
def kill() -> Callable:
    """Ends a machine: its raylet and everything that it started, at once."""

    def kill(machine):
        (raylet,) = [info.process.pid for info in machine.all_processes["raylet"]]
        found = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=False)
        for pid in [raylet, *map(int, found.stdout.split())]:
            os.kill(pid, signal.SIGKILL)

    return kill


@pytest.fixture
def context(tmp_path):
    """A run of two members on two folds that has photos, facts and pseudo-labels, and no network yet."""
    random, root = np.random.default_rng(0), tmp_path / "photos"
    rows = []
    for index in range(12):
        split, label = ("train", "ab"[index % 2]) if index < 9 else ("test", "")
        file = root / split / label / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(file)
        path, fold = file.relative_to(root).as_posix(), index // 2 % 2 if split == "train" else -1
        row = {"id": file.name, "path": path, "split": split, "label": label, "group": index, "fold": fold}
        rows.append(row | {"fault": "truncated" if index == 8 else "", "width": 16, "height": 12})
        content = file.read_bytes()
        rows[-1] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    members = [{"backbone": f"test_{name}", "size": [48, 64]} for name in ("resnet", "efficientnet")]
    recipe = Recipe.model_validate({"rounds": 2, "split": {"folds": 2}, "members": members})
    run = Run(tmp_path / "run")
    write_text(run.recipe_file, to_toml(recipe))
    arguments = RunArguments(photos=str(root), weights="none", minutes=None)
    write_json(run.arguments_file, arguments.model_dump())
    names = ("a", "b")
    facts = ListingFacts(
        root=str(root),
        layout="class folders",
        class_names=names,
        label_ids={name: name for name in names},
        sample_columns=None,
        sample_rows=(),
    )
    write_facts(run.dataset_file, facts)
    write_manifest(run.manifest_file, pd.DataFrame(rows))
    probabilities = [0.1, 1 / 3, 0.7]
    pseudo = [
        (fold, f"{9 + i}.png", "ab"[p < 0.5], max(p, 1 - p), p, 1 - p)
        for fold in (0, 1)
        for i, p in enumerate(probabilities)
    ]
    columns = ["fold", "id", "label", "confidence", "p:a", "p:b"]
    pd.DataFrame(pseudo[:-1], columns=columns).to_csv(run.pseudo_labels_file, index=False)
    return RunContext.open(run)
