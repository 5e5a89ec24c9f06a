"""A Ray cluster of two machines against one machine: the same networks, trained in how many seconds?

    python -m benchmarks cluster

Trains on drawn photos, in about five minutes on two cores. The result is a ratio within one run: the seconds
of round 1, from the submission of the networks to Ray until the last one is back, with the start of its
processes (goal: 0.6 or less). Each machine is a raylet with one CPU. Both runs must have the same figures.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.paths import RESULTS, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, write_result
from fovsfe import pipeline
from fovsfe.arguments import RunArguments
from fovsfe.files import read_json
from fovsfe.progress import Screen
from fovsfe.recipe import Recipe
from fovsfe.run import Run


def main(argv: Sequence[str]) -> None:
    """Prints the table and writes results/cluster.json. Raises SystemExit if the figures differ."""
    parser = argparse.ArgumentParser("python -m benchmarks cluster", description=__doc__)
    parser.add_argument("--photos-drawn", type=int, default=320)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--networks", type=int, default=6, help="trained in each run, one for each fold")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(argv)
    photos = drawn_photos(options.photos_drawn, 0)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(options.backbone, options.networks, options.epochs)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        one, two = (_train(machines, photos, recipe, Path(folder) / str(machines)) for machines in (1, 2))
    if one["figures"] != two["figures"]:
        raise SystemExit("the two runs ended with different figures")
    seconds = {"one": one["seconds"], "two": two["seconds"]}
    ratio = seconds["two"] / seconds["one"]
    rows = [[name, f"{value:.1f} s"] for name, value in seconds.items()] + [["ratio", f"{ratio:.2f}"]]
    print(markdown_table(["machines", f"{options.networks} networks of {options.backbone}"], rows))
    result = {
        "networks": options.networks,
        "backbone": options.backbone,
        "photos": options.photos_drawn,
        "epochs": options.epochs,
        "seconds": seconds,
        "ratio": ratio,
    }
    write_result(RESULTS / "cluster.json", result)


def _recipe(backbone: str, networks: int, epochs: int) -> Recipe:
    training = {"stages": [1.0], "epochs": epochs, "patience": epochs, "batch_size": 16, "precision": "fp32"}
    members = [{"backbone": backbone, "size": [96, 128]}]
    split = {"folds": networks}
    return Recipe.model_validate({"rounds": 1, "training": training, "members": members, "split": split})


def _train(machines: int, photos: Path, recipe: Recipe, root: Path) -> dict[str, Any]:
    """Trains a run on a cluster of one-CPU machines; returns the seconds of its round, and its figures."""
    from ray.cluster_utils import Cluster

    os.environ |= {"FOVSFE_CACHE": str(root.parent / f"cache-{machines}"), "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster()
    try:
        for _ in range(machines):
            cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
        arguments = RunArguments(photos=str(photos), weights="none", minutes=None)
        pipeline.train(recipe, arguments, str(root), Screen(Console()), cluster.address)
    finally:
        cluster.shutdown()
    metrics = read_json(Run(root).metrics_file)
    seconds = metrics["steps"]["train round 1"]["seconds"]
    return {"seconds": seconds, "figures": (metrics["selected"], metrics["rounds"])}
