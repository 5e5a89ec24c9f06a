"""All figures that the benchmarks have left in results/, in one table: docs/figures.md.

    python -m benchmarks figures

Each with the command, the machine and the date. Takes a second; a benchmark's own page has more of it.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import RESULTS, ROOT
from benchmarks.results import format_interval, markdown_table
from fovsfe.files import read_json, write_text

PAGE = ROOT / "docs" / "figures.md"
README = Path(__file__).with_name("README.md")
INTRODUCTION = """\
# All figures

Written by `python -m benchmarks figures` of what the benchmarks have left in `benchmarks/results/`. What each
of them does is in [benchmarks/README.md](https://github.com/OWNER/fovsfe/blob/main/benchmarks/README.md).
Figures of different machines or dates are not to be compared with each other: processors and versions differ.
"""

Figure = tuple[str, str, dict[str, Any]]
"""what was measured, the figure, and what says the machine and the date"""


def main(argv: Sequence[str]) -> None:
    """Writes docs/figures.md."""
    argparse.ArgumentParser("python -m benchmarks figures", description=__doc__).parse_args(argv)
    write_text(PAGE, render_page())
    print(f"{PAGE} is written")


def render_page() -> str:
    """Returns docs/figures.md of what is in results/."""
    rows = []
    for name, figures in FIGURES.items():
        for file in sorted(RESULTS.glob(f"{name}*.json")):
            for what, figure, measured in figures(read_json(file)):
                command = _command(name, "--overload" if what.startswith("overload") else "")
                where = measured.get("machine", "not recorded").partition("; ")[0]
                rows.append((name, what, figure, where, measured["date"], f"`{command}`"))
    header = ("benchmark", "what", "figure", "machine", "date", "command")
    return f"{INTRODUCTION}\n{markdown_table(header, rows)}"


def _command(name: str, option: str) -> str:
    """Returns the first command of a benchmark in the README that has an option."""
    commands = re.findall(rf"^\| `{name}` \| `([^`]+)`", README.read_text("utf-8"), re.M)
    return next(command for command in commands if option in command)


def _peers(found: list[dict[str, Any]]) -> Iterator[Figure]:
    for score in found:
        right = 100 * score["right"].count("1") / len(score["right"])
        what = f"{score['photos']}, {score['minutes']:g} minutes, seed {score['seed']}: {score['contender']}"
        yield what, f"{right:.1f}% of {len(score['right'])} right", score


def _speed(found: dict[str, Any]) -> Iterator[Figure]:
    for backbone, times in found["head"].items():
        yield f"{backbone}: head stage", f"{times['ratio']:.2f} passes over the photos", found
    for backbone, times in found["step"].items():
        yield f"{backbone}: training step", f"{times['ratio']:.2f} of a bare loop", found


def _memory(found: dict[str, Any]) -> Iterator[Figure]:
    for peak in found["peaks"]:
        few, many = peak["few"], peak["many"]
        what = f"fovsfe {few['command']}, {few['photos']:,} and {many['photos']:,} photos"
        yield what, f"{few['anonymous']:.0f} and {many['anonymous']:.0f} MB", found


def _reading(found: dict[str, Any]) -> Iterator[Figure]:
    yield "photos read from files", f"{found['photos_a_second']['files']:.0f} a second", found
    yield "from shards", f"{found['ratio']:.2f} of that", found


def _predicting(found: dict[str, Any]) -> Iterator[Figure]:
    figures = found["figures"]
    yield f"{found['photos']:,} photos", f"{figures['photos a second']:.0f} a second", found
    yield "memory at the end", f"{figures['MB at the end']:.0f} MB", found


def _techniques(found: dict[str, Any]) -> Iterator[Figure]:
    for photos, measured in found.items():
        for row in measured["rows"]:
            words = ": ".join(filter(None, (row["technique"], row["description"])))
            yield f"{photos}, {words}", f"{100 * row['accuracy']:.1f}% right", measured


def _runtimes(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        what = f"{row['member']}, {row['quantization']}, {row['runtime']}"
        yield what, f"{1000 * row['seconds']:.1f} ms a photo", found


def _serving(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["comparison"]["rows"]:
        if row["clients"] == 8 or row["contender"] == "bare loop":
            what = f"{row['photos']}, {row['contender']}, {row['clients']} clients"
            yield what, f"{row['requests_a_second']:.1f} photos a second", found["comparison"]
    if overload := found.get("overload"):
        what = f"overload of {overload['rate']:.0f} photos a second"
        latency = f"p99 {overload['answered_p99']:.2f} s, refused {1000 * overload['refused_p99']:.1f} ms"
        yield what, latency, overload


def _xla(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["networks"]:
        figure = f"{row['compiling and first step, s']} s to compile, {row['a step, s']} s a step"
        yield f"{row['network']}, {row['size']}, {row['precision']}", figure, found


def _label_errors(found: dict[str, Any]) -> Iterator[Figure]:
    for seed in found["seeds"]:
        what = f"{found['photos']}, seed {seed['seed']}: swapped labels found"
        yield what, f"{seed['found']} of {found['swapped']}", found


def _estimates(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["simulated"][-1:]:
        yield "simulated runs: bias of the headline", f"{100 * row['bias']:+.2f} points", found
        yield "the true accuracy is in the 95% interval", f"{100 * row['coverage']:.1f}%", found
    for row in found["photos"]:
        what = f"{row['folder']}, {row['splits']} splits: bias of the headline"
        yield what, f"{100 * row['bias']:+.2f} points", found


def _cluster(found: dict[str, Any]) -> Iterator[Figure]:
    what = f"{found['networks']} networks of {found['backbone']} on two machines"
    yield what, f"{found['ratio']:.2f} of the time of one", found


def _backbones(found: dict[str, Any]) -> Iterator[Figure]:
    families = found["families"]
    trained = sum(not row["refused"] for row in families)
    yield f"families of timm {found['timm']}", f"{trained} of {len(families)} can be trained", found


def _learning_curves(found: dict[str, Any]) -> Iterator[Figure]:
    for each in found["sets"]:
        low, middle, high = np.mean([draw["accuracy"] for draw in each["predicted"]], axis=0)
        figure = f"{100 * each['accuracy']:.1f}%, predicted {100 * middle:.1f} ({format_interval(low, high)})"
        yield f"{each['folder']}: accuracy with all photos", figure, found


def _drift(found: dict[str, Any]) -> Iterator[Figure]:
    for each in found["sets"]:
        for row in each["rows"]:
            says = row["says"]
            told = (
                says["silent"] or f"said {100 * says['accuracy']:.1f} ({format_interval(*says['interval'])})"
            )
            yield f"{each['folder']}, {row['shift']}", f"{100 * row['accuracy']:.1f}% right, {told}", found


def _duplicates(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        figure = f"{row['seconds']:.1f} s, {row['cpu_seconds']:.1f} CPU s, {row['peak'] / 1e9:.1f} GB"
        yield f"{row['photos']:,} photos grouped", figure, found


FIGURES: dict[str, Callable[[Any], Iterator[Figure]]] = {
    "peers": _peers,
    "speed": _speed,
    "memory": _memory,
    "reading": _reading,
    "predicting": _predicting,
    "techniques": _techniques,
    "runtimes": _runtimes,
    "serving": _serving,
    "xla": _xla,
    "label_errors": _label_errors,
    "estimates": _estimates,
    "cluster": _cluster,
    "backbones": _backbones,
    "learning_curves": _learning_curves,
    "drift": _drift,
    "duplicates": _duplicates,
}
