"""Peak memory of a run and of its report on few and on many photos: it should not grow with their number.

    python -m benchmarks memory
    python -m benchmarks memory --photos 200 2000

Compares 2,000 with 20,000 photos by default: 400 drawn ones, linked under different names, which a tiny
network is trained on for one epoch. Then `fovsfe report` runs once more; its time and the report's size are
measured too. Takes about three minutes on two cores, and 1 GB of disk while it runs. Linux only.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.paths import RESULTS, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, write_result
from fovsfe.errors import FovsfeError

DRAWN_LABELLED, DRAWN_TEST = 300, 100
SECONDS_BETWEEN_SAMPLES = 0.05
RECIPE = """
[training]
stages = [0, 1.0]
head_epochs = 1
epochs = 1
precision = "fp32"

[[members]]
backbone = "test_resnet"
size = [64, 96]
"""


@dataclass(frozen=True)
class PeakMemory:
    """What one command needed at most; memory in MB."""

    photos: int
    command: str
    """"train" or "report\""""
    resident: float
    """the most that any of its processes held, including the files it maps"""
    anonymous: float
    """the most that all of its processes together held, without mapped files; sampled"""
    seconds: float
    report: float
    """the size of report.html, in MB"""


def main(argv: Sequence[str]) -> None:
    """Prints the peaks and their ratios, and writes results/memory-FEW-MANY.json."""
    parser = argparse.ArgumentParser("python -m benchmarks memory", description=__doc__)
    parser.add_argument("--photos", type=int, nargs=2, default=[2000, 20000], metavar=("FEW", "MANY"))
    counts = parser.parse_args(argv).photos
    rows: list[tuple[str, ...]] = []
    results = []
    for few, many in zip(*(_measure(count) for count in counts), strict=True):
        figures = ("resident", "anonymous", "seconds", "report")
        ratios = {name: getattr(many, name) / getattr(few, name) for name in figures}
        for peak in (few, many):
            megabytes = f"{peak.resident:.0f}", f"{peak.anonymous:.0f}"
            rows.append(
                (peak.command, f"{peak.photos}", *megabytes, f"{peak.seconds:.0f}", f"{peak.report:.1f}")
            )
        rows.append((few.command, "ratio", *(f"{ratio:.2f}" for ratio in ratios.values())))
        rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
        results.append({"few": asdict(few), "many": asdict(many), "ratios": rounded})
    header = ("command", "photos", "resident MB", "anonymous MB", "seconds", "report MB")
    print(markdown_table(header, rows))
    write_result(RESULTS / f"memory-{counts[0]}-{counts[1]}.json", {"peaks": results})


def _measure(count: int) -> list[PeakMemory]:
    """Returns the peaks of a training on `count` photos and of its report."""
    photos, run = SCRATCH / "memory" / f"photos-{count}", SCRATCH / "memory" / f"run-{count}"
    _link_photos(drawn_photos(DRAWN_LABELLED, DRAWN_TEST), photos, count)
    recipe = SCRATCH / "memory" / "recipe.toml"
    recipe.write_text(RECIPE)
    shutil.rmtree(run, ignore_errors=True)
    print(f"a run on {count} photos ...", flush=True)
    peaks = [
        _measure_command(count, run, "train", photos, "--recipe", recipe, "--weights", "none", "--out", run),
        _measure_command(count, run, "report", run),
    ]
    shutil.rmtree(run)
    shutil.rmtree(photos)
    return peaks


def _measure_command(count: int, run: Path, command: str, *arguments: str | Path) -> PeakMemory:
    """Returns the peak of one `fovsfe` command, which leaves a report in `run`."""
    program = [str(part) for part in (Path(sys.executable).with_name("fovsfe"), command, *arguments)]
    start = time.monotonic()
    with (SCRATCH / "memory" / "log.txt").open("wb") as log:
        process = subprocess.Popen(program, stdout=log, stderr=log)
        anonymous = 0.0
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            anonymous = max(anonymous, sum(anonymous_kb(pid) for pid in _process_tree(process.pid)))
            time.sleep(SECONDS_BETWEEN_SAMPLES)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FovsfeError((SCRATCH / "memory" / "log.txt").read_text().strip().splitlines()[-1])
    seconds, size = time.monotonic() - start, (run / "report.html").stat().st_size / 1e6
    return PeakMemory(count, command, usage.ru_maxrss / 1024, anonymous / 1024, seconds, size)


def _link_photos(source: Path, folder: Path, count: int) -> None:
    """Makes `folder` a data set of `count` hard links to the drawn photos in turn, a quarter of them test
    photos."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(source / "classes.csv", folder)
    test = sorted((source / "test_upload").iterdir())
    labelled = sorted((source / "train").rglob("*.jpg"), key=lambda file: (file.name, file.parent.name))
    test_ids = []
    for index in range(count):
        is_test = index % 4 == 3
        original = test[index // 4 % len(test)] if is_test else labelled[index % len(labelled)]
        link = folder / original.relative_to(source).with_name(f"{index:06}.jpg")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(original)
        if is_test:
            test_ids.append(link.name)
    with (folder / "sample-submission.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Id", "Category"), *((photo, "0") for photo in test_ids)])


def _process_tree(pid: int) -> Iterator[int]:
    """Yields a process and all that it has started, directly or not."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # the process has just ended
        return
    for child in children:
        yield from _process_tree(int(child))


def anonymous_kb(pid: int) -> int:
    """Returns the memory of a process without mapped files, in kB; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
