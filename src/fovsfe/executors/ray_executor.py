"""The networks of a round, each a task of a Ray cluster that a lost machine's neighbour goes on with."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from fovsfe.errors import FovsfeError
from fovsfe.executors.ray_cluster import (
    as_fovsfe_error,
    connected,
    exclusive,
    on_each_machine,
    on_this_machine,
    shared_folder,
    worker_resources,
)
from fovsfe.files import atomic_path
from fovsfe.recipe import MemberSettings
from fovsfe.run import Run
from fovsfe.storage.folders import downloaded, synced_folder
from fovsfe.storage.locations import is_url
from fovsfe.training.device import tune_malloc
from fovsfe.training.loop import TrainingTask, cache_features, fastest_precision_for, train_network

Event = dict[str, Any]
Tell = Callable[[str, Event], None]

RETRIES = 20  # of one network, each from its last epoch, when its machine or process is lost
SECONDS_TO_STOP = 15.0  # in which stopped networks put what they have where the run is
SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_BETWEEN_STEPS = 0.5  # of one network that are told

_SHARE = "it must lie at a URL or in a folder that all machines share"


@dataclass(frozen=True)
class RayExecutor:
    """The cluster that this process has joined, for one run."""

    place: str
    """the run's URL, or its folder on a file system that all machines share"""

    def fastest_precision(self, member: MemberSettings) -> str:
        """As `training.fastest_for`, on a machine where networks are trained."""
        function = ray.remote(fastest_precision_for).options(**worker_resources(1).options)
        try:
            return str(ray.get(function.remote(member)))
        except RayError as error:
            raise as_fovsfe_error(error) from error

    def train(
        self, tasks: Mapping[str, TrainingTask], later: Sequence[float], root: Path, tell: Tell
    ) -> None:
        """Trains every task's network and leaves its folder as `run_task` does.

        Args:
            tasks: by the network's name, in the order in which they begin.
            later: the members' shares of time of all networks of the rounds still to come.
            root: the run's folder on this machine.
            tell: is told each network's name with its events: those of `run_task`, "decoding" (done, of),
                "say" (text), "begin" (where) and "end".

        Raises:
            FovsfeError: as `run_task` does; a machine does not see the run or the photos; or a network was
                lost too often.
        """
        each = worker_resources(len(tasks))
        weights = [task.time_share for task in tasks.values()]
        ear = ray.remote(_EventQueue).options(num_cpus=0, scheduling_strategy=on_this_machine()).remote()
        options = {**each.options, "max_retries": RETRIES}
        waiting: dict[Any, str] = {}
        told: set[tuple[Any, ...]] = set()
        for (name, task), share in zip(tasks.items(), time_shares(weights, later, each.slots), strict=True):
            at = f"{self.place}/{task.folder.relative_to(root).as_posix()}"
            network = _RemoteNetwork(
                name, replace(task, time_share=share), self.place, at, _on_any_clock(task.deadline)
            )
            waiting[ray.remote(_train).options(name=name, **options).remote(network, each.cpus, ear)] = name
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=SECONDS_BETWEEN_LOOKS)
                for name, event in ray.get(ear.take.remote()):
                    key = (name, *(event.get(part) for part in ("doing", "stage", "epoch")))
                    if event["doing"] == "epoch" and key in told:
                        continue  # learned again by the machine that took over
                    told.add(key)
                    tell(name, event)
                for reference in done:
                    ray.get(reference)
                    _bring(tasks[waiting.pop(reference)].folder, self.place, root)
        except BaseException as error:
            _stop(list(waiting))
            if isinstance(error, RayError):
                raise as_fovsfe_error(error) from error
            raise

    def forget(self) -> None:
        """Removes what the machines kept for this run."""
        each = [
            ray.remote(_forget).options(num_cpus=0, scheduling_strategy=machine).remote(self.place)
            for machine in on_each_machine()
        ]
        ray.wait(each, num_returns=len(each), timeout=SECONDS_TO_STOP)


@contextmanager
def ray_executor(address: str, place: str) -> Iterator[RayExecutor]:
    """Joins the cluster at `address` for the run at `place`; see `nodes.joined`."""
    with connected(address):
        yield RayExecutor(place if is_url(place) else str(Path(place).resolve()))


def time_shares(now: Sequence[float], later: Sequence[float], slots: int) -> list[float]:
    """The part of the time left that each network gets when it begins, `slots` of them at a time.

    Args:
        now: the members' shares, a network each, in the order in which they begin.
        later: the same of the rounds that follow.
    """

    def waves(shares: Sequence[float]) -> list[float]:
        return [max(shares[start : start + slots]) for start in range(0, len(shares), slots)]

    mine, after = waves(now), sum(waves(later))
    return [share / (sum(mine[number // slots :]) + after) for number, share in enumerate(now)]


@dataclass(frozen=True)
class _RemoteNetwork:
    """What a machine needs to know of one network."""

    name: str
    task: TrainingTask
    run: str
    place: str  # of the network's folder
    deadline: float | None  # time.time seconds: the clocks of a cluster agree


class _EventQueue:
    """Keeps what networks tell until the one who asks takes it."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, Event]] = []

    def tell(self, name: str, event: Event) -> None:
        self._heard.append((name, event))

    def take(self) -> list[tuple[str, Event]]:
        heard, self._heard = self._heard, []
        return heard


def _on_any_clock(deadline: float | None) -> float | None:
    return None if deadline is None else time.time() + deadline - time.monotonic()


def _on_this_clock(deadline: float | None) -> float | None:
    return None if deadline is None else time.monotonic() + deadline - time.time()


# ---- on a machine of the cluster


def _train(network: _RemoteNetwork, threads: int, ear: Any) -> None:
    torch.set_num_threads(threads)
    tune_malloc()
    told = 0.0

    def show(event: Event) -> None:
        nonlocal told
        if event["doing"] in ("step", "features", "decoding"):
            if time.monotonic() < told + SECONDS_BETWEEN_STEPS:
                return
            told = time.monotonic()
        ear.tell.remote(network.name, event)

    show({"doing": "begin", "where": socket.gethostname()})
    _check_sight(network)
    node = shared_folder(network.run)
    # A worker that was taken for lost may still be at it here.
    with exclusive(node / sha256(network.place.encode()).hexdigest()[:16]):
        with synced_folder(network.place, lambda text: show({"doing": "say", "text": text})) as folder:
            if not (folder / "result.json").exists():  # of a worker that was lost at its very end
                train_network(_prepared(network, folder, node, show), 1, show)
        if is_url(network.place):
            shutil.rmtree(folder)
    # Waiting for this one means that all before it have been heard.
    ray.get(ear.tell.remote(network.name, {"doing": "end"}))


def _check_sight(network: _RemoteNetwork) -> None:
    where, root = socket.gethostname(), network.task.photos.root
    if not is_url(network.run) and not Run(Path(network.run)).arguments.exists():
        raise FovsfeError(
            f"{where} does not see {network.run}; let the run lie at a URL or in a shared folder"
        )
    if not root.exists():
        raise FovsfeError(f"{where} does not see {root}; {_SHARE}")


def _prepared(
    network: _RemoteNetwork, folder: Path, node: Path, show: Callable[[Event], None]
) -> TrainingTask:
    """The task with its paths on this machine, where photos are decoded and features are made but once."""
    task = network.task
    height, width = task.member.size
    file, features = node / f"{height}x{width}.bin", node / f"{task.member.title}.features"
    with exclusive(file):
        limit = task.recipe.photos.cache_gb * 1e9
        photos = task.photos.cached(
            file, limit, lambda done, of: show({"doing": "decoding", "done": done, "of": of})
        )
    deadline = _on_this_clock(network.deadline)
    task = replace(task, folder=folder, photos=photos, features=features, deadline=deadline)
    with exclusive(features):
        cache_features(task, show)
    return task


def _forget(place: str) -> None:
    shutil.rmtree(shared_folder(place), ignore_errors=True)


# ---- at the one who asked


def _bring(folder: Path, place: str, root: Path) -> None:
    """Brings a finished network's folder here, result.json last."""
    name = folder.relative_to(root).as_posix()
    if is_url(place):
        with downloaded(f"{place}/{name}") as there:
            files = sorted(there.iterdir(), key=lambda file: file.name == "result.json")
            for file in files:
                with atomic_path(folder / file.name) as temporary:
                    shutil.copyfile(file, temporary)
        (folder / "checkpoint.pt").unlink(missing_ok=True)  # of an earlier session
    if not (folder / "result.json").exists():
        raise FovsfeError(f"{place} is not the same folder on all machines; let the run lie at a URL")


def _stop(references: list[Any]) -> None:
    """Lets the networks put what they have where the run is, and ends them."""
    for reference in references:
        ray.cancel(reference)
    ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_STOP)
    for reference in references:
        ray.cancel(reference, force=True)
