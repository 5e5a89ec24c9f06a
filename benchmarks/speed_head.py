"""How long the head stage takes, beside one pass of the backbone over the photos."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovsfe.learning.device import make_fabric
from fovsfe.learning.features import BATCH, FEATURE_VIEWS, outputs
from fovsfe.learning.training import Task, run_task
from fovsfe.networks.network import build


@dataclass(frozen=True)
class HeadTimes:
    """Seconds."""

    photos: int
    one_pass: float  # the frozen backbone over every photo, in one view
    stage: float  # the whole head stage: features in every view that it caches, then all epochs
    epochs: float  # the epochs alone

    @property
    def ratio(self) -> float:
        """The head stage in passes."""
        return self.stage / self.one_pass


def head_times(task: Task) -> HeadTimes:
    """Times a training that is the head stage alone; the pass is the mean of one before and one after."""
    before = _one_pass(task)
    moments: dict[str, float] = {}

    def note(event: dict[str, Any]) -> None:
        moments[event["doing"]] = time.monotonic()
        moments.setdefault(f"first {event['doing']}", time.monotonic())

    run_task(task, 1, note)
    epochs = moments["epoch"] - moments["features"]
    # The first tick comes when the first batch of the first view is through: add that batch.
    looking = moments["features"] - moments["first features"]
    after = _one_pass(task)
    batches = len(FEATURE_VIEWS) * -(-len(task.photos) // BATCH)
    stage = looking * batches / (batches - 1) + epochs
    return HeadTimes(len(task.photos), (before + after) / 2, stage, epochs)


def _one_pass(task: Task) -> float:
    fabric = make_fabric(1, task.precision)
    network = build(task.member.backbone, task.member.size, task.member.head, task.labels, task.weights)
    network = network.to(fabric.device)
    everyone = np.arange(len(task.photos))
    outputs(fabric, network, network.features, task.photos, everyone[:BATCH], "plain")  # warms up
    start = time.monotonic()
    outputs(fabric, network, network.features, task.photos, everyone, "plain")
    return time.monotonic() - start
