"""Executors: the interface of all, and which one a command asks for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from fovsfe.context import RunContext
from fovsfe.errors import UsageError
from fovsfe.executors.local import LocalExecutor
from fovsfe.recipe import MemberSettings
from fovsfe.training.distributed import ProcessGroup
from fovsfe.training.task import NetworkKey, OnNetworkEvent


class Executor(Protocol):
    """Trains networks."""

    @property
    def where(self) -> str:
        """Where networks are trained in parallel, such as "the cluster"; empty if here in turn."""

    def fastest_precision(self, member: MemberSettings) -> str:
        """Returns "fp32" or "bf16", whichever trains a member's network faster where it will be trained."""

    def train(
        self,
        context: RunContext,
        keys: Sequence[NetworkKey],
        precisions: Sequence[str],
        later_time_weights: Sequence[float],
        on_event: OnNetworkEvent,
    ) -> None:
        """Trains networks and leaves in the folder of each what `training.launch.train_network` leaves.

        Args:
            keys: the networks to train, in the order of `tasks.network_keys`.
            precisions: each member's "fp32" or "bf16".
            later_time_weights: the time weights of the networks that later rounds will train, fold by fold.
            on_event: is told what happens.

        Raises:
            FovsfeError: as `train_network` does.
        """

    def clean_up(self) -> None:
        """Removes what is kept for a run that is complete."""


@contextmanager
def open_executor(
    location: str, cluster: str | None, process_group: ProcessGroup | None
) -> Iterator[Executor]:
    """Yields what trains the networks of the run at `location`, for the length of the block.

    Args:
        cluster: the address of a Ray cluster, as `ray_cluster.connected` takes it; None for this machine.
        process_group: the processes of a launcher, of which this is the first; None for this process alone.

    Raises:
        FovsfeError: the cluster cannot be reached.
        UsageError: a launcher's processes and a cluster are both asked for.
    """
    if cluster is None:
        yield LocalExecutor(process_group)
        return
    if process_group is not None:
        raise UsageError("--cluster distributes the networks itself: start fovsfe without torchrun or srun")
    from fovsfe.executors.ray_executor import ray_executor  # Ray need not be installed

    with ray_executor(cluster, location) as executor:
        yield executor
