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
from safetensors.torch import save as to_bytes
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, Sampler

from fovsfe.errors import FovsfeError
from fovsfe.learning import checkpoint
from fovsfe.learning.checkpoint import Row, State
from fovsfe.learning.device import make_fabric
from fovsfe.learning.features import BATCH, Indices, frozen_features, outputs, probabilities
from fovsfe.learning.pace import Pace, rate_factor, share_of
from fovsfe.networks.layers import head_groups, open_stage, parameter_groups, set_training
from fovsfe.networks.network import Network, build
from fovsfe.photos.augment import augmentation, mixing, stressed
from fovsfe.photos.dataset import FittedPhotos, LearningPhotos, loader_workers
from fovsfe.recipe import Member, Recipe, TrainingSettings
from fovsfe.run import replacing, write_json

Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """One network to train, and what to tell of it."""

    folder: Path
    member: Member
    recipe: Recipe
    weights: str
    labels: int
    photos: FittedPhotos
    learn: Indices  # positions in `photos` to learn from
    targets: npt.NDArray[np.float32]  # (learn, labels), rows sum to 1
    judge: Indices  # positions that validate; never learned from
    truth: Indices  # (judge,) their true labels
    ask: Indices  # positions to answer for: the test part
    features: Path  # the member's cached features
    precision: str
    seed: int
    deadline: float | None = None  # of all that is still to be trained, time.monotonic seconds
    share: float = 1.0  # of the time until then, from when the member's features are there

    @property
    def views(self) -> tuple[str, ...]:
        """The views of a photo that are predicted: the plain one first."""
        return ("plain", *self.recipe.ensemble.views)


def run_task(task: Task, devices: int, show: Show) -> None:
    """Trains the task's network on `devices` devices and leaves, in its folder: network.safetensors,
    history.csv, predictions.npz (judge and ask, float32 (views, n, labels)) and, last, result.json.

    Goes on from the checkpoint of an interrupted training. Raises FovsfeError as `networks.build` does, and
    where the folder cannot be written.
    """
    fabric = make_fabric(devices, task.precision)
    try:
        fabric.launch(partial(_train, task=task, show=show))  # as arguments, Fabric would unfreeze a task
    except ProcessRaisedException as error:  # all that is left of another process's error is its traceback
        kind, _, message = str(error).rstrip().rpartition("\n")[2].partition(": ")
        if kind == f"{FovsfeError.__module__}.{FovsfeError.__name__}":
            raise FovsfeError(message) from error
        raise


def _train(fabric: Any, task: Task, show: Show) -> None:
    # Without weights, too, a member starts alike in every fold and round: they share its cached features.
    torch.manual_seed(task.recipe.seed + task.member.seed)
    network = build(task.member.backbone, task.member.size, task.member.head, task.labels, task.weights)
    network = network.to(fabric.device)
    state = checkpoint.load(task.folder / "checkpoint.pt")
    end: float | None = None
    stages = task.recipe.training.stages
    for number in range(state.stage, len(stages)):
        if state.best:
            network.load_state_dict(state.best)
        if stages[number] == 0:
            _head_stage(fabric, task, network, state, show)
        else:
            end = end or _training_end(fabric, task, network)
            _stage(fabric, task, network, state, share_of(end, 1 / (len(stages) - number)), show)
        state.end_stage()
        _save(fabric, task, state)
    if state.best:
        network.load_state_dict(state.best)
    _finish(fabric, task, network, state)


def _training_end(fabric: Any, task: Task, network: Network) -> float | None:
    """The end of the task's share of time, less what the predictions at the end will take."""
    end = share_of(task.deadline, task.share)
    if end is None:
        return None
    some = np.resize(task.judge, 16)
    before = time.monotonic()
    outputs(fabric, network, network, task.photos, some, "plain")
    a_photo = (time.monotonic() - before) / len(some) / fabric.world_size
    photos = len(task.views) * (len(task.judge) + len(task.ask))
    return float(end - a_photo * photos)


def _head_stage(fabric: Any, task: Task, network: Network, state: State, show: Show) -> None:
    """The head alone, on features that the frozen backbone gives once. Every process learns the same."""
    settings = task.recipe.training

    def tick(done: int, of: int) -> None:
        show({"doing": "features", "done": done, "of": of})

    cached = frozen_features(fabric, network, task.photos, task.features, tick)
    seen = torch.from_numpy(np.array(cached[:, task.learn], np.float32)).to(fabric.device)
    judged = torch.from_numpy(np.array(cached[0, task.judge], np.float32)).to(fabric.device)
    targets = torch.from_numpy(task.targets).to(fabric.device)
    head = network.head
    average = ModelEmaV3(head, decay=settings.ema, use_warmup=True)
    optimizer = _optimizer(settings, head_groups(network, settings.head_rate, settings.weight_decay))
    generator = torch.Generator().manual_seed(task.seed)
    batches = max(len(task.learn) // _batch_size(task), 1)  # a batch norm needs more than one odd photo
    torch.manual_seed(task.seed)  # dropout must not depend on whether the features were there already
    for epoch in range(settings.head_epochs):
        started = time.monotonic()
        head.train()
        view = torch.randint(len(seen), (len(task.learn),), generator=generator)
        losses = []
        order = torch.randperm(len(task.learn), generator=generator).tensor_split(batches)
        for step, rows in enumerate(order, epoch * batches):
            _set_rates(optimizer, rate_factor(step / (batches * settings.head_epochs), settings.warmup))
            loss = _loss(head(seen[view[rows], rows]), targets[rows], settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average.update(head, step=step)
            losses.append(loss.item())
        with torch.no_grad():
            logits = average.module.eval()(judged)
        learned = {f"head.{name}": value for name, value in average.module.state_dict().items()}
        row = _row(0.0, epoch, float(np.mean(losses)), logits.cpu(), task.truth, started)
        state.note(row, network.state_dict() | learned, settings.minimum_gain)
        show({"doing": "epoch", **row})
        if state.idle >= settings.patience:
            break


def _stage(
    fabric: Any, task: Task, network: Network, state: State, deadline: float | None, show: Show
) -> None:
    """The head and the last share of the backbone's layers."""
    settings = task.recipe.training
    share = settings.stages[state.stage]
    open_stage(network, share)
    rates = (settings.rate, settings.layer_decay, settings.weight_decay)
    average = ModelEmaV3(network, decay=settings.ema, use_warmup=True)
    wrapped, optimizer = fabric.setup(network, _optimizer(settings, parameter_groups(network, *rates)))
    if state.learning:
        network.load_state_dict(state.learning["network"])
        average.load_state_dict(state.learning["average"])
        optimizer.load_state_dict(state.learning["optimizer"])
    steps = len(_batches(fabric, task, 0))
    pace = Pace(fabric, settings.epochs * steps, deadline, state.epoch * steps)
    mix = mixing(task.recipe.augment.mixup, task.recipe.augment.cutmix)
    while state.epoch < settings.epochs and state.idle < settings.patience:
        started = time.monotonic()
        seed = task.seed + 1009 * (state.stage * settings.epochs + state.epoch)
        torch.manual_seed(seed + fabric.global_rank)
        set_training(network)
        losses: list[Tensor] = []
        for step, (photos, targets) in enumerate(_batches(fabric, task, seed), state.epoch * steps):
            progress = pace.progress(step)
            if progress >= 1 and (state.best or losses):
                break
            _set_rates(optimizer, rate_factor(progress, settings.warmup))
            photos, targets = photos.to(fabric.device), targets.to(fabric.device)
            if mix is not None:
                photos, targets = mix(photos.permute(0, 3, 1, 2).float(), targets)
                photos = photos.permute(0, 2, 3, 1)
            loss = _loss(wrapped(photos), targets, settings.label_smoothing)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            average.update(network, step=step)
            losses.append(loss.detach())
            whole = (state.stage + progress) / len(settings.stages)
            show(
                {
                    "doing": "step",
                    "stage": share,
                    "epoch": state.epoch,
                    "progress": progress,
                    "whole": whole,
                }
            )
        if not losses:
            return  # time is up
        if fabric.world_size > 1:  # each process has seen other photos: the first one's batch norms count
            for buffer in average.module.buffers():
                torch.distributed.broadcast(buffer, 0)
        logits = outputs(fabric, average.module, average.module, task.photos, task.judge, "plain")
        mean_loss = float(torch.stack(losses).mean().item())
        row = _row(share, state.epoch, mean_loss, torch.from_numpy(logits), task.truth, started)
        state.note(row, average.module.state_dict(), settings.minimum_gain)
        state.epoch += 1
        parts = {"network": network, "average": average, "optimizer": optimizer}
        state.learning = {name: part.state_dict() for name, part in parts.items()}
        _save(fabric, task, state)
        show({"doing": "epoch", **row})


def _finish(fabric: Any, task: Task, network: Network, state: State) -> None:
    judge = probabilities(fabric, network, task.photos, task.judge, task.views)
    ask = probabilities(fabric, network, task.photos, task.ask, task.views)
    ask = ask.reshape(len(task.views), len(task.ask), task.labels)  # where there are no photos to ask, too
    result: dict[str, Any] = {"stage": state.best_stage, "log_loss": state.best_loss}
    if task.recipe.augment.stressed_validation:
        result["stressed_accuracy"] = _stressed_accuracy(fabric, task, network)
    if not fabric.is_global_zero:
        return
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    with replacing(task.folder / "network.safetensors") as temporary:
        temporary.write_bytes(to_bytes(tensors))
    checkpoint.write_history(task.folder / "history.csv", state.history)
    with replacing(task.folder / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, judge=judge, ask=ask)
    write_json(task.folder / "result.json", result)
    (task.folder / "checkpoint.pt").unlink(missing_ok=True)


def _stressed_accuracy(fabric: Any, task: Task, network: Network) -> float:
    """Accuracy on strongly augmented copies of the validation photos, the same for every network."""
    network.eval()
    right = 0
    for rows in np.array_split(np.arange(len(task.judge)), math.ceil(len(task.judge) / BATCH)):
        photos = np.stack([task.photos[int(index)] for index in task.judge[rows]])
        copies = stressed(torch.from_numpy(photos), task.recipe.seed + int(rows[0]))
        with torch.no_grad(), fabric.autocast():
            answers = network(copies.to(fabric.device)).argmax(-1).cpu().numpy()
        right += int(np.sum(answers == task.truth[rows]))
    return right / len(task.judge)


def _batches(fabric: Any, task: Task, seed: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """This process's batches of one epoch. The order follows from the seed alone."""
    transform = augmentation(task.recipe.augment.strength, task.member.size)
    photos = LearningPhotos(task.photos, task.learn, task.targets, transform, seed)
    size = max(_batch_size(task) // fabric.world_size, 2)
    sampler: Sampler[int]
    if fabric.world_size > 1:
        sampler = DistributedSampler(photos, fabric.world_size, fabric.global_rank, seed=seed)
    else:
        sampler = RandomSampler(photos, generator=torch.Generator().manual_seed(seed))
    workers = loader_workers(fabric.device.type == "cpu")
    whole = math.ceil(len(photos) / fabric.world_size) > size  # a batch norm needs more than one photo
    return DataLoader(photos, size, sampler=sampler, num_workers=workers, drop_last=whole)


def _batch_size(task: Task) -> int:
    return task.member.batch_size or task.recipe.training.batch_size


def _optimizer(settings: TrainingSettings, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["full_rate"] = group["lr"]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups)


def _set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * factor


def _loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)


def _row(share: float, epoch: int, loss: float, logits: Tensor, truth: Indices, started: float) -> Row:
    """An epoch's line in the history; log loss and accuracy are of the validation photos."""
    answers = torch.from_numpy(truth)
    return {
        "stage": share,
        "epoch": epoch,
        "loss": loss,
        "log_loss": nn.functional.cross_entropy(logits, answers).item(),
        "accuracy": (logits.argmax(-1) == answers).float().mean().item(),
        "seconds": round(time.monotonic() - started, 2),
    }


def _save(fabric: Any, task: Task, state: State) -> None:
    if fabric.is_global_zero:
        checkpoint.save(task.folder / "checkpoint.pt", state)
    fabric.barrier()
