"""A hundred thousand photos through `fovsfe predict`: memory, the time left that it shows, going on.

    python -m benchmarks predicting --bundle BUNDLE
    python -m benchmarks predicting --bundle BUNDLE --photos PHOTOS --count 10000

Links to a few thousand photos, by default drawn ones. The command is stopped by Ctrl-C after a third of them,
goes on, and must end with one row a photo. Linux only. A tiny bundle takes about ten minutes for 100,000
photos on two cores.
"""

import argparse
import csv
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
from benchmarks.places import RESULTS, SCRATCH, drawn
from benchmarks.results import machine, markdown
from fovsfe.files import write_json

EVERY = 1.0  # seconds between two looks


@dataclass
class Seen:
    """What was seen of one call: at each look the seconds since its start, its MB, and the seconds left that
    it showed."""

    looks: list[tuple[float, float, float | None]] = field(default_factory=list)
    code: int = 0

    @property
    def seconds(self) -> float:
        return self.looks[-1][0]

    def memory(self, share: float) -> float:
        """MB for itself after `share` of the time."""
        return self.looks[int(share * (len(self.looks) - 1))][1]

    def time_left_error(self, share: float) -> float:
        """By how much of what was left the time shown after `share` of the time was wrong."""
        at = int(share * (len(self.looks) - 1))
        since, _, shown = next(look for look in self.looks[at:] if look[2] is not None)
        assert shown is not None
        return abs(shown - (self.seconds - since)) / (self.seconds - since)


def main(flags: Sequence[str]) -> None:
    """Prints what was seen; writes results/predicting.json. Raises RuntimeError where a row is missing."""
    parser = argparse.ArgumentParser("python -m benchmarks predicting", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    given = parser.parse_args(flags)
    source = given.photos or drawn(2000, 1000)
    folder, out = SCRATCH / "predicting" / "photos", SCRATCH / "predicting" / "answers.csv"
    _link(source, folder, given.count)
    out.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("fovsfe")), "predict", str(given.bundle), str(folder)]
    command += ["--out", str(out)]
    stopped = _watch(command, lambda: _rows(out) >= given.count // 3)
    before = _rows(out)
    whole = _watch(command, lambda: False)
    with out.open(newline="") as file:
        names = [row["photo"] for row in csv.DictReader(file)]
    if whole.code or len(names) != given.count or len(set(names)) != given.count:
        raise RuntimeError(f"exit code {whole.code}, {len(names)} rows of {len(set(names))} photos")
    figures = {
        "photos a second": (given.count - before) / whole.seconds,
        "MB after a tenth": whole.memory(0.1),
        "MB after a half": whole.memory(0.5),
        "MB at the end": whole.memory(0.98),
        "time left wrong after a tenth, %": 100 * whole.time_left_error(0.1),
        "time left wrong after a half, %": 100 * whole.time_left_error(0.5),
        "rows when stopped": before,
        "exit code when stopped": stopped.code,
    }
    print(markdown(("figure", "value"), [(name, f"{value:.4g}") for name, value in figures.items()]))
    kept = {"machine": machine(), "photos": given.count, "figures": figures}
    write_json(RESULTS / "predicting.json", kept)
    shutil.rmtree(folder)


def _link(source: Path, folder: Path, count: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    originals = sorted(source.rglob("*.jpg"))
    for number in range(count):
        link = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(originals[number % len(originals)])


def _rows(file: Path) -> int:
    return max(file.read_bytes().count(b"\n") - 1, 0) if file.exists() else 0


def _watch(command: list[str], enough: Callable[[], bool]) -> Seen:
    """Runs the command on a terminal, and stops it by Ctrl-C once `enough()`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen, start, shown, due = Seen(), time.monotonic(), None, 0.0
    while process.poll() is None:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                text = os.read(ours, 65536).decode(errors="replace")
            except OSError:  # the terminal of a process that has ended
                continue
            for hours, minutes, seconds in re.findall(r"(\d+):(\d\d):(\d\d)", text):
                shown = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
        if time.monotonic() > due:
            seen.looks.append((time.monotonic() - start, anonymous_kb(process.pid) / 1024, shown))
            due = time.monotonic() + EVERY
            if enough():
                process.send_signal(signal.SIGINT)
    os.close(ours)
    seen.code = process.returncode
    return seen
