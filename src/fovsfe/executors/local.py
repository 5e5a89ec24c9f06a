"""Trains networks on this machine, one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fovsfe.context import RunContext
from fovsfe.errors import FovsfeError
from fovsfe.executors.tasks import build_task, with_decoded_photos
from fovsfe.recipe import MemberSettings
from fovsfe.run import Run
from fovsfe.stopwatch import Stopwatch
from fovsfe.training.device import tune_malloc
from fovsfe.training.distributed import Message, ProcessGroup
from fovsfe.training.launch import fastest_precision, train_network
from fovsfe.training.schedule import time_fractions
from fovsfe.training.task import NetworkKey, OnNetworkEvent, TrainingTask


class LocalExecutor:
    """Trains networks here in turn; the processes of a launcher train each of them together."""

    place = ""

    def __init__(self, group: ProcessGroup | None) -> None:
        """`group` is that of a launcher's processes, of which this is the first; None for this one alone."""
        self._group = group

    def fastest_precision(self, member: MemberSettings) -> str:
        """See `Executor`."""
        return fastest_precision(member)

    def train(
        self,
        tasks: Sequence[TrainingTask],
        later: Sequence[float],
        on_event: OnNetworkEvent,
        stopwatch: Stopwatch,
    ) -> None:
        """See `Executor`."""
        fractions = time_fractions([task.member.time_share for task in tasks], later, slots=1)
        for task, fraction in zip(tasks, fractions, strict=True):
            tell = partial(on_event, task.name)
            tell({"doing": "begin"})
            with stopwatch.step("decode"):
                task = with_decoded_photos(replace(task, time_fraction=fraction), tell)
            with stopwatch.step(f"train {task.member.title} round {task.key.round}"):
                if self._group is not None:
                    self._group.send(_as_message(task))
                train_network(task, tell, self._group)
            tell({"doing": "end"})

    def forget(self) -> None:
        """Does nothing: all that is kept is in the run folder."""


def serve_as_worker(group: ProcessGroup) -> None:
    """Trains along with the first process of the group until that one ends.

    Raises:
        FovsfeError: the first process is lost, or a training fails.
    """
    tune_malloc()
    while (message := group.receive()) is not None:
        objection = ""
        try:
            task = _from_message(message)
            task.photos[0]
        except (FovsfeError, OSError) as error:
            objection = str(error).partition("\n")[0]
        group.reply(objection)
        train_network(task, lambda event: None, group)


def _as_message(task: TrainingTask) -> Message:
    """What a worker needs to know of a task; the rest is in the run folder."""
    return {
        "run": str(task.key.run),
        "network": [task.key.round, task.key.member, task.key.fold],
        "precision": task.precision,
        "deadline": task.deadline,
        "time_fraction": task.time_fraction,
        "is_decoded": task.photos.cache is not None,
    }


def _from_message(message: Message) -> TrainingTask:
    """Returns the first process's task. Raises FovsfeError if this one does not see the run."""
    run = Run(Path(message["run"]))
    if not run.arguments.exists():
        raise FovsfeError(
            f"does not see {run.arguments.absolute()}: all nodes need one run folder that they share; choose"
            " such a place with --out"
        )
    context = RunContext.open(run, message["deadline"])
    task = build_task(context, NetworkKey(run.root, *message["network"]), message["precision"])
    if message["is_decoded"]:
        task = replace(task, photos=replace(task.photos, cache=task.photo_cache))
    return replace(task, time_fraction=message["time_fraction"])
