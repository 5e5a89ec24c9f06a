"""How far a stage is, and the learning rate that goes with it."""

import math
import time
from collections.abc import Sequence

from fovsfe.training.device import Device


def share_deadline(share: float, deadline: float | None) -> float | None:
    """Returns when `share` (0 to 1) of the time from now to `deadline` will have passed; both are in seconds
    of time.monotonic, None if there is no deadline."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + max(deadline - now, 0.0) * share


def lr_factor(progress: float, warmup: float) -> float:
    """Returns the learning rate's share of the full one at `progress` (0 to 1).

    Linear warmup, then half a cosine to 0.

    Source: Loshchilov & Hutter, SGDR, 2017, without restarts.
    """
    if progress < warmup:
        return (progress + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class StageProgress:
    """The progress of a stage, 0 to 1: by steps, or by time if time runs out first.

    So the learning rate always anneals to the end, whatever the machine's speed turns out to be (budgeted
    training: Li et al., 2020). All processes follow the first one's clock.
    """

    def __init__(self, device: Device, steps: int, deadline: float | None, done: int = 0) -> None:
        """`deadline` is in seconds of time.monotonic; `done` of the `steps` were done before a resumption."""
        self._device, self._steps, self._deadline = device, steps, deadline
        self._start, self._done_before = time.monotonic(), done / steps

    def at(self, step: int) -> float:
        """Returns the progress at `step`, counted from the stage's first, also after a resumption."""
        by_steps = step / self._steps
        if self._deadline is None:
            return by_steps
        elapsed = (time.monotonic() - self._start) / max(self._deadline - self._start, 1e-3)
        by_time = self._done_before + (1 - self._done_before) * elapsed
        return float(self._device.broadcast(min(max(by_steps, by_time), 1.0)))


def time_shares(now: Sequence[float], later: Sequence[float], slots: int) -> list[float]:
    """Returns the share of the time left that each network gets when it begins, `slots` of them at a time.

    Args:
        now: the time weight of each network, in the order in which they begin.
        later: the same of the networks of later rounds.
        slots: how many networks are trained in parallel.
    """

    def waves(weights: Sequence[float]) -> list[float]:
        return [max(weights[start : start + slots]) for start in range(0, len(weights), slots)]

    mine, after = waves(now), sum(waves(later))
    return [weight / (sum(mine[i // slots :]) + after) for i, weight in enumerate(now)]
