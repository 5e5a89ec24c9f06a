"""Peak memory of a run and of its report on few and on many photos: it should not grow with their number.

    python -m benchmarks memory                          # 2,000 and 20,000 photos
    python -m benchmarks memory --photos 200 2000

400 drawn photos, linked under different names, a tiny network, one epoch; then `fovsfe report` once more,
with its time and size. About three minutes on two cores, and 1 GB of disk while it runs.
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

from benchmarks.places import RESULTS, SCRATCH, drawn
from benchmarks.results import machine, markdown
from fovsfe.files import write_json

DRAWN, DRAWN_TEST = 300, 100
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
class Peak:
    """Of one command, memory in MB."""

    photos: int
    command: str  # "train" or "report"
    resident: float  # the largest any process of it was, with what it maps from files
    anonymous: float  # what it took for itself: the processes together, sampled
    seconds: float
    report: float  # what report.html takes on disk, in MB


def main(flags: Sequence[str]) -> None:
    """Prints the peaks and their ratios; writes results/memory-FEW-MANY.json."""
    parser = argparse.ArgumentParser("python -m benchmarks memory", description=__doc__)
    parser.add_argument("--photos", type=int, nargs=2, default=[2000, 20000], metavar=("FEW", "MANY"))
    counts = parser.parse_args(flags).photos
    rows: list[tuple[str, ...]] = []
    kept = []
    for few, many in zip(*(_run(count) for count in counts), strict=True):
        figures = ("resident", "anonymous", "seconds", "report")
        ratios = {name: getattr(many, name) / getattr(few, name) for name in figures}
        for p in (few, many):
            held = f"{p.resident:.0f}", f"{p.anonymous:.0f}"
            rows.append((p.command, f"{p.photos}", *held, f"{p.seconds:.0f}", f"{p.report:.1f}"))
        rows.append((few.command, "ratio", *(f"{ratio:.2f}" for ratio in ratios.values())))
        rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
        kept.append({"few": asdict(few), "many": asdict(many), "ratios": rounded})
    print(markdown(("command", "photos", "resident MB", "anonymous MB", "seconds", "report MB"), rows))
    file = RESULTS / f"memory-{counts[0]}-{counts[1]}.json"
    write_json(file, {"machine": machine(), "peaks": kept})


def _run(count: int) -> list[Peak]:
    """Of the training, then of the report."""
    photos, out = SCRATCH / "memory" / f"photos-{count}", SCRATCH / "memory" / f"run-{count}"
    _linked(drawn(DRAWN, DRAWN_TEST), photos, count)
    recipe = SCRATCH / "memory" / "recipe.toml"
    recipe.write_text(RECIPE)
    shutil.rmtree(out, ignore_errors=True)
    print(f"a run on {count} photos ...", flush=True)
    peaks = [
        _peak(count, out, "train", photos, "--recipe", recipe, "--weights", "none", "--out", out),
        _peak(count, out, "report", out),
    ]
    shutil.rmtree(out)
    shutil.rmtree(photos)
    return peaks


def _peak(count: int, run: Path, name: str, *arguments: str | Path) -> Peak:
    """Of one command, `name`, which leaves a report in `run`."""
    command = [str(part) for part in (Path(sys.executable).with_name("fovsfe"), name, *arguments)]
    start = time.monotonic()
    with (SCRATCH / "memory" / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        anonymous = 0.0
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            anonymous = max(anonymous, sum(anonymous_kb(pid) for pid in _family(process.pid)))
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((SCRATCH / "memory" / "log.txt").read_text()[-2000:])
    seconds, size = time.monotonic() - start, (run / "report.html").stat().st_size / 1e6
    return Peak(count, name, usage.ru_maxrss / 1024, anonymous / 1024, seconds, size)


def _linked(source: Path, folder: Path, count: int) -> None:
    """`count` photos, a quarter of them the test part, that are hard links to the drawn ones in turn."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(source / "classes.csv", folder)
    test = sorted((source / "test_upload").iterdir())
    labelled = sorted((source / "train").rglob("*.jpg"), key=lambda file: (file.name, file.parent.name))
    names = []
    for number in range(count):
        part = test if number % 4 == 3 else labelled
        original = part[number // 4 % len(part)] if part is test else part[number % len(part)]
        link = folder / original.relative_to(source).with_name(f"{number:06}.jpg")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(original)
        if part is test:
            names.append(link.name)
    with (folder / "sample-submission.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Id", "Category"), *((name, "0") for name in names)])


def _family(pid: int) -> Iterator[int]:
    """The process and all that it has started."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it has just ended
        return
    for child in children:
        yield from _family(int(child))


def anonymous_kb(pid: int) -> int:
    """kB; 0 of a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
