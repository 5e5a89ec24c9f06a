"""A Ray cluster: joining it, what its machines have, and a folder on each for what they share."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.storage.locations import cache_root

SECONDS_TO_REACH = 5.0  # the head; Ray itself tries for minutes and then ends the process


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Joins a Ray cluster for the length of the block.

    Args:
        address: HOST:PORT or ray://HOST:PORT; "auto" for the one that this machine is part of (or RAY_ADDRESS
            names); "local" for one on this machine alone, which ends with the block.

    Raises:
        FovsfeError: it cannot be reached.
        WrongUsage: `address` is none.
    """
    if address not in ("auto", "local"):
        _reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start calls nobody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it announces that it will be so
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, SystemExit) as error:
        how = "start one with: ray start --head" if address == "auto" else "is it running, with this version?"
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"--cluster {address}: no Ray cluster can be joined; {how} ({reason})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise WrongUsage(f"--cluster {address}: it is auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_REACH).close()
    except (OSError, OverflowError) as error:
        raise FovsfeError(f"--cluster {address}: nothing answers there: {error}") from error


@dataclass(frozen=True)
class WorkerResources:
    """What one of several equal pieces of work gets, and how many of them run at a time."""

    cpus: int
    gpus: int
    slots: int

    @property
    def options(self) -> dict[str, Any]:
        """The same as options of a Ray task or actor."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def worker_resources(pieces: int) -> WorkerResources:
    """A piece's part of the cluster: a GPU and its part of the CPUs where some machine has GPUs; else CPUs,
    as many as all pieces can have at a time, and at least one. Raises FovsfeError where none has a CPU."""
    machines = [node["Resources"] for node in _alive()]
    if not any(each.get("CPU", 0) >= 1 for each in machines):
        raise FovsfeError("no machine of the cluster has a CPU; start one: ray start --address HEAD")
    return split_resources(machines, pieces)


def split_resources(machines: Sequence[dict[str, float]], pieces: int) -> WorkerResources:
    """See `portion`; `machines` are the resources of each as Ray tells them."""
    if graphic := [each for each in machines if each.get("GPU", 0) >= 1]:
        cpus = max(min(int(each.get("CPU", 0) // each["GPU"]) for each in graphic), 1)
        return WorkerResources(cpus, 1, sum(int(each["GPU"]) for each in graphic))
    cores = [int(each["CPU"]) for each in machines if each.get("CPU", 0) >= 1]
    cpus = max(min(sum(cores) // max(pieces, 1), max(cores, default=1)), 1)
    return WorkerResources(cpus, 0, max(sum(each // cpus for each in cores), 1))


def cores() -> int:
    """Of all machines."""
    return sum(int(node["Resources"].get("CPU", 0)) for node in _alive())


def on_this_machine() -> NodeAffinitySchedulingStrategy:
    """Where what must live as long as this process runs."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def on_each_machine() -> list[NodeAffinitySchedulingStrategy]:
    """One a machine of the cluster."""
    return [NodeAffinitySchedulingStrategy(node["NodeID"], soft=True) for node in _alive()]


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def shared_folder(place: str) -> Path:
    """The folder of this machine for what all that work on `place` can share."""
    folder = cache_root() / "nodes" / sha256(place.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def exclusive(file: Path) -> FileLock:
    """For a `with` block in which no other process of this machine makes `file`, too."""
    return FileLock(file.with_name(f"{file.name}.lock"))


def as_fovsfe_error(error: RayError) -> Exception:
    """What a worker raised, where it is a FovsfeError; in one line what else has happened to it."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, FovsfeError):
        return FovsfeError(str(error.cause))
    text = str(error)
    for line in reversed(text.splitlines()):  # in the traceback of an actor's beginning
        kind, _, message = line.partition(": ")
        if kind.strip() in (f"{FovsfeError.__module__}.{FovsfeError.__name__}", FovsfeError.__name__):
            return FovsfeError(message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if isinstance(error, RayTaskError) and lines else " ".join(lines)
    return FovsfeError(f"the cluster's worker failed: {last[:300]}; the same command goes on where it was")
