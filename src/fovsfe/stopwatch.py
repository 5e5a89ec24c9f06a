"""How much time and memory each step of a run has taken, over all sessions of the run."""

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
    """Seconds and memory of each step, kept in the file `path` so that a resumed run goes on counting."""

    path: Path

    def read(self) -> dict[str, dict[str, float]]:
        """Returns, for each step so far, "seconds" and "peak_mb".

        "peak_mb" is the most memory that one process had used by the end of the step, in MB; 0 if the system
        does not tell.
        """
        return read_json(self.path) if self.path.exists() else {}

    @property
    def seconds(self) -> float:
        """The seconds of all steps so far."""
        return sum(step["seconds"] for step in self.read().values())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds the time of the block to the step `name`, also if the block fails or is interrupted."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(FovsfeError):  # the error that ended the block is the one to report
                self._add(name, time.monotonic() - start)
            raise
        self._add(name, time.monotonic() - start)

    def _add(self, name: str, seconds: float) -> None:
        steps = self.read()
        before = steps.get(name, {"seconds": 0.0, "peak_mb": 0.0})
        steps[name] = {
            "seconds": round(before["seconds"] + seconds, 3),
            "peak_mb": max(before["peak_mb"], round(_peak_mb())),
        }
        write_json(self.path, steps)


def _peak_mb() -> float:
    """Returns the most memory that this process, or a child that has ended, has used so far, in MB."""
    try:
        import resource  # there is none on Windows
    except ImportError:
        return 0.0
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes on macOS, kilobytes elsewhere
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / unit
    )
