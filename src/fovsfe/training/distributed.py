"""The processes that torchrun or SLURM started, which train one network together.

The first process, rank 0, runs the whole pipeline, so audit, blends, export and report happen once. Between
trainings, the other ranks wait at the launcher's store, which costs nothing and has no time limit; in a
training all of them meet in the collectives of torch.distributed.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from fovsfe.errors import FovsfeError

Message = dict[str, Any]
"""plain data, as JSON has it"""

RENDEZVOUS_TIMEOUT = timedelta(minutes=10)  # for all processes to be there
COLLECTIVE_TIMEOUT = timedelta(hours=1)
LEAVE_SECONDS = 60.0  # that a process which ends waits for the others to have heard of it
_POLL_SECONDS = 0.1  # in a blocking wait, Ctrl-C would not be noticed


@contextmanager
def joined_process_group() -> Iterator["ProcessGroup | None"]:
    """Joins the other processes of a launcher for the length of the block; None if there is no launcher.

    Raises:
        FovsfeError: processes are missing, or this one fails in a way that the first cannot tell of.
    """
    environment = _launcher_environment()
    if environment is None:
        yield None
        return
    process_group = ProcessGroup(environment)
    try:
        yield process_group
        process_group.leave(None)
    except BaseException as error:
        process_group.leave(error)
        raise


def _launcher_environment() -> Any:
    """What torchrun or srun says of this process and the others; None if it is the only one."""
    try:
        kinds = [TorchElasticEnvironment, SLURMEnvironment]  # torchrun may run in a SLURM job
        environment = next((kind() for kind in kinds if kind.detect()), None)
    except RuntimeError as error:  # Fabric counts by this
        raise FovsfeError("a SLURM job needs --ntasks-per-node (and --nodes) instead of --ntasks") from error
    return environment if environment is not None and environment.world_size() > 1 else None


class ProcessGroup:
    """This process among those of a launcher; they exchange messages at the launcher's store."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.rank, self.size = environment.global_rank(), environment.world_size()
        local_size = "LOCAL_WORLD_SIZE" if "LOCAL_WORLD_SIZE" in os.environ else "SLURM_NTASKS_PER_NODE"
        self.processes_per_node = int(os.environ[local_size])
        self.name = f"process {self.rank} on {socket.gethostname()}"
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        try:
            store, _, _ = next(rendezvous("env://", self.rank, self.size, timeout=RENDEZVOUS_TIMEOUT))
            store.set_timeout(RENDEZVOUS_TIMEOUT)
            distributed.init_process_group(
                backend, store=store, rank=self.rank, world_size=self.size, timeout=COLLECTIVE_TIMEOUT
            )
            if backend == "gloo":
                distributed.barrier()  # connects all, so that each notices when another goes
        except (RuntimeError, ValueError) as error:
            raise FovsfeError(
                f"not all {self.size} processes met at {environment.main_address}:{environment.main_port}"
                f" ({_first_line(error)}); in a SLURM job, start fovsfe with srun"
            ) from error
        self._store = PrefixStore("fovsfe", store)
        self._messages = 0

    @property
    def is_first(self) -> bool:
        """Whether this process runs the pipeline; the other ranks only train along."""
        return bool(self.rank == 0)

    def send(self, message: Message) -> None:
        """Sends a message from the first process to the other ranks, and waits until each has replied.

        Raises:
            FovsfeError: with the words of a rank that cannot do what the message asks for.
        """
        key = f"message {self._messages}"
        self._store.set(key, json.dumps(message))
        for rank in range(1, self.size):
            if objection := self._wait_for(f"{key}: {rank}").decode():
                raise FovsfeError(objection)
        self._store.set(f"{key}: begin", "")
        self._messages += 1

    def receive(self) -> Message | None:
        """Returns the next message for this rank; None if there will be no more. Answer it with `reply`."""
        message: Message | None = json.loads(self._wait_for(f"message {self._messages}"))
        return message

    def reply(self, objection: str = "") -> None:
        """Tells the first process what keeps this rank from the message's work, if anything.

        Returns once all of them can begin."""
        key = f"message {self._messages}"
        self._store.set(f"{key}: {self.rank}", f"{self.name} {objection}" if objection else "")
        self._wait_for(f"{key}: begin")
        self._messages += 1

    def run_together(self, work: Callable[[], None]) -> None:
        """Does work that meets the other processes. Raises FovsfeError with the words of one that failed."""
        try:
            work()
        except RuntimeError as error:  # so a collective ends when another process is gone
            if failure := self._failure_of_another():
                raise FovsfeError(failure) from error
            if isinstance(error, distributed.DistError) or "onnection" in str(error):
                raise FovsfeError(
                    f"{self.name} lost another process ({_first_line(error)}); fovsfe resume goes on from"
                    " the last epoch"
                ) from error
            raise

    def leave(self, error: BaseException | None) -> None:
        """Leaves the group. The first process tells of an error, whoever has it; another rank exits."""
        if error is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # launchers send a second one
        with suppress(RuntimeError):  # without a store there is nobody to tell
            if error is not None:
                self._store.compare_set("failure", "", f"{self.name}: {_first_line(error)}")
            if self.is_first:
                self._store.set(f"message {self._messages}", json.dumps(None))
        with suppress(RuntimeError):
            distributed.destroy_process_group()  # which ends the collectives that the others are in
        with suppress(RuntimeError):
            if self.is_first:
                self._store.set("heard", "")
                others = self.size - 1  # are waited for: this process may hold the store
                _wait_until(lambda: self._store.add("left", 0) == others, LEAVE_SECONDS)
                return
            heard = error is None or _wait_until(lambda: self._store.check(["heard"]), LEAVE_SECONDS)
            self._store.add("left", 1)
            if error is not None and heard and not os.environ.get("FOVSFE_DEBUG"):
                raise SystemExit(0) from error  # with another code, launchers stop the first before it tells

    def _wait_for(self, key: str) -> bytes:
        """Returns what stands at a key, once it does. Raises FovsfeError if a process fails before."""
        try:
            while not self._store.check([key]):
                if failure := self._failure():
                    raise FovsfeError(failure)
                time.sleep(_POLL_SECONDS)
            return bytes(self._store.get(key))
        except RuntimeError as error:
            raise FovsfeError(f"{self.name} lost the first process ({_first_line(error)})") from error

    def _failure(self) -> str:
        """The words of the process that failed first; empty if none has."""
        return str(self._store.get("failure").decode()) if self._store.check(["failure"]) else ""

    def _failure_of_another(self) -> str:
        with suppress(RuntimeError):
            # The connection may break before the words come.
            _wait_until(lambda: self._store.check(["failure"]), 2.0)
            return self._failure()
        return ""


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until the condition holds, for so many seconds at most; returns whether it does."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return holds


def _first_line(error: BaseException) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, FovsfeError) else f"{type(error).__name__}: {line}"
