"""Whether a recipe's networks train on XLA: seconds to compile, seconds a step, graphs after the first step.

    make test-tpu; PYTHONPATH=src PJRT_DEVICE=CPU .venv-tpu/bin/python -m benchmarks xla

Trains the whole of each network (the largest graph) by our own training code on a few photos of noise, at a
share of its size. On XLA's CPU device it says that a network compiles and steps, not how fast a TPU is; on a
TPU, without PJRT_DEVICE, it says both. Ten minutes.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.places import RESULTS
from benchmarks.results import machine, markdown
from fovsfe.files import write_json
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings, Recipe, load_recipe
from fovsfe.training.device import accelerator
from fovsfe.training.loop import TrainingTask, train_network

LEARN, JUDGE, LABELS = 12, 2, 2


class Noise(ResizedPhotos):
    """Photos of noise, of no file."""

    def __getitem__(self, index: int) -> Any:
        return np.random.default_rng(index).integers(0, 256, (*self.size, 3), dtype=np.uint8)


def main(flags: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="twas")
    parser.add_argument("--share", type=float, default=0.5, help="of a network's height and width")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    chosen = parser.parse_args(flags)
    if accelerator() != "tpu":
        parser.error("there is no torch_xla with a TPU here; PJRT_DEVICE=CPU takes XLA's CPU device")
    rows = []
    for member in load_recipe(chosen.recipe).members:
        rows.append(_measured(member, chosen.share, chosen.batch, chosen.precision))
        print(rows[-1], flush=True)
    write_json(RESULTS / "xla.json", {"machine": machine(), "batch": chosen.batch, "networks": rows})
    print(markdown(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))


def _measured(member: MemberSettings, share: float, batch: int, precision: str) -> dict[str, Any]:
    from torch_xla.debug import metrics

    size = (round(share * member.size[0]), round(share * member.size[1]))
    member = member.model_copy(update={"size": size, "batch_size": batch})
    seen: list[tuple[float, int]] = []

    def show(event: dict[str, Any]) -> None:
        if event["doing"] == "step":
            seen.append((time.perf_counter(), metrics.counter_value("UncachedCompile") or 0))

    with TemporaryDirectory() as folder:
        train_network(_task(Path(folder), member, precision), 1, show)
    (begun, _), (compiled, graphs) = seen[:2]  # the first step is done when the second begins
    steps = np.diff([moment for moment, _ in seen[1:]])
    return {
        "network": member.backbone,
        "size": f"{size[0]}x{size[1]}",
        "precision": precision,
        "compiling and first step, s": round(compiled - begun, 1),
        "a step, s": round(float(np.median(steps)), 2),
        "graphs after the first step": seen[-1][1] - graphs,
    }


def _task(folder: Path, member: MemberSettings, precision: str) -> TrainingTask:
    recipe = Recipe.model_validate(
        {
            "augment": {"strength": "none"},
            "training": {"stages": [1.0], "epochs": 1},
            "ensemble": {"tta": []},
            "members": [member.model_dump()],
        }
    )
    train_idx, val_idx = np.arange(LEARN), np.arange(LEARN, LEARN + JUDGE)
    return TrainingTask(
        folder=folder / "network",
        member=member,
        recipe=recipe,
        weights="none",
        num_classes=LABELS,
        photos=Noise(folder, [""] * (LEARN + JUDGE), member.size, "pad", 1),
        train_idx=train_idx,
        targets=np.eye(LABELS, dtype=np.float32)[train_idx % LABELS],
        val_idx=val_idx,
        y_true=val_idx % LABELS,
        test_idx=np.arange(0),
        features=folder / "features.bin",
        precision=precision,
        seed=0,
    )
