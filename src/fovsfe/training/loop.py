"""The training of one network: a member on one fold, stage by stage, epoch by epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric.utilities import move_data_to_device
from safetensors.torch import save as to_bytes
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, write_json
from fovsfe.networks.layers import head_parameter_groups, parameter_groups, set_train_mode, unfreeze_stage
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.dataset import ResizedPhotos, TrainDataset
from fovsfe.photos.sampler import ShardSampler
from fovsfe.photos.transforms import build_augmentation, build_mixup, stress_augment
from fovsfe.recipe import MemberSettings, Recipe, TrainingSettings
from fovsfe.training import checkpoint, xla
from fovsfe.training.checkpoint import HistoryRow, TrainingState
from fovsfe.training.device import (
    device_batches,
    fastest_precision,
    loader_options,
    make_fabric,
    on_xla,
    to_device,
)
from fovsfe.training.distributed import current_process_group
from fovsfe.training.features import BATCH, Features, Indices, frozen_features, predict_outputs, predict_tta
from fovsfe.training.schedule import StageProgress, fraction_of_deadline, lr_factor

OnEvent = Callable[[dict[str, Any]], None]

HEAD_SECONDS = 2.0  # that a head learns also where time is up: without, its answers would spoil every blend


@dataclass(frozen=True)
class TrainingTask:
    """One network to train, and what to tell of it."""

    folder: Path
    member: MemberSettings
    recipe: Recipe
    weights: str
    num_classes: int
    photos: ResizedPhotos
    train_idx: Indices  # positions in `photos` to train on
    targets: npt.NDArray[np.float32]  # (train_idx, labels), rows sum to 1
    val_idx: Indices  # positions to validate on, never trained on
    y_true: Indices  # (val,) their labels, as positions in the class names
    test_idx: Indices  # positions of the test photos, to predict
    features: Path  # the member's cached features
    precision: str
    seed: int
    deadline: float | None = None  # of all that is still to be trained, time.monotonic seconds
    time_share: float = 1.0  # of the time until then, from when the member's features are there

    @property
    def tta(self) -> tuple[str, ...]:
        """The test-time variants of a photo that are predicted, the plain one first."""
        return ("plain", *self.recipe.ensemble.tta)


def train_network(task: TrainingTask, devices: int, show: OnEvent) -> None:
    """Trains the task's network on `devices` devices and leaves, in its folder: network.safetensors,
    history.csv, predictions.npz (val and test, float32 (tta, n, classes)) and, last, result.json.

    In a team, its processes train along, whatever `devices` says. Goes on from the checkpoint of an
    interrupted training. Raises FovsfeError as `networks.build` does, where the folder cannot be written, and
    where another process of the team fails.
    """
    train = partial(_train, task=task, show=show)  # as arguments, Fabric would unfreeze a task
    if (team := current_process_group()) is not None:
        team.hand_out(task)
        fabric = make_fabric(team.devices, task.precision, team.environment)
        team.together(lambda: fabric.launch(train))
        return
    try:
        make_fabric(devices, task.precision).launch(partial(_spawned, train) if devices > 1 else train)
    except ProcessRaisedException as error:  # all that is left of another process's error is its traceback
        kind, _, message = str(error).rstrip().rpartition("\n")[2].partition(": ")
        if kind == f"{FovsfeError.__module__}.{FovsfeError.__name__}":
            raise FovsfeError(message) from error
        raise


def _spawned(train: Callable[[Any], None], fabric: Any) -> None:
    train(fabric)
    fabric.barrier()  # left to the interpreter's end, gloo's threads abort the process now and then
    torch.distributed.destroy_process_group()


def fastest_precision_for(member: MemberSettings) -> str:
    """`device.fastest_precision` of a member's network, "fp32" or "bf16"."""
    return fastest_precision(build_network(member.backbone, member.size, member.head, 2, "none"), member.size)


def cache_features(task: TrainingTask, show: OnEvent) -> None:
    """Leaves in `task.features` what `run_task` would make itself, unless the training is past its need."""
    if 0 in task.recipe.training.stages and not (task.folder / "checkpoint.pt").exists():
        fabric = make_fabric(1, task.precision)
        _frozen(fabric, task, _network(fabric, task), show)


def _network(fabric: Any, task: TrainingTask) -> Network:
    # Without weights, too, a member starts alike in every fold and round: they share its cached features.
    torch.manual_seed(task.recipe.seed + task.member.seed)
    network = build_network(
        task.member.backbone, task.member.size, task.member.head, task.num_classes, task.weights
    )
    if on_xla(fabric.device):
        xla.expect_variances(network)
    return network.to(fabric.device)


def _train(fabric: Any, task: TrainingTask, show: OnEvent) -> None:
    if not fabric.is_global_zero:
        show = _not_told
    network = _network(fabric, task)
    state = checkpoint.load_checkpoint(task.folder / "checkpoint.pt")
    end: float | None = None
    stages = task.recipe.training.stages
    for number in range(state.stage, len(stages)):
        if state.best:
            network.load_state_dict(state.best)
        frozen = _frozen(fabric, task, network, show) if stages[number] == 0 else None
        end = end or _training_end(fabric, task, network)
        deadline = fraction_of_deadline(end, 1 / (len(stages) - number))
        if frozen is not None:
            deadline = deadline and max(deadline, time.monotonic() + HEAD_SECONDS)
            network.head.to("cpu" if on_xla(fabric.device) else fabric.device)  # a head is no work for graphs
            _head_stage(fabric, task, network, frozen, state, deadline, show)
            network.head.to(fabric.device)
        else:
            _stage(fabric, task, network, state, deadline, show)
        state.end_stage()
        _save(fabric, task, state)
    if not math.isfinite(state.best_loss):
        raise FovsfeError(
            f"{task.folder}: the training diverged, no epoch has a finite log loss; delete this folder, lower"
            " training.lr or training.head_lr and start anew"
        )
    network.load_state_dict(state.best)
    _finish(fabric, task, network, state)
    fabric.barrier()


def _not_told(event: dict[str, Any]) -> None:
    """The first process tells what all do."""


def _frozen(fabric: Any, task: TrainingTask, network: Network, show: OnEvent) -> Features:
    def tick(done: int, of: int) -> None:
        show({"doing": "features", "done": done, "of": of})

    return frozen_features(fabric, network, task.photos, task.features, tick)


def _training_end(fabric: Any, task: TrainingTask, network: Network) -> float | None:
    """The end of the task's share of time, less what the predictions at the end will take."""
    end = fraction_of_deadline(task.deadline, task.time_share)
    if end is None:
        return None
    some = np.resize(task.val_idx, 16)
    if on_xla(fabric.device):
        some = np.resize(task.val_idx, BATCH)
        predict_outputs(fabric, network, network, task.photos, some, "plain")  # compiles
    before = time.monotonic()
    predict_outputs(fabric, network, network, task.photos, some, "plain")
    a_photo = (time.monotonic() - before) / len(some) / fabric.world_size
    photos = len(task.tta) * (len(task.val_idx) + len(task.test_idx))
    return float(end - a_photo * photos)


def _head_stage(
    fabric: Any,
    task: TrainingTask,
    network: Network,
    frozen: Features,
    state: TrainingState,
    deadline: float | None,
    show: OnEvent,
) -> None:
    """The head alone, on features that the frozen backbone gave once. Every process learns the same."""
    settings = task.recipe.training
    head = network.head
    device = next(head.parameters()).device
    average = ModelEmaV3(head, decay=settings.ema, use_warmup=True)
    optimizer = _optimizer(settings, head_parameter_groups(network, settings.head_lr, settings.weight_decay))
    generator = torch.Generator().manual_seed(task.seed)
    batches = max(len(task.train_idx) // _batch_size(task), 1)  # a batch norm needs more than one odd photo
    pace = StageProgress(fabric, settings.head_epochs * batches, deadline)
    torch.manual_seed(task.seed)  # dropout must not depend on whether the features were there already
    for epoch in range(settings.head_epochs):
        started = time.monotonic()
        head.train()
        mirrored = torch.randint(2, (len(task.train_idx),), generator=generator).numpy().astype(np.bool_)
        losses: list[float] = []
        order = torch.randperm(len(task.train_idx), generator=generator).tensor_split(batches)
        for step, chosen in enumerate(order, epoch * batches):
            rows = chosen.numpy()
            progress = pace.progress(step)
            if progress >= 1 and (state.best or losses):
                break
            _set_lr(optimizer, lr_factor(progress, settings.warmup))
            seen = frozen.rows(task.train_idx[rows], mirrored[rows]).to(device)
            targets = torch.from_numpy(task.targets[rows]).to(device)
            loss = _loss(head(seen), targets, settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average.update(head, step=step)
            losses.append(loss.item())
        if not losses:
            return  # time is up
        logits = _head_logits(task, average.module, frozen)
        learned = {f"head.{name}": value for name, value in average.module.state_dict().items()}
        row = _row(0.0, epoch, float(np.mean(losses)), logits, task.y_true, started)
        state.note(row, network.state_dict() | learned, settings.min_delta)
        show({"doing": "epoch", **row})
        if state.idle >= settings.patience:
            return


@torch.no_grad()
def _head_logits(task: TrainingTask, head: nn.Module, frozen: Features) -> Tensor:
    """(val_idx, labels) on the CPU: a head's answers for the photos that validate."""
    head.eval()
    device = next(head.parameters()).device
    some = np.array_split(task.val_idx, math.ceil(len(task.val_idx) / BATCH))
    plain = np.zeros(len(task.val_idx), np.bool_)
    return torch.cat([head(frozen.rows(rows, plain[: len(rows)]).to(device)).cpu() for rows in some])


@dataclass(frozen=True)
class _Learner:
    """A stage under way: the network, its average, and what moves them."""

    fabric: Any
    task: TrainingTask
    share: float
    network: Network
    wrapped: nn.Module
    average: ModelEmaV3
    optimizer: Any
    pace: StageProgress
    mix: nn.Module | None

    def epoch(self, state: TrainingState, seed: int, show: OnEvent) -> list[Tensor]:
        """Learns from every photo once, or until the time is up; gives the loss of each step."""
        settings = self.task.recipe.training
        torch.manual_seed(seed + self.fabric.global_rank)
        if on_xla(self.fabric.device):
            xla.seed(seed)
        set_train_mode(self.network)
        losses: list[Tensor] = []
        batches = _batches(self.fabric, self.task, seed)
        fed = device_batches(self.fabric, batches, self._mixed)
        for step, (photos, targets) in enumerate(fed, state.epoch * len(batches)):
            progress = self.pace.progress(step)
            if progress >= 1 and (state.best or losses):
                break
            losses.append(self._step(photos, targets, step, lr_factor(progress, settings.warmup)))
            whole = (state.stage + progress) / len(settings.stages)
            event = {"doing": "step", "stage": self.share, "epoch": state.epoch}
            show({**event, "progress": progress, "whole": whole})
        if self.fabric.world_size > 1:
            # Each process has seen other photos: the first one's batch norms count.
            for buffer in self.average.module.buffers():
                torch.distributed.broadcast(buffer, 0)
        return losses

    def _mixed(self, photos: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.mix is None:
            return photos, targets
        photos, targets = self.mix(photos.permute(0, 3, 1, 2).float(), targets)
        return photos.permute(0, 2, 3, 1), targets

    def _step(self, photos: Tensor, targets: Tensor, step: int, factor: float) -> Tensor:
        graphs = on_xla(self.fabric.device)
        _set_lr(self.optimizer, xla.lr_tensor(self.optimizer, factor) if graphs else factor)
        loss = _loss(self.wrapped(photos), targets, self.task.recipe.training.label_smoothing)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        if graphs:
            xla.update(self.average, self.network, step)
        else:
            self.average.update(self.network, step=step)
        return loss.detach()


def _stage(
    fabric: Any,
    task: TrainingTask,
    network: Network,
    state: TrainingState,
    deadline: float | None,
    show: OnEvent,
) -> None:
    """The head and the last share of the backbone's layers."""
    settings = task.recipe.training
    share = settings.stages[state.stage]
    unfreeze_stage(network, share)
    rates = (settings.lr, settings.layer_decay, settings.weight_decay)
    wrapped, optimizer = fabric.setup(network, _optimizer(settings, parameter_groups(network, *rates)))
    if on_xla(fabric.device):
        average = xla.average_of(network, settings.ema)
        xla.begin(optimizer.optimizer)
    else:
        average = ModelEmaV3(network, decay=settings.ema, use_warmup=True)
    parts = {"network": network, "average": average, "optimizer": optimizer}
    for group in state.learning.get("optimizer", {}).get("param_groups", []):
        if "capturable" in group:
            group["capturable"] = on_xla(fabric.device)  # the checkpoint may come from another device
    for name, saved in state.learning.items():
        parts[name].load_state_dict(saved)
    if on_xla(fabric.device):
        xla.settle(network, average, optimizer.optimizer)
    steps = len(_batches(fabric, task, 0))
    pace = StageProgress(fabric, settings.epochs * steps, deadline, state.epoch * steps)
    mix = build_mixup(task.recipe.augment.mixup, task.recipe.augment.cutmix)
    learner = _Learner(fabric, task, share, network, wrapped, average, optimizer, pace, mix)
    while state.epoch < settings.epochs and state.idle < settings.patience:
        started = time.monotonic()
        seed = task.seed + 1009 * (state.stage * settings.epochs + state.epoch)
        losses = learner.epoch(state, seed, show)
        if not losses:
            return  # time is up
        logits = predict_outputs(fabric, average.module, average.module, task.photos, task.val_idx, "plain")
        mean_loss = float(torch.stack([loss.cpu() for loss in losses]).mean().item())
        row = _row(share, state.epoch, mean_loss, torch.from_numpy(logits), task.y_true, started)
        state.note(row, average.module.state_dict(), settings.min_delta)
        state.epoch += 1
        state.learning = {
            name: move_data_to_device(part.state_dict(), torch.device("cpu")) for name, part in parts.items()
        }
        _save(fabric, task, state)
        show({"doing": "epoch", **row})


def _finish(fabric: Any, task: TrainingTask, network: Network, state: TrainingState) -> None:
    val = predict_tta(fabric, network, task.photos, task.val_idx, task.tta)
    test = predict_tta(fabric, network, task.photos, task.test_idx, task.tta)
    test = test.reshape(
        len(task.tta), len(task.test_idx), task.num_classes
    )  # where there are no test photos, too
    result: dict[str, Any] = {"stage": state.best_stage, "log_loss": state.best_loss}
    if task.recipe.augment.stressed_validation:
        result["stressed_accuracy"] = _stressed_accuracy(fabric, task, network)
    if not fabric.is_global_zero:
        return
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(task.folder / "network.safetensors") as temporary:
        temporary.write_bytes(to_bytes(tensors))
    checkpoint.write_history(task.folder / "history.csv", state.history)
    with atomic_path(task.folder / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, val=val, test=test)
    write_json(task.folder / "result.json", result)
    (task.folder / "checkpoint.pt").unlink(missing_ok=True)


def _stressed_accuracy(fabric: Any, task: TrainingTask, network: Network) -> float:
    """Accuracy on strongly augmented copies of the validation photos, the same for every network."""
    network.eval()
    right = 0
    for rows in np.array_split(np.arange(len(task.val_idx)), math.ceil(len(task.val_idx) / BATCH)):
        photos = np.stack([task.photos[int(index)] for index in task.val_idx[rows]])
        copies = stress_augment(torch.from_numpy(photos), task.recipe.seed + int(rows[0]))
        with torch.no_grad(), fabric.autocast():
            answers = network(to_device(fabric, copies, BATCH)).argmax(-1).cpu().numpy()[: len(rows)]
        right += int(np.sum(answers == task.y_true[rows]))
    return right / len(task.val_idx)


def _batches(fabric: Any, task: TrainingTask, seed: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """This process's batches of one epoch. The order follows from the seed and the photos alone."""
    transform = build_augmentation(task.recipe.augment.strength, task.member.size)
    photos = TrainDataset(task.photos, task.train_idx, task.targets, transform, seed)
    size = max(_batch_size(task) // fabric.world_size, 2)
    order = ShardSampler(task.photos, task.train_idx, seed, fabric.global_rank, fabric.world_size)
    whole = len(order) > size  # a batch norm needs more than one photo
    return DataLoader(photos, size, sampler=order, drop_last=whole, **loader_options(fabric, task.photos))


def _batch_size(task: TrainingTask) -> int:
    return task.member.batch_size or task.recipe.training.batch_size


def _optimizer(settings: TrainingSettings, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["full_lr"] = group["lr"]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, capturable=on_xla(groups[0]["params"][0].device))


def _set_lr(optimizer: torch.optim.Optimizer, factor: float | Tensor) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor


def _loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def _row(
    share: float, epoch: int, loss: float, logits: Tensor, y_true: Indices, started: float
) -> HistoryRow:
    """An epoch's line in the history; log loss and accuracy are of the validation photos."""
    answers = torch.from_numpy(y_true)
    return {
        "stage": share,
        "epoch": epoch,
        "loss": loss,
        "log_loss": nn.functional.cross_entropy(logits, answers).item(),
        "accuracy": (logits.argmax(-1) == answers).float().mean().item(),
        "seconds": round(time.monotonic() - started, 2),
    }


def _save(fabric: Any, task: TrainingTask, state: TrainingState) -> None:
    if fabric.is_global_zero:
        checkpoint.save_checkpoint(task.folder / "checkpoint.pt", state)
    fabric.barrier()
