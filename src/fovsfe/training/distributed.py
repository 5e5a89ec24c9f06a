"""The processes that torchrun or SLURM has started: the first tells the whole story, the others train along.

So audit, blends, export and report happen once. Between trainings the others wait at a store, which costs
nothing and has no time limit; in a training all meet in the collectives of torch.distributed.
"""

import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.training.device import accelerator, tune_malloc

TO_COME = timedelta(minutes=10)  # for all processes to be there
TO_MEET = timedelta(hours=1)  # in a collective of a training
TO_LEAVE = 10.0  # seconds that a process which ends waits for the others to have heard of it
PIECE = 4 << 20  # bytes of a task that the store takes at a time; it refuses more than twice as many
_POLL = 0.1  # seconds; in a blocking wait, Ctrl-C would not be noticed

_current: "ProcessGroup | None" = None


def current_process_group() -> "ProcessGroup | None":
    """The team that this process is in."""
    return _current


@contextmanager
def joined_process_group(devices: int, nodes: int) -> Iterator["ProcessGroup | None"]:
    """Joins the other processes of a launcher for the length of the block; None where there is no launcher.

    Raises:
        WrongUsage: the launcher started other numbers of `devices` (a node) or `nodes` than asked for.
        FovsfeError: processes are missing, or this one fails in a way that the first cannot tell of.
    """
    global _current
    environment = _launcher()
    if environment is None:
        if nodes > 1:
            raise WrongUsage(
                f"--nodes {nodes} needs a launcher on every node: torchrun --nnodes {nodes} ... -m fovsfe"
                " train ..., or srun in a SLURM job"
            )
        yield None
        return
    _current = team = ProcessGroup(environment)
    try:
        team._check(devices, nodes)
        yield team
        team._end(None)
    except BaseException as error:
        team._end(error)
        raise
    finally:
        _current = None


def _launcher() -> Any:
    """What torchrun or srun says of this process and the others; None where it is the only one."""
    try:
        kinds = [TorchElasticEnvironment, SLURMEnvironment]  # torchrun may run in a SLURM job
        environment = next((kind() for kind in kinds if kind.detect()), None)
    except RuntimeError as error:  # Fabric counts by this
        raise FovsfeError("a SLURM job needs --ntasks-per-node (and --nodes) instead of --ntasks") from error
    return environment if environment is not None and environment.world_size() > 1 else None


class ProcessGroup:
    """This process's place among those of a launcher."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.rank, self.size = environment.global_rank(), environment.world_size()
        of_node = "LOCAL_WORLD_SIZE" if "LOCAL_WORLD_SIZE" in os.environ else "SLURM_NTASKS_PER_NODE"
        self.devices = int(os.environ[of_node])  # of this node, and so of every node
        self._name = f"process {self.rank} on {socket.gethostname()}"
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        backend = "nccl" if accelerator() == "cuda" else "gloo"
        try:
            found = rendezvous("env://", self.rank, self.size, timeout=TO_COME)
            store, _, _ = next(found)
            store.set_timeout(TO_COME)
            distributed.init_process_group(
                backend, store=store, rank=self.rank, world_size=self.size, timeout=TO_MEET
            )
            if backend == "gloo":
                distributed.barrier()  # connects all, so that each notices when another goes
        except (RuntimeError, ValueError) as error:
            raise FovsfeError(
                f"not all {self.size} processes met at {environment.main_address}:{environment.main_port}"
                f" ({_first_line(error)}); in a SLURM job, start fovsfe with srun"
            ) from error
        self._store = PrefixStore("fovsfe", store)
        self._tasks = 0

    def _check(self, devices: int, nodes: int) -> None:
        there = {"devices": self.devices, "nodes": self.size // self.devices}
        for name, asked in {"devices": devices, "nodes": nodes}.items():
            if self.leads and asked not in (1, there[name]):
                raise WrongUsage(
                    f"--{name} {asked}, but the launcher started processes for {there[name]}; leave --{name}"
                    " out, or start as many"
                )

    @property
    def leads(self) -> bool:
        """Whether this process tells the story."""
        return bool(self.rank == 0)

    def hand_out(self, task: Any) -> None:
        """From the first process to the others: the task that they train along with. Elsewhere, does nothing.

        Raises FovsfeError where one of them does not see the run folder or cannot read the photos.
        """
        if not self.leads:
            return
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FovsfeError(f"cannot write {task.folder}: {error.strerror}") from error
        self._set(f"task {self._tasks}", task)
        for rank in range(1, self.size):
            if objection := self._wait_for(f"task {self._tasks}: {rank}").decode():
                raise FovsfeError(objection)
        self._store.set(f"task {self._tasks}: begin", "")
        self._tasks += 1

    def follow(self, train: Callable[[Any], None]) -> None:
        """Trains along with the first process until it ends. Raises FovsfeError where that one is lost."""
        tune_malloc()
        while (task := self._taken(f"task {self._tasks}")) is not None:
            self._store.set(f"task {self._tasks}: {self.rank}", self._objection(task))
            self._wait_for(f"task {self._tasks}: begin")
            self._tasks += 1
            train(task)

    def together(self, work: Callable[[], None]) -> None:
        """Does work that meets the other processes. Raises FovsfeError with the words of one that failed."""
        try:
            work()
        except RuntimeError as error:  # so a collective ends when another process is gone
            if words := self._words_of_another():
                raise FovsfeError(words) from error
            if isinstance(error, distributed.DistError) or "onnection" in str(error):
                raise FovsfeError(
                    f"{self._name} lost another process ({_first_line(error)}); fovsfe resume goes on from"
                    " the last epoch"
                ) from error
            raise

    def _set(self, key: str, task: Any) -> None:
        data = pickle.dumps(task)
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"{key}/{number}", piece)  # type: ignore[arg-type]  # takes bytes as well as text
        self._store.set(key, str(len(pieces)))

    def _taken(self, key: str) -> Any:
        count = int(self._wait_for(key))
        return pickle.loads(b"".join(self._store.get(f"{key}/{number}") for number in range(count)))

    def _wait_for(self, key: str) -> bytes:
        """What stands at a key, once it does. Raises FovsfeError where a process fails before."""
        try:
            while not self._store.check([key]):
                if words := self._words():
                    raise FovsfeError(words)
                time.sleep(_POLL)
            return bytes(self._store.get(key))
        except RuntimeError as error:
            raise FovsfeError(f"{self._name} lost the first process ({_first_line(error)})") from error

    def _objection(self, task: Any) -> str:
        """What keeps this process from a task; nothing, it is hoped."""
        if not task.folder.is_dir():
            return (
                f"{self._name} does not see {task.folder.absolute()}: all nodes need one run folder that they"
                " share; choose such a place with --out"
            )
        try:
            task.photos[0]
        except (FovsfeError, OSError) as error:
            return f"{self._name} cannot read the photos: {_first_line(error)}; all nodes need them"
        return ""

    def _words(self) -> str:
        """Of the process that failed first; nothing where none has."""
        return str(self._store.get("words").decode()) if self._store.check(["words"]) else ""

    def _words_of_another(self) -> str:
        with suppress(RuntimeError):
            _until(lambda: self._store.check(["words"]), 2.0)  # the connection may break before they come
            return self._words()
        return ""

    def _end(self, error: BaseException | None) -> None:
        """Leaves the team. The first process tells of an error, whoever has it: a follower has SystemExit."""
        if error is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # launchers send a second one
        with suppress(RuntimeError):  # without a store there is nobody to tell
            if error is not None:
                self._store.compare_set("words", "", f"{self._name}: {_first_line(error)}")
            if self.leads:
                self._set(f"task {self._tasks}", None)
        with suppress(RuntimeError):
            distributed.destroy_process_group()  # which ends the collectives that the others are in
        with suppress(RuntimeError):
            if self.leads:
                self._store.set("heard", "")
                _until(lambda: self._store.add("left", 0) == self.size - 1, TO_LEAVE)  # it may hold the store
                return
            heard = error is None or _until(lambda: self._store.check(["heard"]), TO_LEAVE)
            self._store.add("left", 1)
            if error is not None and heard and not os.environ.get("FOVSFE_DEBUG"):
                raise SystemExit(0) from error  # with another code, launchers stop the first before it tells


def _until(true: Callable[[], bool], seconds: float) -> bool:
    """Waits until something is true; gives up after so many seconds."""
    end = time.monotonic() + seconds
    while not (now := true()) and time.monotonic() < end:
        time.sleep(_POLL)
    return now


def _first_line(error: BaseException) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, FovsfeError) else f"{type(error).__name__}: {line}"
