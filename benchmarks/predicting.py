"""`fovsfe predict` on a hundred thousand photos: its memory, the time left that it shows, and resuming.

    python -m benchmarks predicting --bundle BUNDLE
    python -m benchmarks predicting --bundle BUNDLE --photos PHOTOS --count 10000

The photos are links to a few thousand ones, by default drawn. The command is stopped by Ctrl-C after a third
of them, started again, and must end with one row per photo. Linux only. Takes about ten minutes for
100,000 photos and a tiny bundle on two cores.
"""

import argparse
import csv
import math
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import anonymous_kb
from benchmarks.paths import RESULTS, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, write_result
from fovsfe.photos.decode import SUFFIXES

SECONDS_BETWEEN_SAMPLES = 1.0


@dataclass(frozen=True)
class Sample:
    """A command at one moment."""

    seconds: float
    """since its start"""
    memory: float
    """without mapped files, in MB"""
    seconds_left: float | None
    """as the command shows them; None before it does"""


@dataclass
class CommandRecord:
    """What was observed of a command from its start to its end."""

    samples: list[Sample] = field(default_factory=list)
    exit_code: int = 0

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.samples[-1].seconds

    def memory(self, fraction: float) -> float:
        """Returns its memory, in MB, after `fraction` of its time."""
        return self.samples[self._index(fraction)].memory

    def time_left_error(self, fraction: float) -> float:
        """Returns the relative error of the time left that it showed after `fraction` of its time."""
        shown = (s for s in self.samples[self._index(fraction) :] if s.seconds_left is not None)
        sample = next(shown, self.samples[-1])
        if sample.seconds_left is None or sample is self.samples[-1]:
            return math.nan  # it was done too soon
        true_seconds_left = self.seconds - sample.seconds
        return abs(sample.seconds_left - true_seconds_left) / true_seconds_left

    def _index(self, fraction: float) -> int:
        return int(fraction * (len(self.samples) - 1))


def main(argv: Sequence[str]) -> None:
    """Prints the figures and writes results/predicting.json. Raises RuntimeError if a row is missing."""
    parser = argparse.ArgumentParser("python -m benchmarks predicting", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args(argv)
    source = options.photos or drawn_photos(2000, 1000)
    folder, out = SCRATCH / "predicting" / "photos", SCRATCH / "predicting" / "predictions.csv"
    _link_photos(source, folder, options.count)
    out.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("fovsfe")), "predict", str(options.bundle), str(folder)]
    command += ["--out", str(out)]
    stopped = _observe(command, lambda: _count_rows(out) >= options.count // 3)
    rows_when_stopped = _count_rows(out)
    resumed = _observe(command, lambda: False)
    with out.open(newline="") as file:
        names = [row["photo"] for row in csv.DictReader(file)]
    if resumed.exit_code or len(names) != options.count or len(set(names)) != options.count:
        raise RuntimeError(f"exit code {resumed.exit_code}, {len(names)} rows of {len(set(names))} photos")
    figures = {
        "photos a second": (options.count - rows_when_stopped) / resumed.seconds,
        "MB after a tenth": resumed.memory(0.1),
        "MB after a half": resumed.memory(0.5),
        "MB at the end": resumed.memory(0.98),
        "time left wrong after a tenth, %": 100 * resumed.time_left_error(0.1),
        "time left wrong after a half, %": 100 * resumed.time_left_error(0.5),
        "rows when stopped": rows_when_stopped,
        "exit code when stopped": stopped.exit_code,
    }
    print(markdown_table(("figure", "value"), [(name, f"{value:.4g}") for name, value in figures.items()]))
    write_result(RESULTS / "predicting.json", {"photos": options.count, "figures": figures})
    shutil.rmtree(folder)


def _link_photos(source: Path, folder: Path, count: int) -> None:
    """Fills `folder` with `count` hard links to the photos of `source` in turn."""
    shutil.rmtree(folder, ignore_errors=True)
    originals = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    for index in range(count):
        link = folder / f"{index // 1000:03}" / f"{index:06}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(originals[index % len(originals)])


def _count_rows(file: Path) -> int:
    return max(file.read_bytes().count(b"\n") - 1, 0) if file.exists() else 0


def _observe(command: list[str], should_stop: Callable[[], bool]) -> CommandRecord:
    """Runs a command on a terminal of its own, and stops it by Ctrl-C as soon as `should_stop()`."""
    own_end, command_end = pty.openpty()
    process = subprocess.Popen(
        command, stdin=command_end, stdout=command_end, stderr=command_end, start_new_session=True
    )
    os.close(command_end)
    record, start, seconds_left, next_sample = CommandRecord(), time.monotonic(), None, 0.0
    while process.poll() is None:
        if select.select([own_end], [], [], 0.2)[0]:
            try:
                text = os.read(own_end, 65536).decode(errors="replace")
            except OSError:  # the terminal of a process that has ended
                continue
            for hours, minutes, seconds in re.findall(r"(\d+):(\d\d):(\d\d)", text):
                seconds_left = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
        now = time.monotonic()
        if now > next_sample:
            record.samples.append(Sample(now - start, anonymous_kb(process.pid) / 1024, seconds_left))
            next_sample = now + SECONDS_BETWEEN_SAMPLES
            if should_stop():
                process.send_signal(signal.SIGINT)
    os.close(own_end)
    record.exit_code = process.returncode
    return record
