"""How far a stage is, and the learning rate that goes with it."""

import math
import time
from typing import Any


def fraction_of_deadline(deadline: float | None, share: float) -> float | None:
    """The moment (time.monotonic seconds) at which `share` (0 to 1) of the time left will have passed."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + max(deadline - now, 0.0) * share


def lr_factor(progress: float, warmup: float) -> float:
    """The share of the full learning rate at `progress` (0 to 1): linear warm-up, then half a cosine to 0.

    Source: Loshchilov & Hutter, SGDR, 2017, without restarts.
    """
    if progress < warmup:
        return (progress + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class StageProgress:
    """Progress of a stage, 0 to 1: by steps, or by time where time runs out first.

    So the learning rate always anneals to the end, whatever the machine's speed turns out to be (budgeted
    training: Li et al., 2020). All processes follow the clock of the first.
    """

    def __init__(self, fabric: Any, steps: int, deadline: float | None, done: int = 0) -> None:
        self._fabric, self._steps, self._deadline = fabric, steps, deadline
        self._start, self._done_before = time.monotonic(), done / steps

    def progress(self, step: int) -> float:
        """Progress at `step`, counted from the stage's first, also after a resumption."""
        by_steps = step / self._steps
        if self._deadline is None:
            return by_steps
        elapsed = (time.monotonic() - self._start) / max(self._deadline - self._start, 1e-3)
        by_time = self._done_before + (1 - self._done_before) * elapsed
        return float(self._fabric.broadcast(min(max(by_steps, by_time), 1.0)))
