"""The interface of all executors, and which one a command asks for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from fovsfe.executors.local import LocalExecutor
from fovsfe.recipe import MemberSettings
from fovsfe.stopwatch import Stopwatch
from fovsfe.training.distributed import ProcessGroup
from fovsfe.training.task import OnNetworkEvent, TrainingTask


class Executor(Protocol):
    """Trains networks."""

    @property
    def place(self) -> str:
        """Where networks are trained in parallel, such as "the cluster"; empty if here in turn."""

    def fastest_precision(self, member: MemberSettings) -> str:
        """Returns "fp32" or "bf16", whichever trains a member's network faster where it will be trained."""

    def train(
        self,
        tasks: Sequence[TrainingTask],
        later: Sequence[float],
        on_event: OnNetworkEvent,
        stopwatch: Stopwatch,
    ) -> None:
        """Trains every task's network and leaves in its folder what `training.launch.train_network` leaves.

        Args:
            tasks: the networks to train.
            later: the time shares of the networks that later rounds will train.
            on_event: is told what happens.
            stopwatch: counts the seconds of each step.

        Raises:
            FovsfeError: as `train_network` does.
        """

    def forget(self) -> None:
        """Removes what is kept for a run that is complete."""


@contextmanager
def open_executor(location: str, cluster: str | None, group: ProcessGroup | None) -> Iterator[Executor]:
    """Yields what trains the networks of the run at `location`, for the length of the block.

    Args:
        cluster: the address of a Ray cluster, as `ray_cluster.connected` takes it; None for this machine.
        group: the processes of a launcher, of which this is the first; None for this process alone.

    Raises:
        FovsfeError: the cluster cannot be reached.
    """
    if cluster is None:
        yield LocalExecutor(group)
        return
    from fovsfe.executors.ray_executor import ray_executor  # Ray need not be installed

    with ray_executor(cluster, location) as executor:
        yield executor
