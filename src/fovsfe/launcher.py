"""Processes of a launcher (torchrun, srun): the first runs a command, the others help it to train."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fovsfe.training.distributed import ProcessGroup

_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS")  # variables that torchrun and SLURM set


def is_launched() -> bool:
    """Returns whether a launcher may have started this process, without loading torch."""
    return any(name in os.environ for name in _LAUNCHERS)


@contextmanager
def first_process() -> Iterator["ProcessGroup | None"]:
    """Does the block in a launcher's first process only, with the group of all; None for a process alone.

    The others train along until the block ends, or hear why it failed.

    Raises:
        SystemExit: in another process than the first, when its work is done.
        FovsfeError: processes are missing, or this one fails in a way that the first cannot tell of.
    """
    if not is_launched():
        yield None
        return
    from fovsfe.executors.local import run_other_rank
    from fovsfe.training.distributed import joined_process_group

    with joined_process_group() as process_group:
        if process_group is None or process_group.is_first:
            yield process_group
            return
        run_other_rank(process_group)
    raise SystemExit(0)
