"""How long a training step takes, beside a bare loop over tensors that are in memory."""

import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.speed_task import Tasks
from fovsfe.networks.layers import parameter_groups, set_train_mode, unfreeze_stage
from fovsfe.networks.network import build_network
from fovsfe.training.device import make_fabric
from fovsfe.training.loop import TrainingTask, train_network

BATCHES = 4  # in memory


@dataclass(frozen=True)
class StepTimes:
    """Mean seconds a step, turn by turn."""

    batch: int
    precision: str
    bare: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Our rate in parts of the bare one, turn by turn."""
        return tuple(bare / ours for bare, ours in zip(self.bare, self.ours, strict=True))

    @property
    def ratio(self) -> float:
        """The middle one."""
        return statistics.median(self.ratios)


def step_times(tasks: Tasks, steps: int, repeats: int) -> StepTimes:
    """The bare loop and the training take turns, so that a machine that slows down slows both."""
    task = tasks.whole("step")
    batch = task.member.batch_size or task.recipe.training.batch_size
    bare_loop = _Bare(task, batch)
    bare, ours = [], []
    for turn in range(repeats):
        bare.append(bare_loop.seconds(steps))
        ours.append(_seconds(tasks.whole(f"step-{turn}"), steps))
    return StepTimes(batch, task.precision, tuple(bare), tuple(ours))


class _Bare:
    """Forward, backward, optimiser, and nothing else."""

    def __init__(self, task: TrainingTask, batch: int) -> None:
        self.fabric, settings = make_fabric(1, task.precision), task.recipe.training
        device = self.fabric.device
        member = task.member
        self.network = build_network(
            member.backbone, member.size, member.head, task.num_classes, task.weights
        ).to(device)
        unfreeze_stage(self.network, 1.0)
        groups = parameter_groups(self.network, settings.lr, settings.layer_decay, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups)
        some = np.resize(np.arange(len(task.train_idx)), (BATCHES, batch))
        self.batches = [
            (
                torch.from_numpy(np.stack([task.photos[int(task.train_idx[i])] for i in rows])).to(device),
                torch.from_numpy(task.targets[rows]).to(device),
            )
            for rows in some
        ]

    def seconds(self, steps: int) -> float:
        """Mean seconds a step, after one that is not counted."""
        set_train_mode(self.network)
        for number, (photos, targets) in enumerate(islice(cycle(self.batches), steps + 1)):
            with self.fabric.autocast():
                loss = nn.functional.cross_entropy(self.network(photos), targets)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if number == 0:
                loss.item()
                start = time.monotonic()
        loss.item()  # waits for the device
        return (time.monotonic() - start) / steps


def _seconds(task: TrainingTask, steps: int) -> float:
    """Mean seconds a step of the training's own loop, over at most `steps` steps after the first."""
    moments: list[float] = []

    def note(event: dict[str, Any]) -> None:
        if event["doing"] == "step" and len(moments) <= steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            moments.append(time.monotonic())

    train_network(task, 1, note)
    if len(moments) < 2:
        raise RuntimeError(f"{len(task.train_idx)} photos are too few to time an epoch")
    return (moments[-1] - moments[0]) / (len(moments) - 1)
