"""How long the head stage takes, beside one pass of the backbone over the photos."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovsfe.networks.network import build_network
from fovsfe.training.device import make_fabric
from fovsfe.training.features import BATCH, predict_outputs
from fovsfe.training.loop import TrainingTask, train_network


@dataclass(frozen=True)
class HeadTimes:
    """Seconds."""

    photos: int
    one_pass: float  # the frozen backbone over every photo, in one view
    stage: float  # the whole head stage: features, plain and mirrored, then all epochs
    epochs: float  # the epochs alone

    @property
    def ratio(self) -> float:
        """The head stage in passes."""
        return self.stage / self.one_pass


def head_times(task: TrainingTask) -> HeadTimes:
    """Times a training that is the head stage alone; the pass is the mean of one before and one after."""
    before = _one_pass(task)
    looks: list[float] = []
    epochs: list[float] = []

    def note(event: dict[str, Any]) -> None:
        (looks if event["doing"] == "features" else epochs).append(time.monotonic())

    train_network(task, 1, note)
    # The first moment comes when the first batch is through: add that batch.
    looking = (looks[-1] - looks[0]) * len(looks) / (len(looks) - 1)
    learning = epochs[-1] - looks[-1]
    after = _one_pass(task)
    return HeadTimes(len(task.photos), (before + after) / 2, looking + learning, learning)


def _one_pass(task: TrainingTask) -> float:
    fabric = make_fabric(1, task.precision)
    network = build_network(
        task.member.backbone, task.member.size, task.member.head, task.num_classes, task.weights
    )
    network = network.to(fabric.device)
    everyone = np.arange(len(task.photos))
    predict_outputs(fabric, network, network.features, task.photos, everyone[:BATCH], "plain")  # warms up
    start = time.monotonic()
    predict_outputs(fabric, network, network.features, task.photos, everyone, "plain")
    return time.monotonic() - start
