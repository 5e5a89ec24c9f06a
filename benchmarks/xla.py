"""A recipe's networks on XLA: seconds to compile, seconds per step, graphs compiled after the first step.

    PJRT_DEVICE=CPU python -m benchmarks xla

Installs torch_xla, which goes with a torch of its own, into an environment of its own. Trains all layers of
each network, which is the largest graph, with the training's own code on a few photos of noise, at half the
network's size. On XLA's CPU device the result shows that a network compiles and trains, not how fast a TPU
is; on a TPU, without PJRT_DEVICE, it shows both. Takes ten minutes.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.paths import RESULTS, ROOT
from benchmarks.peers_environment import python_of
from benchmarks.results import markdown_table, write_result
from fovsfe.arrays import Pixels
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings, Recipe, load_recipe
from fovsfe.training import xla
from fovsfe.training.launch import train_network
from fovsfe.training.task import Event, NetworkKey, TrainingTask

TRAIN_PHOTOS, VAL_PHOTOS, NUM_CLASSES = 12, 2, 2


class NoisePhotos(ResizedPhotos):
    """Photos of random noise, which need no files."""

    def __getitem__(self, index: int) -> Pixels:
        return np.random.default_rng(index).integers(0, 256, (*self.size, 3), dtype=np.uint8)


def main(argv: Sequence[str]) -> None:
    """Prints one row per network and writes results/xla.json."""
    parser = argparse.ArgumentParser("python -m benchmarks xla", description=__doc__)
    parser.add_argument("--recipe", default="twas")
    parser.add_argument("--scale", type=float, default=0.5, help="of each network's height and width")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    options = parser.parse_args(argv)
    if not find_spec("torch_xla"):
        program = python_of("xla", "XLA")
        if program is None:
            sys.exit(1)
        sys.exit(subprocess.run([program, "-m", "benchmarks", "xla", *argv], cwd=ROOT).returncode)
    if not xla.is_available():
        parser.error("there is no TPU here; PJRT_DEVICE=CPU takes XLA's CPU device")
    rows = []
    for member in load_recipe(options.recipe).members:
        rows.append(_measure(member, options.scale, options.batch, options.precision))
        print(rows[-1], flush=True)
    write_result(RESULTS / "xla.json", {"batch": options.batch, "networks": rows})
    print(markdown_table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))


def _measure(member: MemberSettings, scale: float, batch: int, precision: str) -> dict[str, Any]:
    from torch_xla.debug import metrics

    size = (round(scale * member.size[0]), round(scale * member.size[1]))
    member = member.model_copy(update={"size": size, "batch_size": batch})
    steps: list[tuple[float, int]] = []  # of each: its start in seconds, and the graphs compiled until then

    def on_event(event: Event) -> None:
        if event["type"] == "step":
            steps.append((time.perf_counter(), metrics.counter_value("UncachedCompile") or 0))

    with TemporaryDirectory() as folder:
        train_network(_build_task(Path(folder), member, precision), on_event)
    (first, _), (second, graphs) = steps[:2]  # the first step is done when the second begins
    seconds = np.diff([moment for moment, _ in steps[1:]])
    return {
        "network": member.backbone,
        "size": f"{size[0]}x{size[1]}",
        "precision": precision,
        "compiling and first step, s": round(second - first, 1),
        "a step, s": round(float(np.median(seconds)), 2),
        "graphs after the first step": steps[-1][1] - graphs,
    }


def _build_task(folder: Path, member: MemberSettings, precision: str) -> TrainingTask:
    recipe = Recipe.model_validate(
        {
            "augment": {"strength": "none"},
            "training": {"stages": [1.0], "epochs": 1},
            "ensemble": {"tta": []},
            "members": [member.model_dump()],
        }
    )
    train_idx, val_idx = np.arange(TRAIN_PHOTOS), np.arange(TRAIN_PHOTOS, TRAIN_PHOTOS + VAL_PHOTOS)
    return TrainingTask(
        key=NetworkKey(folder, 1, 0, 0),
        name=member.unique_name,
        folder=folder / "network",
        member=member,
        recipe=recipe,
        weights="none",
        num_classes=NUM_CLASSES,
        photos=NoisePhotos(folder, [""] * (TRAIN_PHOTOS + VAL_PHOTOS), member.size, "pad", 1),
        train_idx=train_idx,
        targets=np.eye(NUM_CLASSES, dtype=np.float32)[train_idx % NUM_CLASSES],
        val_idx=val_idx,
        y_true=val_idx % NUM_CLASSES,
        test_idx=np.arange(0),
        groups=np.arange(TRAIN_PHOTOS + VAL_PHOTOS),
        photo_cache=folder / "photos.bin",
        feature_cache=folder / "features.bin",
        precision=precision,
        seed=0,
    )
