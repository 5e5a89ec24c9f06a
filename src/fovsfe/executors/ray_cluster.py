"""Joins a Ray cluster, divides its resources, and gives each of its machines a folder for shared files."""

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

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.storage.locations import cache_root

CONNECT_SECONDS = 5.0  # to reach the head node; Ray itself tries for minutes and then ends the process


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Joins a Ray cluster for the length of the block.

    Args:
        address: HOST:PORT or ray://HOST:PORT; "auto" for the cluster that this machine is part of or that
            RAY_ADDRESS names; "local" for a new one on this machine alone, which ends with the block.

    Raises:
        FovsfeError: the cluster cannot be reached.
        UsageError: `address` is not an address.
    """
    if address not in ("auto", "local"):
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # or Ray warns that this will be the default
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


def _check_reachable(address: str) -> None:
    """Raises UsageError if `address` is not an address, and FovsfeError if nothing answers there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--cluster {address}: must be auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise FovsfeError(f"--cluster {address}: nothing answers there: {error}") from error


@dataclass(frozen=True)
class TaskResources:
    """The resources that each of several equal tasks gets, and how many of the tasks run at a time."""

    cpus: int
    gpus: int
    slots: int

    @property
    def options(self) -> dict[str, Any]:
        """The resources as options of a Ray task or actor."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def task_resources(tasks: int) -> TaskResources:
    """Returns what each of `tasks` equal tasks gets of the cluster, as `split_resources` divides it.

    Raises FovsfeError if no machine of the cluster has a CPU.
    """
    machines = [node["Resources"] for node in _alive_nodes()]
    if not any(machine.get("CPU", 0) >= 1 for machine in machines):
        raise FovsfeError("no machine of the cluster has a CPU; start one: ray start --address HEAD")
    return split_resources(machines, tasks)


def split_resources(machines: Sequence[dict[str, float]], tasks: int) -> TaskResources:
    """Returns what each of `tasks` equal tasks gets of some machines.

    If a machine has a GPU, it is one GPU and the CPUs that go with it. Otherwise it is as many CPUs as all
    tasks can have at the same time, at least one and at most those of one machine.

    Args:
        machines: the resources of each machine by Ray's names, such as {"CPU": 16.0, "GPU": 4.0}.
        tasks: the number of tasks.
    """
    if gpu_machines := [machine for machine in machines if machine.get("GPU", 0) >= 1]:
        cpus = max(min(int(machine.get("CPU", 0) // machine["GPU"]) for machine in gpu_machines), 1)
        return TaskResources(cpus, 1, sum(int(machine["GPU"]) for machine in gpu_machines))
    cores = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    cpus = max(min(sum(cores) // max(tasks, 1), max(cores, default=1)), 1)
    return TaskResources(cpus, 0, max(sum(count // cpus for count in cores), 1))


def cores() -> int:
    """Returns the number of CPUs of all machines of the cluster."""
    return sum(int(node["Resources"].get("CPU", 0)) for node in _alive_nodes())


def on_this_machine() -> NodeAffinitySchedulingStrategy:
    """Returns the scheduling strategy of an actor that must run beside this process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def on_each_machine() -> list[NodeAffinitySchedulingStrategy]:
    """Returns a scheduling strategy for each machine of the cluster."""
    return [NodeAffinitySchedulingStrategy(node["NodeID"], soft=True) for node in _alive_nodes()]


def _alive_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def shared_folder(key: str) -> Path:
    """Returns the folder of this machine that all processes with the same `key`, such as a run's, share.

    It is created if it does not exist.
    """
    folder = cache_root() / "nodes" / sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_lock(file: Path) -> FileLock:
    """Returns a lock: inside its `with` block, no other process of this machine makes `file`."""
    return FileLock(file.with_name(f"{file.name}.lock"))


def as_fovsfe_error(error: RayError) -> FovsfeError:
    """Returns the FovsfeError or UsageError that a task raised, or any other failure of it in one line."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, FovsfeError):
        return type(error.cause)(str(error.cause))
    text = str(error)
    for line in reversed(text.splitlines()):  # Ray has only the traceback if an actor failed as it started
        name, _, message = line.strip().partition(": ")
        for error_class in (FovsfeError, UsageError):
            if name in (f"{error_class.__module__}.{error_class.__name__}", error_class.__name__):
                return error_class(message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if isinstance(error, RayTaskError) and lines else " ".join(lines)
    return FovsfeError(f"a task failed on the cluster: {last[:300]}; the same command resumes")
