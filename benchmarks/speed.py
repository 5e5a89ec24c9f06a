"""The head stage against one pass over the photos, and the training step against a bare loop.

    python -m benchmarks speed
    python -m benchmarks speed --photos PHOTOS --steps 20

Two ratios, each within one run. The head stage of N epochs is divided by one pass of the backbone over all
photos. The training's steps per second, with the photos' file, the augmentation and the training's own loop,
are divided by those of forward, backward and optimiser on tensors in memory (goal: 0.9 or more). The sizes
are those of recipe quick, the weights random. Takes about ten minutes on two cores, with drawn photos.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.paths import RESULTS, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, write_result
from benchmarks.speed_head import HeadTimes, time_head_stage
from benchmarks.speed_step import StepTimes, time_steps
from benchmarks.speed_task import build_speed_tasks
from fovsfe.machine import keep_freed_memory

BACKBONES = ("mobilenetv2_100", "densenet169")


def main(argv: Sequence[str]) -> None:
    """Prints both tables and writes results/speed.json."""
    parser = argparse.ArgumentParser("python -m benchmarks speed", description=__doc__)
    parser.add_argument("--photos", type=Path, help="instead of drawn ones")
    parser.add_argument("--photos-drawn", type=int, default=320)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--head-epochs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=8, help="that are timed in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each of the two loops")
    options = parser.parse_args(argv)
    keep_freed_memory()  # as a run does
    photos = options.photos or drawn_photos(options.photos_drawn, 0)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    heads, steps = {}, {}
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        for backbone in options.backbones:
            tasks = build_speed_tasks(photos, backbone, Path(folder))
            heads[backbone] = time_head_stage(tasks.head(options.head_epochs))
            steps[backbone] = time_steps(tasks, options.steps, options.repeats)
    print(_head_table(heads, options.head_epochs))
    print(_step_table(steps))
    write_result(
        RESULTS / "speed.json",
        {
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
    return markdown_table(header, rows)


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
    return markdown_table(header, rows)
