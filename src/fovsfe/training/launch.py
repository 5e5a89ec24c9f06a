"""Trains one network on the best device here, from its first stage to its results."""

import math
import time
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fovsfe.errors import FovsfeError
from fovsfe.networks.layers import set_train_mode, unfreeze_layers
from fovsfe.networks.network import Network, build_network
from fovsfe.recipe import MemberSettings
from fovsfe.training import xla
from fovsfe.training.checkpoint import load_checkpoint, save_checkpoint
from fovsfe.training.device import FABRIC_PRECISION, Device
from fovsfe.training.distributed import ProcessGroup
from fovsfe.training.features import Features, frozen_features, predict_logits
from fovsfe.training.results import write_results
from fovsfe.training.schedule import share_deadline
from fovsfe.training.stages import NetworkTraining, fit_frozen_head, train_head, train_layers
from fovsfe.training.task import Event, OnEvent, TrainingTask

HEAD_SECONDS = 2.0  # that a head is trained also when time is up: untrained, it would spoil every blend
PRECISION_PHOTOS = 4
HOPELESS = 5.0  # times as slow as another precision, in its first step: it is not measured any longer


def train_network(task: TrainingTask, on_event: OnEvent, process_group: ProcessGroup | None = None) -> None:
    """Trains the task's network and leaves, in its folder: network.safetensors, history.csv, predictions.npz
    (val and test, float32 (tta, n, classes); val_features, float16 (n, width), of plain photos) and, last,
    result.json.

    A training that was interrupted is resumed from its checkpoint.

    Args:
        process_group: processes that train the network together, each of which calls this.

    Raises:
        FovsfeError: as `build_network` does, the training diverged, the folder cannot be written, or another
            process of the group failed.
    """
    device = best_device(task.precision, process_group)
    work = partial(_train, device, task, on_event if device.is_first else _ignore)
    if process_group is None:
        device.run(work)
    else:
        process_group.run_together(partial(device.run, work))


def cache_features(task: TrainingTask, on_event: OnEvent) -> None:
    """Writes the feature cache that `train_network` would write, unless the training is past it."""
    if 0 in task.stages and not task.checkpoint.exists():
        device = best_device(task.precision)
        _frozen_features(device, task, _build(device, task), on_event)


def best_device(precision: str, process_group: ProcessGroup | None = None) -> Device:
    """Returns the best device here: a TPU, a GPU, or the CPU. Raises FovsfeError as `Device` does."""
    kind = xla.XlaDevice if xla.is_available() else Device
    return kind(precision, process_group)


def fastest_precision(member: MemberSettings) -> str:
    """Returns "fp32" or "bf16", whichever trains the member's network faster on the best device here."""
    device = best_device("fp32")
    if device.preferred_precision is not None:
        return device.preferred_precision
    network = build_network(member.backbone, member.size, member.head, 2, "none")
    photos = torch.zeros(PRECISION_PHOTOS, *member.size, 3, dtype=torch.uint8)
    seconds: dict[str, float] = {}
    for name in FABRIC_PRECISION:
        enough = HOPELESS * min(seconds.values(), default=math.inf)
        seconds[name] = _step_seconds(network, photos, name, device, enough)
    return min(seconds, key=lambda name: seconds[name])


def _train(device: Device, task: TrainingTask, on_event: OnEvent) -> None:
    device.notify = lambda text: on_event({"type": "message", "text": text})
    network = _build(device, task)
    state = load_checkpoint(task.checkpoint)
    training = NetworkTraining(device, task, network, state, on_event)
    if task.is_frozen:
        _fit_frozen(training)
        return
    stages = task.stages
    deadline: float | None = None
    for stage_index in range(state.stage_index, len(stages)):
        if state.best_weights:
            network.load_state_dict(state.best_weights)
        features = _frozen_features(device, task, network, on_event) if stages[stage_index] == 0 else None
        deadline = deadline or _training_deadline(device, task, network)
        stage_deadline = share_deadline(1 / (len(stages) - stage_index), deadline)
        if features is not None:
            stage_deadline = stage_deadline and max(stage_deadline, time.monotonic() + HEAD_SECONDS)
            train_head(training, features, stage_deadline)
        else:
            train_layers(training, stage_deadline)
        state.end_stage()
        if device.is_first:
            save_checkpoint(task.checkpoint, state)
        device.barrier()
    if not math.isfinite(state.best_loss):
        raise FovsfeError(
            f"{task.folder}: the training diverged, no epoch has a finite log loss; delete this folder, lower"
            " training.lr or training.head_lr and start again"
        )
    network.load_state_dict(state.best_weights)
    write_results(training)
    device.barrier()


def _fit_frozen(training: NetworkTraining) -> None:
    """Fits the head of a network whose backbone stays frozen, and writes the results; it takes seconds."""
    device, task, network = training.device, training.task, training.network
    features = _frozen_features(device, task, network, training.on_event)
    try:
        refitted = fit_frozen_head(training, features)
    except RuntimeError as error:  # of the eigenvalues
        raise FovsfeError(
            f"{task.folder}: the features of {task.member.backbone} are not finite; leave it out"
        ) from error
    network.load_state_dict(training.state.best_weights)
    write_results(training, features, refitted)
    device.barrier()


def _ignore(event: Event) -> None:
    """The first process tells what all of them do."""


def _build(device: Device, task: TrainingTask) -> Network:
    # Without weights, too, a member starts alike in every fold and round: they share its cached features.
    torch.manual_seed(task.recipe.seed + task.member.seed)
    member = task.member
    return device.move(
        build_network(member.backbone, member.size, member.head, task.num_classes, task.weights)
    )


def _frozen_features(device: Device, task: TrainingTask, network: Network, on_event: OnEvent) -> Features:
    def progress(done: int, total: int) -> None:
        on_event({"type": "features", "done": done, "total": total})

    return frozen_features(device, network, task.photos, task.feature_cache, progress)


def _training_deadline(device: Device, task: TrainingTask, network: Network) -> float | None:
    """When to stop: at the end of the network's time, less what its predictions at the end will take."""
    deadline = share_deadline(task.time_share, task.deadline)
    if deadline is None:
        return None
    sample = np.resize(task.val_idx, device.timing_photos)
    for _ in range(device.timing_warm_ups):
        predict_logits(device, network, task.photos, sample, "plain")
    start = time.monotonic()
    predict_logits(device, network, task.photos, sample, "plain")
    seconds_per_photo = (time.monotonic() - start) / len(sample) / device.world_size
    predictions = len(task.tta) * (len(task.val_idx) + len(task.test_idx))
    return float(deadline - seconds_per_photo * predictions)


def _step_seconds(network: Network, photos: Tensor, precision: str, device: Device, enough: float) -> float:
    """Returns the seconds of the fastest step; of the first one, if that takes `enough`."""
    torch_device = device.fabric.device
    network, photos = network.to(torch_device), photos.to(torch_device)
    unfreeze_layers(network, 1.0)
    set_train_mode(network)
    fastest = float("inf")
    with torch.random.fork_rng():
        for _ in range(3):
            start = time.perf_counter()
            with torch.autocast(torch_device.type, torch.bfloat16, enabled=precision == "bf16"):
                labels = torch.zeros(len(photos), dtype=torch.long, device=torch_device)
                loss = nn.functional.cross_entropy(network(photos), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()  # waits for the device
            fastest = min(fastest, time.perf_counter() - start)
            if fastest > enough:
                break
    network.zero_grad()
    return fastest
