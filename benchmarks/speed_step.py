"""How long a training step takes, compared with a bare loop over tensors that are in memory."""

import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from torch import nn

from benchmarks.speed_task import SpeedTasks
from fovsfe.errors import FovsfeError
from fovsfe.networks.layers import parameter_groups, set_train_mode, unfreeze_layers
from fovsfe.networks.network import build_network
from fovsfe.training.launch import best_device, train_network
from fovsfe.training.task import Event, TrainingTask

BATCHES_IN_MEMORY = 4


@dataclass(frozen=True)
class StepTimes:
    """Mean seconds per step, one figure for each turn."""

    batch: int
    precision: str
    bare: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Our steps per second divided by the bare loop's, turn by turn."""
        return tuple(bare / ours for bare, ours in zip(self.bare, self.ours, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def time_steps(tasks: SpeedTasks, steps: int, repeats: int) -> StepTimes:
    """Times the bare loop and the training in turn, so that a machine that slows down slows both."""
    task = tasks.all_layers("step")
    bare_loop = _BareLoop(task)
    bare, ours = [], []
    for turn in range(repeats):
        bare.append(bare_loop.seconds_per_step(steps))
        ours.append(_seconds_per_step(tasks.all_layers(f"step-{turn}"), steps))
    return StepTimes(task.batch_size, task.precision, tuple(bare), tuple(ours))


class _BareLoop:
    """Forward, backward, optimiser, and nothing else."""

    def __init__(self, task: TrainingTask) -> None:
        settings, member = task.recipe.training, task.member
        self.device = best_device(task.precision)
        torch_device = self.device.fabric.device
        self.network = self.device.move(
            build_network(member.backbone, member.size, member.head, task.num_classes, task.weights)
        )
        unfreeze_layers(self.network, 1.0)
        groups = parameter_groups(self.network, settings.lr, settings.layer_decay, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups)
        batches = np.resize(np.arange(len(task.train_idx)), (BATCHES_IN_MEMORY, task.batch_size))
        self.batches = [
            (
                torch.from_numpy(np.stack([task.photos[int(i)] for i in task.train_idx[rows]])).to(
                    torch_device
                ),
                torch.from_numpy(task.targets[rows]).to(torch_device),
            )
            for rows in batches
        ]

    def seconds_per_step(self, steps: int) -> float:
        """Returns the mean over `steps` steps, after one that is not counted."""
        set_train_mode(self.network)
        for index, (photos, targets) in enumerate(islice(cycle(self.batches), steps + 1)):
            with self.device.autocast():
                loss = nn.functional.cross_entropy(self.network(photos), targets)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if index == 0:
                loss.item()
                start = time.monotonic()
        loss.item()  # waits for the device
        return (time.monotonic() - start) / steps


def _seconds_per_step(task: TrainingTask, steps: int) -> float:
    """Returns the mean of the training's own loop over at most `steps` steps after the first."""
    moments: list[float] = []

    def on_event(event: Event) -> None:
        if event["type"] == "step" and len(moments) <= steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            moments.append(time.monotonic())

    train_network(task, on_event)
    if len(moments) < 2:
        raise FovsfeError(f"{len(task.train_idx)} photos are too few to time an epoch")
    return (moments[-1] - moments[0]) / (len(moments) - 1)
