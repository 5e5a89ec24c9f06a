"""Trains networks on the machines of a Ray cluster; if one is lost, another resumes its networks."""

import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from fovsfe.context import RunContext
from fovsfe.errors import FovsfeError
from fovsfe.executors.ray_cluster import (
    TaskResources,
    as_fovsfe_error,
    connected,
    file_lock,
    on_each_machine,
    on_this_machine,
    shared_folder,
    task_resources,
)
from fovsfe.executors.tasks import build_task, network_folder, time_weights, with_cached_photos
from fovsfe.files import atomic_path
from fovsfe.machine import keep_freed_memory
from fovsfe.recipe import MemberSettings
from fovsfe.run import Run
from fovsfe.storage.folders import downloaded, synced_folder
from fovsfe.storage.locations import is_url
from fovsfe.training.launch import cache_features, fastest_precision, train_network
from fovsfe.training.schedule import time_shares
from fovsfe.training.task import CHECKPOINT, RESULT, Event, NetworkKey, OnEvent, OnNetworkEvent, TrainingTask

RETRIES = 20  # of one network, each from its last epoch, when its machine or process is lost
STOP_SECONDS = 15.0  # in which stopped networks upload what they have
POLL_SECONDS = 0.3
SECONDS_BETWEEN_STEPS = 0.5  # of one network's events


@dataclass(frozen=True)
class RayExecutor:
    """The cluster that this process has joined, for one run."""

    location: str
    """the run's URL, or its folder on a file system that all machines share"""
    where: str = "the cluster"

    def fastest_precision(self, member: MemberSettings) -> str:
        """See `Executor`."""
        remote = ray.remote(fastest_precision).options(**task_resources(1).options)
        try:
            return str(ray.get(remote.remote(member)))
        except RayError as error:
            raise as_fovsfe_error(error) from error

    def train(
        self,
        context: RunContext,
        keys: Sequence[NetworkKey],
        precisions: Sequence[str],
        later_time_weights: Sequence[float],
        on_event: OnNetworkEvent,
    ) -> None:
        """See `Executor`; FovsfeError, too, if a machine does not see the run or the photos, or a network was
        lost too often."""
        # A member's first fold makes the features that all of its folds use.
        keys = sorted(keys, key=lambda key: key.fold)
        resources = task_resources(len(keys))
        shares = time_shares(time_weights(context, keys), later_time_weights, resources.slots)
        with context.run.stopwatch.step(f"train round {keys[0].round_index}"):
            events = _EventQueue(on_event)
            waiting = {
                self._submit(
                    replace(build_task(context, key, precisions[key.member_index]), time_share=share),
                    resources,
                    events,
                ): key
                for key, share in zip(keys, shares, strict=True)
            }
            try:
                while waiting:
                    done, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                    events.deliver()
                    for reference in done:
                        ray.get(reference)
                        _bring_here(
                            network_folder(context, waiting.pop(reference)), context.run, self.location
                        )
            except BaseException as error:
                _stop(list(waiting))
                if isinstance(error, RayError):
                    raise as_fovsfe_error(error) from error
                raise

    def _submit(self, task: TrainingTask, resources: TaskResources, events: "_EventQueue") -> Any:
        """Starts a training; returns its reference in Ray."""
        remote = ray.remote(_train).options(name=task.name, max_retries=RETRIES, **resources.options)
        folder = f"{self.location}/{task.folder.relative_to(task.key.run).as_posix()}"
        remote_task = _RemoteTask(task, self.location, folder, _to_wall_clock(task.deadline))
        return remote.remote(remote_task, resources.cpus, events.handle)

    def clean_up(self) -> None:
        """Removes what the machines kept for this run."""
        references = [
            ray.remote(_forget).options(num_cpus=0, scheduling_strategy=machine).remote(self.location)
            for machine in on_each_machine()
        ]
        ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


@contextmanager
def ray_executor(address: str, location: str) -> Iterator[RayExecutor]:
    """Joins the cluster at `address` for the run at `location`; see `ray_cluster.connected`."""
    with connected(address):
        yield RayExecutor(location if is_url(location) else str(Path(location).resolve()))


@dataclass(frozen=True)
class _RemoteTask:
    """What a machine needs to know of one network."""

    task: TrainingTask
    run: str
    """the run's location"""
    location: str
    """the location of the network's folder"""
    deadline: float | None
    """in seconds of time.time: the clocks of a cluster agree"""


class _EventQueue:
    """Brings the events of networks from their machines to this process."""

    def __init__(self, on_event: OnNetworkEvent) -> None:
        actor = ray.remote(_EventActor).options(num_cpus=0, scheduling_strategy=on_this_machine())
        self.handle = actor.remote()
        self._on_event = on_event
        self._delivered: set[tuple[Any, ...]] = set()

    def deliver(self) -> None:
        """Delivers what has come in."""
        for name, event in ray.get(self.handle.take.remote()):
            key = (name, *(event.get(part) for part in ("type", "layer_share", "epoch")))
            if event["type"] == "epoch" and key in self._delivered:
                continue  # trained again by the machine that took over
            self._delivered.add(key)
            self._on_event(name, event)


class _EventActor:
    """Keeps events until they are taken."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []

    def put(self, name: str, event: Event) -> None:
        self._events.append((name, event))

    def take(self) -> list[tuple[str, Event]]:
        events, self._events = self._events, []
        return events


def _to_wall_clock(deadline: float | None) -> float | None:
    return None if deadline is None else time.time() + deadline - time.monotonic()


def _to_monotonic_clock(deadline: float | None) -> float | None:
    return None if deadline is None else time.monotonic() + deadline - time.time()


# ---- on a machine of the cluster


def _train(remote: _RemoteTask, threads: int, events: Any) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    name, last_sent = remote.task.name, 0.0

    def on_event(event: Event) -> None:
        nonlocal last_sent
        if event["type"] in ("step", "features", "caching"):
            if time.monotonic() < last_sent + SECONDS_BETWEEN_STEPS:
                return
            last_sent = time.monotonic()
        events.put.remote(name, event)

    def notify(text: str) -> None:
        on_event({"type": "message", "text": text})

    on_event({"type": "begin", "machine": socket.gethostname()})
    _check_visible(remote)
    machine_folder = shared_folder(remote.run)
    # A task that was taken for lost may still run here.
    with file_lock(machine_folder / sha256(remote.location.encode()).hexdigest()[:16]):
        with synced_folder(
            remote.location, lambda text: on_event({"type": "message", "text": text})
        ) as folder:
            task = replace(remote.task, folder=folder)
            if not task.result.exists():  # of a task that was lost at its very end
                train_network(_prepared(remote, task, machine_folder, on_event), on_event)
        if is_url(remote.location):
            shutil.rmtree(folder)
    # Waiting for this one means that all before it have come in.
    ray.get(events.put.remote(name, {"type": "end"}))


def _check_visible(remote: _RemoteTask) -> None:
    host, root = socket.gethostname(), remote.task.photos.root
    if not is_url(remote.run) and not Run(Path(remote.run)).arguments_file.exists():
        raise FovsfeError(f"{host} does not see {remote.run}; let the run lie at a URL or in a shared folder")
    if not root.exists():
        raise FovsfeError(
            f"{host} does not see {root}; it must lie at a URL or in a folder that all machines share"
        )


def _prepared(
    remote: _RemoteTask, task: TrainingTask, machine_folder: Path, on_event: OnEvent
) -> TrainingTask:
    """Returns the task with its caches on this machine, where they are made but once for all networks."""
    task = replace(
        task,
        photo_cache=machine_folder / task.photo_cache.name,
        feature_cache=machine_folder / task.feature_cache.name,
        deadline=_to_monotonic_clock(remote.deadline),
    )
    with file_lock(task.photo_cache):
        task = with_cached_photos(task, on_event)
    with file_lock(task.feature_cache):
        cache_features(task, on_event)
    return task


def _forget(location: str) -> None:
    shutil.rmtree(shared_folder(location), ignore_errors=True)


# ---- where the run is


def _bring_here(folder: Path, run: Run, location: str) -> None:
    """Brings a trained network's folder to this machine, result.json last."""
    result = folder / RESULT
    if is_url(location):
        with downloaded(f"{location}/{folder.relative_to(run.root).as_posix()}") as there:
            for file in sorted(there.iterdir(), key=lambda file: file.name == RESULT):
                with atomic_path(folder / file.name) as temporary:
                    shutil.copyfile(file, temporary)
        (folder / CHECKPOINT).unlink(missing_ok=True)  # of an earlier session
    if not result.exists():
        raise FovsfeError(f"{location} is not the same folder on all machines; let the run lie at a URL")


def _stop(references: Sequence[Any]) -> None:
    """Lets the networks upload what they have, and ends them."""
    for reference in references:
        ray.cancel(reference)
    ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)
    for reference in references:
        ray.cancel(reference, force=True)
