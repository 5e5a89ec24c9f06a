"""What each technique brings: one change of a base recipe at a time, measured on held-out photos.

    python -m benchmarks techniques --photos PHOTOS --weights WEIGHTS
    python -m benchmarks techniques --photos PHOTOS --weights WEIGHTS --minutes 20 --only head plain

Fourteen runs of a fixed number of epochs. What is done is not run again: an interrupted run is resumed, and a
changed base starts afresh. Writes results/techniques.json and docs/techniques.md after each run.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.paths import RESULTS, ROOT, SCRATCH
from benchmarks.results import describe_machine, format_interval, markdown_table, today
from benchmarks.techniques_list import BASE, VARIATIONS, Variation
from benchmarks.techniques_results import RunPredictions, TechniqueRow, variation_rows
from fovsfe.files import read_json, write_json, write_text
from fovsfe.recipe import load_recipe, parse_changes, to_toml
from fovsfe.run import Run

RECIPE = Path(__file__).with_name("techniques.toml")
PAGE = ROOT / "docs" / "techniques.md"
INTRODUCTION = """\
# What each technique brings

Written by `python -m benchmarks techniques`. The base is `benchmarks/techniques.toml`; each line changes one
thing in it. Figures are of the mean of the members, except where a member or a blend is named, on held-out
photos with true labels; every run has kept its best epoch on the same photos. The difference is on the same
photos, in percentage points, with its 95% interval; p is that of the exact McNemar test. The line "noise"
shows what other random numbers alone bring: a difference of that size means nothing, whatever its p.
"""


def main(argv: Sequence[str]) -> None:
    """Runs what is missing, one variation after the other."""
    parser = argparse.ArgumentParser("python -m benchmarks techniques", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--recipe", default=str(RECIPE), help="another base")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="a change of the base")
    parser.add_argument("--minutes", type=float, help="the time budget of each run")
    parser.add_argument("--only", nargs="+", choices=[v.name for v in VARIATIONS], help="besides the base")
    options = parser.parse_args(argv)
    base: RunPredictions | None = None
    rows: list[TechniqueRow] = []
    for variation in VARIATIONS:
        if options.only and variation.name not in (*options.only, BASE.name):
            continue
        result = RunPredictions.read(_train(variation, options))
        base = base or result
        rows += variation_rows(variation, result, base)
        _write_results(options, rows, len(base.y_true))
        print(technique_table(rows), flush=True)


def _train(variation: Variation, options: argparse.Namespace) -> Run:
    """Returns the complete run of a variation, which is trained or resumed first if it has to be."""
    changes = [*options.changes, *variation.changes]
    recipe = to_toml(load_recipe(options.recipe, parse_changes(changes)))
    digest = hashlib.sha256(f"{recipe}{options.weights}{options.minutes}".encode()).hexdigest()[:8]
    run = Run(SCRATCH / "techniques" / options.photos.resolve().name / f"{variation.name}-{digest}")
    if run.metrics_file.exists():
        return run
    print(f"{variation.name}: {', '.join(variation.changes) or 'the base'} ...", flush=True)
    program = str(Path(sys.executable).with_name("fovsfe"))
    if run.arguments_file.exists():
        command = [program, "resume", str(run.root)]
    else:
        command = [program, "train", str(options.photos), "--recipe", options.recipe, "--out", str(run.root)]
        command += ["--weights", options.weights, *(part for c in changes for part in ("--set", c))]
        command += ["--minutes", str(options.minutes)] if options.minutes else []
    run.root.parent.mkdir(parents=True, exist_ok=True)
    with run.root.with_suffix(".log").open("ab") as log:
        subprocess.run(command, check=True, stdout=log)
    return run


def _write_results(options: argparse.Namespace, rows: list[TechniqueRow], held_out_photos: int) -> None:
    """Replaces the results on these photos in results/techniques.json, and writes the page of all photos."""
    file = RESULTS / "techniques.json"
    results: dict[str, Any] = read_json(file) if file.exists() else {}
    results[options.photos.resolve().name] = {
        "held_out_photos": held_out_photos,
        "machine": describe_machine(),
        "date": today(),
        "changes_of_the_base": options.changes,
        "minutes": options.minutes,
        "rows": [asdict(row) for row in rows],
    }
    write_json(file, results)
    write_text(PAGE, render_page(results))


def render_page(results: dict[str, Any]) -> str:
    """Returns docs/techniques.md of what results/techniques.json holds."""
    return INTRODUCTION + "".join(_render_section(photos, part) for photos, part in results.items())


def _render_section(photos: str, part: dict[str, Any]) -> str:
    changes = ", ".join(part["changes_of_the_base"])
    changed = f" Base changed by {changes}." if changes else ""
    budget = f" At most {part['minutes']:g} minutes a run." if part["minutes"] else ""
    caption = f"{part['held_out_photos']} held-out photos, {part['machine']}.{changed}{budget}"
    return f"\n## {photos}\n\n{caption}\n\n{technique_table([TechniqueRow(**row) for row in part['rows']])}"


def technique_table(rows: list[TechniqueRow]) -> str:
    """Returns the rows as a Markdown table."""
    header = (
        "technique", "", "accuracy %", "95%", "log loss", "against", "difference", "95%", "p", "seconds",
    )  # fmt: skip
    lines = [
        (
            row.technique,
            row.description,
            f"{100 * row.accuracy:.1f}",
            format_interval(*row.interval),
            f"{row.log_loss:.3f}",
            row.against,
            f"{100 * row.difference:+.1f}" if row.against else "",
            format_interval(*row.difference_interval) if row.against else "",
            f"{row.p_value:.3f}" if row.against else "",
            f"{row.seconds:.0f}" if row.seconds else "",
        )
        for row in rows
    ]
    return markdown_table(header, lines)
