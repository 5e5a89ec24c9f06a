"""Trains networks on this machine, one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from fovsfe.context import RunContext
from fovsfe.errors import FovsfeError
from fovsfe.executors.tasks import build_task, time_weights, with_cached_photos
from fovsfe.machine import keep_freed_memory
from fovsfe.recipe import MemberSettings
from fovsfe.run import Run
from fovsfe.training.distributed import Message, ProcessGroup
from fovsfe.training.launch import fastest_precision, train_network
from fovsfe.training.schedule import time_shares
from fovsfe.training.task import NetworkKey, OnNetworkEvent, TrainingTask


class LocalExecutor:
    """Trains networks here in turn; the processes of a launcher train each of them together."""

    where = ""

    def __init__(self, process_group: ProcessGroup | None) -> None:
        """`process_group` is that of a launcher's processes, this one the first; None for this one alone."""
        self._process_group = process_group

    def fastest_precision(self, member: MemberSettings) -> str:
        """See `Executor`."""
        return fastest_precision(member)

    def train(
        self,
        context: RunContext,
        keys: Sequence[NetworkKey],
        precisions: Sequence[str],
        later_time_weights: Sequence[float],
        on_event: OnNetworkEvent,
    ) -> None:
        """See `Executor`."""
        stopwatch = context.run.stopwatch
        shares = time_shares(time_weights(context, keys), later_time_weights, slots=1)
        for key, share in zip(keys, shares, strict=True):
            task = build_task(context, key, precisions[key.member_index])
            tell = partial(on_event, task.name)
            tell({"type": "begin"})
            with stopwatch.step("cache photos"):
                task = with_cached_photos(replace(task, time_share=share), tell)
            with stopwatch.step(f"train {task.member.unique_name} round {task.key.round_index}"):
                if self._process_group is not None:
                    self._process_group.send(_as_message(task))
                train_network(task, tell, self._process_group)
            tell({"type": "end"})

    def clean_up(self) -> None:
        """Does nothing: all that is kept is in the run folder."""


def run_other_rank(process_group: ProcessGroup) -> None:
    """Trains along with the first process of the group until that one ends.

    Raises:
        FovsfeError: the first process is lost, or a training fails.
    """
    keep_freed_memory()
    while (message := process_group.receive()) is not None:
        try:
            task = _from_message(message)
        except FovsfeError as error:
            process_group.reply(objection=str(error))  # raises what the first process ends with: these words
            raise
        process_group.reply()
        train_network(task, lambda event: None, process_group)


def _as_message(task: TrainingTask) -> Message:
    """What another rank needs to know of a task; the rest is in the run folder."""
    return {
        "run": str(task.key.run),
        "network": [task.key.round_index, task.key.member_index, task.key.fold],
        "precision": task.precision,
        "deadline": task.deadline,
        "time_share": task.time_share,
        "is_cached": task.photos.cache is not None,
    }


def _from_message(message: Message) -> TrainingTask:
    """Returns the first process's task. Raises FovsfeError if this one does not see the run or the photos."""
    run = Run(Path(message["run"]))
    if not run.arguments_file.exists():
        raise FovsfeError(
            f"does not see {run.arguments_file.absolute()}: all nodes need one run folder that they share;"
            " choose such a place with --out"
        )
    key = NetworkKey(run.root, *message["network"])
    written = run.recipe_file.stat().st_mtime_ns
    task = build_task(_opened_context(run, written), key, message["precision"])
    if message["is_cached"]:
        task = replace(task, photos=replace(task.photos, cache=task.photo_cache))
    try:
        task.photos[0]
    except (FovsfeError, OSError) as error:
        raise FovsfeError(f"cannot read the photos: {error}; all nodes need them") from error
    return replace(task, deadline=message["deadline"], time_share=message["time_share"])


@lru_cache(maxsize=1)
def _opened_context(run: Run, written: int) -> RunContext:
    """Another rank gets the networks of one run, and opens it once for each recipe that it has."""
    return RunContext.open(run)
