"""What each step of a run has taken, in seconds and memory, over all its sessions."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json


@dataclass(frozen=True)
class Stopwatch:
    """Seconds and memory by step, kept in a file so that a resumed run goes on counting."""

    path: Path

    def read(self) -> dict[str, dict[str, float]]:
        """By step so far: "seconds", and "peak_mb", the most memory that a process had held by its end (MB,
        0 where the system does not tell)."""
        return read_json(self.path) if self.path.exists() else {}

    @property
    def seconds(self) -> float:
        """Of all steps so far."""
        return sum(step["seconds"] for step in self.read().values())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the time of the block to step `name`, also when the block fails or is interrupted."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(FovsfeError):  # what stopped the block is what to report
                self._add(name, time.monotonic() - start)
            raise
        self._add(name, time.monotonic() - start)

    def _add(self, name: str, seconds: float) -> None:
        every = self.read()
        before = every.get(name, {"seconds": 0.0, "peak_mb": 0.0})
        now = {
            "seconds": round(before["seconds"] + seconds, 3),
            "peak_mb": max(before["peak_mb"], round(_peak_mb())),
        }
        write_json(self.path, every | {name: now})


def _peak_mb() -> float:
    """The most memory that this process, or one that it has waited for, has held so far, in MB."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / unit
    )
