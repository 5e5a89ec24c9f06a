"""What each technique brings: one change of a base recipe at a time, measured on the hold-out.

    python -m benchmarks techniques --photos PHOTOS --weights WEIGHTS [--minutes 20] [--only head plain]

Fourteen runs of a fixed number of epochs. What is done is not run again: an interrupted run is resumed, and a
changed base starts afresh. After each run results/techniques.json and docs/techniques.md are written anew.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.places import RESULTS, ROOT, SCRATCH
from benchmarks.results import machine, markdown, percent
from benchmarks.techniques_list import BASE, VARIATIONS, Variation
from benchmarks.techniques_read import Judged, Row, rows
from fovsfe import recipe
from fovsfe.files import read_json, write_json, write_text
from fovsfe.run import Run

RECIPE = Path(__file__).with_name("techniques.toml")
INTRODUCTION = """\
# What each technique brings

Written by `python -m benchmarks techniques`. The base is `benchmarks/techniques.toml`, of which each
line changes one thing. Figures are of the mean of the members (but for members alone and blends) on
held-out photos with true labels; every run has chosen its best epoch by the same photos. The difference
is on the same photos, in points, with its 95 % interval; p is the exact McNemar test's. The line "noise"
shows what other random numbers alone bring: a difference of that size means nothing, whatever its p.
"""


def main(flags: Sequence[str]) -> None:
    """Runs what is missing, one variation after the other."""
    parser = argparse.ArgumentParser("python -m benchmarks techniques", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--recipe", default=str(RECIPE), help="another base")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a change of the base")
    parser.add_argument("--minutes", type=float, help="bound every run")
    parser.add_argument("--only", nargs="+", choices=[v.name for v in VARIATIONS], help="beside the base")
    given = parser.parse_args(flags)
    name = given.photos.resolve().name
    base: Judged | None = None
    done: list[Row] = []
    for variation in VARIATIONS:
        if given.only and variation.name not in (*given.only, BASE.name):
            continue
        judged = Judged.of(_run(variation, given))
        base = base or judged
        done += rows(variation, judged, base)
        assert base is not None
        _write(name, done, base, given)
        print(_table(done), flush=True)


def _run(variation: Variation, given: argparse.Namespace) -> Run:
    """The complete run of a variation."""
    changes = [*given.changes, *variation.changes]
    settings = recipe.to_toml(recipe.load_recipe(given.recipe, changes))
    mark = hashlib.sha256(f"{settings}{given.weights}{given.minutes}".encode()).hexdigest()[:8]
    run = Run(SCRATCH / "techniques" / given.photos.resolve().name / f"{variation.name}-{mark}")
    if run.metrics.exists():
        return run
    print(f"{variation.name}: {', '.join(variation.changes) or 'the base'} ...", flush=True)
    program = str(Path(sys.executable).with_name("fovsfe"))
    if run.arguments.exists():
        command = [program, "resume", str(run.root)]
    else:
        command = [program, "train", str(given.photos), "--recipe", given.recipe, "--out", str(run.root)]
        command += ["--weights", given.weights, *(part for c in changes for part in ("--set", c))]
        command += ["--minutes", str(given.minutes)] if given.minutes else []
    run.root.parent.mkdir(parents=True, exist_ok=True)
    with run.root.with_suffix(".log").open("ab") as log:
        subprocess.run(command, check=True, stdout=log)
    return run


def _write(photos: str, done: list[Row], base: Judged, given: argparse.Namespace) -> None:
    file = RESULTS / "techniques.json"
    every: dict[str, Any] = read_json(file) if file.exists() else {}
    every[photos] = {
        "photos_judged": len(base.y_true),
        "machine": machine(),
        "changes_of_the_base": given.changes,
        "minutes": given.minutes,
        "rows": [asdict(row) for row in done],
    }
    write_json(file, every)
    write_text(ROOT / "docs" / "techniques.md", INTRODUCTION + "".join(map(_section, every, every.values())))


def _section(photos: str, part: dict[str, Any]) -> str:
    some = [Row(**row) for row in part["rows"]]
    changed = (
        f" Base changed by {', '.join(part['changes_of_the_base'])}." if part["changes_of_the_base"] else ""
    )
    bound = f" At most {part['minutes']:g} minutes a run." if part["minutes"] else ""
    return (
        f"\n## {photos}\n\n{part['photos_judged']} held-out photos, {part['machine']}.{changed}{bound}\n\n"
        + _table(some)
    )


def _table(some: list[Row]) -> str:
    header = (
        "technique",
        "",
        "accuracy %",
        "95 %",
        "log loss",
        "against",
        "difference",
        "95 %",
        "p",
        "seconds",
    )
    lines = [
        (
            row.technique,
            row.what,
            f"{100 * row.accuracy:.1f}",
            percent(*row.interval),
            f"{row.log_loss:.3f}",
            row.against,
            f"{100 * row.difference:+.1f}" if row.against else "",
            percent(*row.difference_interval) if row.against else "",
            f"{row.p_value:.3f}" if row.against else "",
            f"{row.seconds:.0f}" if row.seconds else "",
        )
        for row in some
    ]
    return markdown(header, lines)
