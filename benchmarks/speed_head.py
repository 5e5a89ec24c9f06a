"""How long the head stage takes, compared with one pass of the backbone over the photos."""

import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from fovsfe.networks.network import Network, build_network
from fovsfe.training.device import PREDICTION_BATCH
from fovsfe.training.features import predict_logits
from fovsfe.training.launch import best_device, train_network
from fovsfe.training.task import Event, TrainingTask


@dataclass(frozen=True)
class HeadTimes:
    """Times in seconds."""

    photos: int
    one_pass: float
    """the frozen backbone over every photo, in one variant"""
    stage: float
    """the whole head stage: features, plain and mirrored, then all epochs"""
    epochs: float
    """the epochs alone"""

    @property
    def ratio(self) -> float:
        """The head stage in passes."""
        return self.stage / self.one_pass


def time_head_stage(task: TrainingTask) -> HeadTimes:
    """Times a training that is the head stage alone; the pass is the mean of one before and one after."""
    pass_before = _time_one_pass(task)
    moments: dict[str, list[float]] = {"features": [], "epoch": []}

    def on_event(event: Event) -> None:
        moments[event["type"]].append(time.monotonic())

    train_network(task, on_event)
    features, epochs = moments["features"], moments["epoch"]
    # The first moment is the end of the first batch, which has to be added.
    feature_seconds = (features[-1] - features[0]) * len(features) / (len(features) - 1)
    epoch_seconds = epochs[-1] - features[-1]
    pass_after = _time_one_pass(task)
    one_pass = (pass_before + pass_after) / 2
    return HeadTimes(len(task.photos), one_pass, feature_seconds + epoch_seconds, epoch_seconds)


class _Features(nn.Module):
    """What a network does before its head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, photos: Tensor) -> Tensor:
        return self.network.features(photos)


def _time_one_pass(task: TrainingTask) -> float:
    device, member = best_device(task.precision), task.member
    network = device.move(
        build_network(member.backbone, member.size, member.head, task.num_classes, task.weights)
    )
    all_idx = np.arange(len(task.photos))
    warm_up_idx = all_idx[:PREDICTION_BATCH]
    predict_logits(device, _Features(network), task.photos, warm_up_idx, "plain")
    start = time.monotonic()
    predict_logits(device, _Features(network), task.photos, all_idx, "plain")
    return time.monotonic() - start
