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
from fovsfe.learning import checkpoint, xla
from fovsfe.learning.checkpoint import Row, State
from fovsfe.learning.device import fastest_precision, feed, loading, make_fabric, on_xla, placed
from fovsfe.learning.features import BATCH, Features, Indices, frozen_features, outputs, probabilities
from fovsfe.learning.pace import Pace, rate_factor, share_of
from fovsfe.learning.team import current
from fovsfe.networks.layers import head_groups, open_stage, parameter_groups, set_training
from fovsfe.networks.network import Network, build
from fovsfe.photos.augment import augmentation, mixing, stressed
from fovsfe.photos.dataset import FittedPhotos, LearningPhotos
from fovsfe.photos.order import EpochOrder
from fovsfe.recipe import Member, Recipe, TrainingSettings
from fovsfe.run import replacing, write_json

Show = Callable[[dict[str, Any]], None]

HEAD_SECONDS = 2.0  # that a head learns also where time is up: without, its answers would spoil every blend


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

    In a team, its processes train along, whatever `devices` says. Goes on from the checkpoint of an
    interrupted training. Raises FovsfeError as `networks.build` does, where the folder cannot be written, and
    where another process of the team fails.
    """
    train = partial(_train, task=task, show=show)  # as arguments, Fabric would unfreeze a task
    if (team := current()) is not None:
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


def fastest_for(member: Member) -> str:
    """`device.fastest_precision` of a member's network, "fp32" or "bf16"."""
    return fastest_precision(build(member.backbone, member.size, member.head, 2, "none"), member.size)


def make_features(task: Task, show: Show) -> None:
    """Leaves in `task.features` what `run_task` would make itself, unless the training is past its need."""
    if 0 in task.recipe.training.stages and not (task.folder / "checkpoint.pt").exists():
        fabric = make_fabric(1, task.precision)
        _frozen(fabric, task, _network(fabric, task), show)


def _network(fabric: Any, task: Task) -> Network:
    # Without weights, too, a member starts alike in every fold and round: they share its cached features.
    torch.manual_seed(task.recipe.seed + task.member.seed)
    network = build(task.member.backbone, task.member.size, task.member.head, task.labels, task.weights)
    if on_xla(fabric.device):
        xla.expect_variances(network)
    return network.to(fabric.device)


def _train(fabric: Any, task: Task, show: Show) -> None:
    if not fabric.is_global_zero:
        show = _not_told
    network = _network(fabric, task)
    state = checkpoint.load(task.folder / "checkpoint.pt")
    end: float | None = None
    stages = task.recipe.training.stages
    for number in range(state.stage, len(stages)):
        if state.best:
            network.load_state_dict(state.best)
        frozen = _frozen(fabric, task, network, show) if stages[number] == 0 else None
        end = end or _training_end(fabric, task, network)
        deadline = share_of(end, 1 / (len(stages) - number))
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
            " training.rate or training.head_rate and start anew"
        )
    network.load_state_dict(state.best)
    _finish(fabric, task, network, state)
    fabric.barrier()


def _not_told(event: dict[str, Any]) -> None:
    """The first process tells what all do."""


def _frozen(fabric: Any, task: Task, network: Network, show: Show) -> Features:
    def tick(done: int, of: int) -> None:
        show({"doing": "features", "done": done, "of": of})

    return frozen_features(fabric, network, task.photos, task.features, tick)


def _training_end(fabric: Any, task: Task, network: Network) -> float | None:
    """The end of the task's share of time, less what the predictions at the end will take."""
    end = share_of(task.deadline, task.share)
    if end is None:
        return None
    some = np.resize(task.judge, 16)
    if on_xla(fabric.device):
        some = np.resize(task.judge, BATCH)
        outputs(fabric, network, network, task.photos, some, "plain")  # compiles
    before = time.monotonic()
    outputs(fabric, network, network, task.photos, some, "plain")
    a_photo = (time.monotonic() - before) / len(some) / fabric.world_size
    photos = len(task.views) * (len(task.judge) + len(task.ask))
    return float(end - a_photo * photos)


def _head_stage(
    fabric: Any,
    task: Task,
    network: Network,
    frozen: Features,
    state: State,
    deadline: float | None,
    show: Show,
) -> None:
    """The head alone, on features that the frozen backbone gave once. Every process learns the same."""
    settings = task.recipe.training
    head = network.head
    device = next(head.parameters()).device
    average = ModelEmaV3(head, decay=settings.ema, use_warmup=True)
    optimizer = _optimizer(settings, head_groups(network, settings.head_rate, settings.weight_decay))
    generator = torch.Generator().manual_seed(task.seed)
    batches = max(len(task.learn) // _batch_size(task), 1)  # a batch norm needs more than one odd photo
    pace = Pace(fabric, settings.head_epochs * batches, deadline)
    torch.manual_seed(task.seed)  # dropout must not depend on whether the features were there already
    for epoch in range(settings.head_epochs):
        started = time.monotonic()
        head.train()
        mirrored = torch.randint(2, (len(task.learn),), generator=generator).numpy().astype(np.bool_)
        losses: list[float] = []
        order = torch.randperm(len(task.learn), generator=generator).tensor_split(batches)
        for step, chosen in enumerate(order, epoch * batches):
            rows = chosen.numpy()
            progress = pace.progress(step)
            if progress >= 1 and (state.best or losses):
                break
            _set_rates(optimizer, rate_factor(progress, settings.warmup))
            seen = frozen.rows(task.learn[rows], mirrored[rows]).to(device)
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
        row = _row(0.0, epoch, float(np.mean(losses)), logits, task.truth, started)
        state.note(row, network.state_dict() | learned, settings.minimum_gain)
        show({"doing": "epoch", **row})
        if state.idle >= settings.patience:
            return


@torch.no_grad()
def _head_logits(task: Task, head: nn.Module, frozen: Features) -> Tensor:
    """(judge, labels) on the CPU: a head's answers for the photos that validate."""
    head.eval()
    device = next(head.parameters()).device
    some = np.array_split(task.judge, math.ceil(len(task.judge) / BATCH))
    plain = np.zeros(len(task.judge), np.bool_)
    return torch.cat([head(frozen.rows(rows, plain[: len(rows)]).to(device)).cpu() for rows in some])


@dataclass(frozen=True)
class _Learner:
    """A stage under way: the network, its average, and what moves them."""

    fabric: Any
    task: Task
    share: float
    network: Network
    wrapped: nn.Module
    average: ModelEmaV3
    optimizer: Any
    pace: Pace
    mix: nn.Module | None

    def epoch(self, state: State, seed: int, show: Show) -> list[Tensor]:
        """Learns from every photo once, or until the time is up; gives the loss of each step."""
        settings = self.task.recipe.training
        torch.manual_seed(seed + self.fabric.global_rank)
        if on_xla(self.fabric.device):
            xla.seed(seed)
        set_training(self.network)
        losses: list[Tensor] = []
        batches = _batches(self.fabric, self.task, seed)
        fed = feed(self.fabric, batches, self._mixed)
        for step, (photos, targets) in enumerate(fed, state.epoch * len(batches)):
            progress = self.pace.progress(step)
            if progress >= 1 and (state.best or losses):
                break
            losses.append(self._step(photos, targets, step, rate_factor(progress, settings.warmup)))
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
        _set_rates(self.optimizer, xla.rate(self.optimizer, factor) if graphs else factor)
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
    fabric: Any, task: Task, network: Network, state: State, deadline: float | None, show: Show
) -> None:
    """The head and the last share of the backbone's layers."""
    settings = task.recipe.training
    share = settings.stages[state.stage]
    open_stage(network, share)
    rates = (settings.rate, settings.layer_decay, settings.weight_decay)
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
    pace = Pace(fabric, settings.epochs * steps, deadline, state.epoch * steps)
    mix = mixing(task.recipe.augment.mixup, task.recipe.augment.cutmix)
    learner = _Learner(fabric, task, share, network, wrapped, average, optimizer, pace, mix)
    while state.epoch < settings.epochs and state.idle < settings.patience:
        started = time.monotonic()
        seed = task.seed + 1009 * (state.stage * settings.epochs + state.epoch)
        losses = learner.epoch(state, seed, show)
        if not losses:
            return  # time is up
        logits = outputs(fabric, average.module, average.module, task.photos, task.judge, "plain")
        mean_loss = float(torch.stack([loss.cpu() for loss in losses]).mean().item())
        row = _row(share, state.epoch, mean_loss, torch.from_numpy(logits), task.truth, started)
        state.note(row, average.module.state_dict(), settings.minimum_gain)
        state.epoch += 1
        state.learning = {
            name: move_data_to_device(part.state_dict(), torch.device("cpu")) for name, part in parts.items()
        }
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
            answers = network(placed(fabric, copies, BATCH)).argmax(-1).cpu().numpy()[: len(rows)]
        right += int(np.sum(answers == task.truth[rows]))
    return right / len(task.judge)


def _batches(fabric: Any, task: Task, seed: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """This process's batches of one epoch. The order follows from the seed and the photos alone."""
    transform = augmentation(task.recipe.augment.strength, task.member.size)
    photos = LearningPhotos(task.photos, task.learn, task.targets, transform, seed)
    size = max(_batch_size(task) // fabric.world_size, 2)
    order = EpochOrder(task.photos, task.learn, seed, fabric.global_rank, fabric.world_size)
    whole = len(order) > size  # a batch norm needs more than one photo
    return DataLoader(photos, size, sampler=order, drop_last=whole, **loading(fabric, task.photos))


def _batch_size(task: Task) -> int:
    return task.member.batch_size or task.recipe.training.batch_size


def _optimizer(settings: TrainingSettings, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["full_rate"] = group["lr"]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, capturable=on_xla(groups[0]["params"][0].device))


def _set_rates(optimizer: torch.optim.Optimizer, factor: float | Tensor) -> None:
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
