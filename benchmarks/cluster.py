"""Two machines of a Ray cluster, one thread each, against one of them: the same networks to train.

    python -m benchmarks cluster                         # drawn photos, about five minutes on two cores

A ratio within one run: the seconds of round 1, from handing the networks to Ray until the last one is back,
with the start of the workers in them (goal: 0.6 or less). Each machine is a raylet of its own with one CPU.
Both runs must end with the same figures.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.places import RESULTS, SCRATCH, drawn
from benchmarks.results import machine, markdown
from fovsfe import pipeline
from fovsfe.context import RunArguments
from fovsfe.files import read_json, write_json
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe
from fovsfe.run import Run


def main(flags: Sequence[str]) -> None:
    """Prints the table; writes results/cluster.json. Raises SystemExit where the figures differ."""
    parser = argparse.ArgumentParser("python -m benchmarks cluster", description=__doc__)
    parser.add_argument("--photos-drawn", type=int, default=320)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--networks", type=int, default=6, help="trained in each run, as so many folds")
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args(flags)
    photos = drawn(given.photos_drawn, 0)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    settings = _recipe(given.backbone, given.networks, given.epochs)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        one, two = (_run(count, photos, settings, Path(folder) / str(count)) for count in (1, 2))
    if one["figures"] != two["figures"]:
        raise SystemExit("the runs have other figures")
    seconds = {"one": one["seconds"], "two": two["seconds"]}
    ratio = seconds["two"] / seconds["one"]
    rows = [[name, f"{value:.1f} s"] for name, value in seconds.items()] + [["ratio", f"{ratio:.2f}"]]
    print(markdown(["machines", f"{given.networks} networks of {given.backbone}"], rows))
    facts = {"machine": machine(), "networks": given.networks, "backbone": given.backbone}
    facts |= {"photos": given.photos_drawn, "epochs": given.epochs}
    write_json(RESULTS / "cluster.json", facts | {"seconds": seconds, "ratio": ratio})


def _recipe(backbone: str, networks: int, epochs: int) -> Recipe:
    training = {"stages": [1.0], "epochs": epochs, "patience": epochs, "batch_size": 16, "precision": "fp32"}
    members = [{"backbone": backbone, "size": [96, 128]}]
    split = {"folds": networks}
    return Recipe.model_validate({"rounds": 1, "training": training, "members": members, "split": split})


def _run(count: int, photos: Path, settings: Recipe, root: Path) -> dict[str, Any]:
    """A run on `count` machines of one CPU: the seconds of its round, and its figures."""
    from ray.cluster_utils import Cluster

    from fovsfe.executors.ray_executor import ray_executor

    os.environ |= {"FOVSFE_CACHE": str(root.parent / f"cache-{count}"), "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Cluster()
    try:
        for _ in range(count):
            nodes.add_node(num_cpus=1, object_store_memory=200 << 20)
        with ray_executor(nodes.address, str(root)) as machines:
            command = RunArguments(photos=str(photos), weights="none", minutes=None, devices=1)
            pipeline.start(command, settings, root, Screen(Console()), machines)
    finally:
        nodes.shutdown()
    metrics = read_json(Run(root).metrics)
    seconds = metrics["steps"]["train round 1"]["seconds"]
    return {"seconds": seconds, "figures": (metrics["chosen"], metrics["rounds"])}
