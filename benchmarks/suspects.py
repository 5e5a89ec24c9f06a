"""Labels swapped at random on a copy of the photos: how many of them the report suspects first.

    python -m benchmarks suspects --photos PHOTOS --weights WEIGHTS

The labelled photos are linked into a new folder, some of them under another label, each label as likely; then
`fovsfe train` runs on them as on any, and its report's "Labels to check by eye" are compared with what was
swapped. Takes the minutes for each seed.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from random import Random

from benchmarks.places import RESULTS, SCRATCH
from benchmarks.results import machine, markdown
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json
from fovsfe.photos import layouts


def main(flags: Sequence[str]) -> None:
    """Prints for each seed how many swapped labels are among the suspects; writes results/suspects.json."""
    given = _flags(flags)
    done = []
    for seed in given.seeds:
        folder = SCRATCH / "suspects" / f"{given.photos.resolve().name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        swapped = swap(given.photos, given.swapped, seed, folder / "photos")
        print(f"seed {seed}: {len(swapped)} labels swapped, {given.minutes:g} minutes ...", flush=True)
        run = folder / "run"
        command = [Path(sys.executable).with_name("fovsfe"), "train", folder / "photos", "--out", run]
        command += ["--recipe", given.recipe, "--weights", given.weights, "--minutes", f"{given.minutes:g}"]
        subprocess.run([str(part) for part in command], check=True)
        shown = suspected((run / "report.html").read_text("utf-8"))
        found = [place for place, path in enumerate(shown, 1) if path in swapped]
        accuracy = read_json(run / "metrics.json")["chosen"]["accuracy"]
        done.append({"seed": seed, "found": len(found), "suspects": len(shown), "accuracy": accuracy})
        print(f"{len(found)} of {len(swapped)} among the first {len(shown)}, at {found}", flush=True)
    header = ("seed", "swapped", "of them suspected", "suspects shown", "accuracy against the changed labels")
    rows = [
        (f"{d['seed']}", f"{given.swapped}", f"{d['found']}", f"{d['suspects']}", f"{d['accuracy']:.3f}")
        for d in done
    ]
    print(markdown(header, rows))
    about = {"photos": given.photos.resolve().name, "recipe": given.recipe, "minutes": given.minutes}
    kept = {"machine": machine(), **about, "swapped": given.swapped, "seeds": done}
    write_json(RESULTS / "suspects.json", kept)


def _flags(flags: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks suspects", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--swapped", type=int, default=20, metavar="LABELS")
    return parser.parse_args(flags)


def swap(source: Path, count: int, seed: int, folder: Path) -> set[str]:
    """Links the labelled photos of `source` into `folder`, `count` of them under another label.

    Gives the paths of these in `folder`.

    Raises:
        FovsfeError: the photos are in an archive, which has nothing to link to.
    """
    found = layouts.find_photos(source)
    table = found.table[found.table["part"] == "train"].reset_index(drop=True)
    random = Random(seed)
    drawn = set(random.sample(range(len(table)), count))
    swapped = set()
    for row, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        target = (found.root / path).resolve()
        if not target.is_file():
            raise FovsfeError(f"{found.root / path} is in an archive; unpack it for the benchmark")
        if row in drawn:
            label = random.choice([other for other in found.class_names if other != label])
        place = f"train/{found.label_ids[label]}/{row}{target.suffix}"
        if row in drawn:
            swapped.add(place)
        link = folder / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        names = ((found.label_ids[label], label) for label in found.class_names)
        csv.writer(file, lineterminator="\n").writerows([("Category", "Name"), *names])
    return swapped


def suspected(report: str) -> list[str]:
    """The paths of the photos under "Labels to check by eye", in the report's order."""
    section = report.partition('<section id="suspects">')[2].partition("</section>")[0]
    return [unescape(path) for path in re.findall("<figcaption>(.*?)</figcaption>", section, re.S)]
