"""The head stage against one pass over the photos, and the training step against a bare loop.

    python -m benchmarks speed                           # drawn photos, about ten minutes on two cores
    python -m benchmarks speed --photos PHOTOS --steps 20

Two ratios, each within one run. The head stage of N epochs against one look of the backbone at every photo,
and the training steps a second through the photos' file, the augmentation and the training's own loop against
forward, backward and optimiser on tensors in memory (goal: 0.9 or more). Recipe quick's sizes, no weights.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.places import RESULTS, SCRATCH, drawn
from benchmarks.results import machine, markdown
from benchmarks.speed_head import HeadTimes, head_times
from benchmarks.speed_step import StepTimes, step_times
from benchmarks.speed_task import tasks_of
from fovsfe.files import write_json
from fovsfe.training.device import tune_malloc

BACKBONES = ("mobilenetv2_100", "densenet169")


def main(flags: Sequence[str]) -> None:
    """Prints both tables; writes results/speed.json."""
    parser = argparse.ArgumentParser("python -m benchmarks speed", description=__doc__)
    parser.add_argument("--photos", type=Path, help="instead of drawn ones")
    parser.add_argument("--photos-drawn", type=int, default=320)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--head-epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=8, help="so many steps are timed at a time")
    parser.add_argument("--repeats", type=int, default=3, help="times that the two loops take turns")
    given = parser.parse_args(flags)
    tune_malloc()  # as a run does
    photos = given.photos or drawn(given.photos_drawn, 0)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    heads, steps = {}, {}
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        for backbone in given.backbones:
            tasks = tasks_of(photos, backbone, Path(folder))
            heads[backbone] = head_times(tasks.head(given.head_epochs))
            steps[backbone] = step_times(tasks, given.steps, given.repeats)
    print(_head_table(heads, given.head_epochs))
    print(_step_table(steps))
    write_json(
        RESULTS / "speed.json",
        {
            "machine": machine(),
            "head": {name: asdict(times) | {"ratio": times.ratio} for name, times in heads.items()},
            "step": {name: asdict(times) | {"ratio": times.ratio} for name, times in steps.items()},
        },
    )


def _head_table(heads: dict[str, HeadTimes], epochs: int) -> str:
    header = ("", "photos", "one pass s", f"{epochs} epochs s", "epochs / pass", "stage s", "stage / pass")
    rows = [
        (
            name,
            f"{times.photos}",
            f"{times.one_pass:.2f}",
            f"{times.epochs:.2f}",
            f"{times.epochs / times.one_pass:.3f}",
            f"{times.stage:.2f}",
            f"{times.ratio:.2f}",
        )
        for name, times in heads.items()
    ]
    return markdown(header, rows)


def _step_table(steps: dict[str, StepTimes]) -> str:
    header = ("", "batch", "precision", "bare steps/s", "our steps/s", "ratio", "of each turn")
    rows = [
        (
            name,
            f"{times.batch}",
            times.precision,
            f"{1 / statistics.median(times.bare):.3f}",
            f"{1 / statistics.median(times.ours):.3f}",
            f"{times.ratio:.3f}",
            ", ".join(f"{ratio:.3f}" for ratio in times.ratios),
        )
        for name, times in steps.items()
    ]
    return markdown(header, rows)
