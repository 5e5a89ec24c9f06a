"""The stages of a network's training: first its head on cached features, then more and more of its layers."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fovsfe.arrays import Float32s, Ints
from fovsfe.networks.layers import head_parameter_groups, parameter_groups, set_train_mode, unfreeze_layers
from fovsfe.networks.network import Network, linear_inputs
from fovsfe.photos.dataset import TrainDataset
from fovsfe.photos.sampler import ShardSampler
from fovsfe.photos.transforms import build_augmentation, build_mixup
from fovsfe.recipe import TrainingSettings
from fovsfe.training.checkpoint import HistoryRow, TrainingState, save_checkpoint
from fovsfe.training.device import FEWEST_AT_ONCE, Batch, Device
from fovsfe.training.discriminant import (
    SHRINKAGES,
    LinearHead,
    best_temperature,
    heads_by_shrinkage,
    left_out_logits,
)
from fovsfe.training.features import Features, head_logits, predict_logits
from fovsfe.training.schedule import StageProgress, lr_factor
from fovsfe.training.task import OnEvent, TrainingTask

FEATURE_BYTES = 256 * 1024 * 1024  # of features that are in memory at once
FEWEST_LEFT_OUT, MOST_LEFT_OUT = 30, 1000  # photos that the temperature of a refitted head is found by


@dataclass(frozen=True)
class NetworkTraining:
    """A training under way: what every stage needs."""

    device: Device
    task: TrainingTask
    network: Network
    state: TrainingState
    on_event: OnEvent

    @property
    def settings(self) -> TrainingSettings:
        """The recipe's [training]."""
        return self.task.recipe.training


# ---- the head alone


def fit_frozen_head(training: NetworkTraining, features: Features) -> LinearHead | None:
    """Fits a linear or root head to the frozen backbone's features, with the shrinkage and the temperature
    that have the lowest log loss on the validation photos; every process does the same.

    Returns, in the first fold of a member that is refitted, the head that is fitted to the validation photos,
    too; None otherwise.
    """
    task, state = training.task, training.state
    device = training.device.head_device()
    head = training.network.head.to(device)
    y_true = torch.from_numpy(task.y_true)
    temperatures: list[float] = []
    batches = _both_variants(features, task.train_idx, task.targets, head)
    for index, fitted in enumerate(heads_by_shrinkage(batches)):
        started = time.monotonic()
        head.load_state_dict(fitted.state)
        logits = head_logits(head, features, task.val_idx)
        temperature, loss = best_temperature(logits, y_true)
        temperatures.append(temperature)
        head.load_state_dict(fitted.at(temperature).state)
        row = _history_row(0.0, index, loss, logits / temperature, task.y_true, started)
        state.record_epoch(row, training.network.state_dict(), 0.0)
        training.on_event({"type": "epoch", **row})
    refitted = None
    if task.key.fold == 0 and task.recipe.is_refitted(task.member):
        best = min(range(len(state.history)), key=lambda index: state.history[index]["log_loss"])
        refitted = _refitted_head(task, features, head, best, temperatures[best])
    head.to(training.device.fabric.device)
    return refitted


def _refitted_head(
    task: TrainingTask, features: Features, head: nn.Module, best: int, temperature: float
) -> LinearHead:
    """Returns the head that is fitted to the validation photos, too, with the best shrinkage.

    Its temperature is the best one for photos that are left out one at a time: the more photos, the lower it
    is. Near-duplicates would tell on each other, and take no part in that. If too few photos are left, it is
    the `temperature` of the head that is fitted to fewer.
    """
    labelled_idx = np.concatenate([task.train_idx, task.val_idx])
    targets = np.concatenate([task.targets, np.eye(task.num_classes, dtype=np.float32)[task.y_true]])
    batches = partial(_both_variants, features, labelled_idx, targets, head)
    refitted = list(heads_by_shrinkage(batches()))[best]
    labels = targets.argmax(1)
    _, group, sizes = np.unique(task.groups[labelled_idx], return_inverse=True, return_counts=True)
    apart = np.flatnonzero((sizes[group] == 1) & (np.bincount(labels)[labels] > 1))
    if len(apart) >= FEWEST_LEFT_OUT:
        some = apart[:: math.ceil(len(apart) / MOST_LEFT_OUT)]
        device = next(head.parameters()).device
        variants = [
            features.rows(labelled_idx[some], np.full(len(some), mirrored)).to(device)
            for mirrored in (False, True)
        ]
        inputs = torch.stack([linear_inputs(head, each) for each in variants], dim=1)
        of_some = torch.from_numpy(labels[some]).to(device)
        logits = left_out_logits(batches(), inputs, of_some, SHRINKAGES[best])
        temperature, _ = best_temperature(logits, of_some)
    return refitted.at(temperature)


def _both_variants(
    features: Features, positions: Ints, targets: Float32s, head: nn.Module
) -> Iterator[Batch]:
    """Yields what a head's linear layer gets of photos, plain and mirrored, and their targets, as many at
    once as fit."""
    device = next(head.parameters()).device
    parts = math.ceil(2 * len(positions) * features.width * 4 / FEATURE_BYTES)
    for rows in np.array_split(np.arange(len(positions)), parts):
        mirrored = np.repeat([False, True], len(rows))
        values = features.rows(np.tile(positions[rows], 2), mirrored)
        inputs = linear_inputs(head, values.to(device))
        yield inputs, torch.from_numpy(np.tile(targets[rows], (2, 1))).to(device)


def train_head(training: NetworkTraining, features: Features, deadline: float | None) -> None:
    """Trains the head on the frozen backbone's features; every process does the same."""
    task, settings, state = training.task, training.settings, training.state
    device = training.device.head_device()
    head = training.network.head.to(device)
    ema = ModelEmaV3(head, decay=settings.ema, use_warmup=True)
    groups = head_parameter_groups(training.network, settings.head_lr, settings.weight_decay)
    optimizer = _optimizer(settings, groups, {})
    generator = torch.Generator().manual_seed(task.seed)
    steps = max(len(task.train_idx) // task.batch_size, 1)  # a batch norm needs more than one odd photo
    progress = StageProgress(training.device, settings.head_epochs * steps, deadline)
    torch.manual_seed(task.seed)  # dropout must not depend on whether the features were cached already
    for epoch in range(settings.head_epochs):
        started = time.monotonic()
        head.train()
        losses: list[float] = []
        for step, (inputs, targets) in enumerate(
            _feature_batches(task, features, steps, generator), epoch * steps
        ):
            done = progress.at(step)
            if done >= 1 and (state.best_weights or losses):
                break
            training.device.set_lr(optimizer, lr_factor(done, settings.warmup))
            loss = _loss(head(inputs.to(device)), targets.to(device), settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            ema.update(head, step=step)
            losses.append(loss.item())
        if not losses:
            break  # time is up
        logits = head_logits(ema.module, features, task.val_idx)
        ema_state = {f"head.{name}": value for name, value in ema.module.state_dict().items()}
        row = _history_row(0.0, epoch, float(np.mean(losses)), logits, task.y_true, started)
        state.record_epoch(row, training.network.state_dict() | ema_state, settings.min_delta)
        training.on_event({"type": "epoch", **row})
        if state.epochs_without_improvement >= settings.patience:
            break
    head.to(training.device.fabric.device)


def _feature_batches(
    task: TrainingTask, features: Features, steps: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yields an epoch's features and targets, each photo plain or mirrored by chance."""
    mirrored = torch.randint(2, (len(task.train_idx),), generator=generator).numpy().astype(np.bool_)
    for batch in torch.randperm(len(task.train_idx), generator=generator).tensor_split(steps):
        rows = batch.numpy()
        yield features.rows(task.train_idx[rows], mirrored[rows]), torch.from_numpy(task.targets[rows])


# ---- the head and layers of the backbone


def train_layers(training: NetworkTraining, deadline: float | None) -> None:
    """Trains the head and the stage's share of the backbone's layers, counted from the output."""
    device, task, settings, state = training.device, training.task, training.settings, training.state
    layer_share = task.stages[state.stage_index]
    unfreeze_layers(training.network, layer_share)
    groups = parameter_groups(training.network, settings.lr, settings.layer_decay, settings.weight_decay)
    wrapped, optimizer = device.fabric.setup(
        training.network, _optimizer(settings, groups, device.optimizer_options)
    )
    ema = device.make_ema(training.network, settings.ema)
    stateful = {"network": training.network, "ema": ema, "optimizer": optimizer}
    device.begin_stage(optimizer.optimizer)
    device.restore(stateful, state.state_dicts)
    steps = len(_loader(training, 0))
    progress = StageProgress(device, settings.epochs * steps, deadline, state.epoch * steps)
    mix = build_mixup(task.recipe.augment.mixup, task.recipe.augment.cutmix)
    stepper = _Stepper(training, wrapped, ema, optimizer, progress, mix)
    while state.epoch < settings.epochs and state.epochs_without_improvement < settings.patience:
        started = time.monotonic()
        losses = stepper.epoch(layer_share)
        if not losses:
            return  # time is up
        logits = predict_logits(device, ema.module, task.photos, task.val_idx, "plain")
        mean_loss = float(torch.stack([loss.cpu() for loss in losses]).mean().item())
        row = _history_row(
            layer_share, state.epoch, mean_loss, torch.from_numpy(logits), task.y_true, started
        )
        state.record_epoch(row, ema.module.state_dict(), settings.min_delta)
        state.epoch += 1
        state.state_dicts = device.save(stateful)
        if device.is_first:
            save_checkpoint(task.checkpoint, state)
        device.barrier()
        training.on_event({"type": "epoch", **row})


@dataclass(frozen=True)
class _Stepper:
    """What moves a network through the steps of a stage."""

    training: NetworkTraining
    wrapped: nn.Module
    ema: ModelEmaV3
    optimizer: Any
    progress: StageProgress
    mix: nn.Module | None

    def epoch(self, layer_share: float) -> list[Tensor]:
        """Trains on every photo once, or until time is up; returns the loss of each step."""
        training, settings, state = self.training, self.training.settings, self.training.state
        seed = training.task.seed + 1009 * (state.stage_index * settings.epochs + state.epoch)
        training.device.seed(seed)
        set_train_mode(training.network)
        losses: list[Tensor] = []
        loader = _loader(training, seed)
        batches = training.device.batches(loader, self._mixed)
        for step, (photos, targets) in enumerate(batches, state.epoch * len(loader)):
            done = self.progress.at(step)
            if done >= 1 and (state.best_weights or losses):
                break
            losses.append(self._step(photos, targets, step, lr_factor(done, settings.warmup)))
            whole = (state.stage_index + done) / len(training.task.stages)
            event = {"type": "step", "layer_share": layer_share, "epoch": state.epoch}
            training.on_event({**event, "progress": done, "network_progress": whole})
        training.device.share_buffers(self.ema.module)
        return losses

    def _mixed(self, photos: Tensor, targets: Tensor) -> Batch:
        if self.mix is None:
            return photos, targets
        photos, targets = self.mix(photos.permute(0, 3, 1, 2).float(), targets)
        return photos.permute(0, 2, 3, 1), targets

    def _step(self, photos: Tensor, targets: Tensor, step: int, factor: float) -> Tensor:
        device = self.training.device
        device.set_lr(self.optimizer, factor)
        loss = device.within_memory(partial(self._accumulate, photos, targets), len(photos))
        self.optimizer.step()
        device.update_ema(self.ema, self.training.network, step)
        return loss

    def _accumulate(self, photos: Tensor, targets: Tensor, at_once: int) -> Tensor:
        """Sets the gradients of a batch, and returns its loss, with about `at_once` photos at a time."""
        self.optimizer.zero_grad()
        parts = max(min(math.ceil(len(photos) / at_once), len(photos) // FEWEST_AT_ONCE), 1)
        losses: list[Tensor] = []
        for some, their_targets in zip(photos.tensor_split(parts), targets.tensor_split(parts), strict=True):
            loss = _loss(self.wrapped(some), their_targets, self.training.settings.label_smoothing)
            loss = loss * (len(some) / len(photos))
            self.training.device.fabric.backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()


def _loader(training: NetworkTraining, seed: int) -> DataLoader[Batch]:
    """Returns this process's batches of one epoch. Their order follows from the seed and the photos alone."""
    device, task = training.device, training.task
    transform = build_augmentation(task.recipe.augment.strength, task.member.size)
    photos = TrainDataset(task.photos, task.train_idx, task.targets, transform, seed)
    size = max(task.batch_size // device.world_size, 2)
    sampler = ShardSampler(task.photos, task.train_idx, seed, device.rank, device.world_size)
    drop_last = len(sampler) > size  # a batch norm needs more than one photo
    return DataLoader(
        photos, size, sampler=sampler, drop_last=drop_last, **device.loader_options(task.photos)
    )


# ---- both


def _optimizer(
    settings: TrainingSettings, groups: list[dict[str, Any]], options: dict[str, Any]
) -> torch.optim.Optimizer:
    for group in groups:
        group["full_lr"] = group["lr"]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, **options)


def _loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def _history_row(
    layer_share: float, epoch: int, loss: float, logits: Tensor, y_true: Ints, started: float
) -> HistoryRow:
    """Returns an epoch's row of the history; log loss and accuracy are on the validation photos."""
    labels = torch.from_numpy(y_true)
    return {
        "layer_share": layer_share,
        "epoch": epoch,
        "loss": loss,
        "log_loss": nn.functional.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(-1) == labels).float().mean().item(),
        "seconds": round(time.monotonic() - started, 2),
    }
