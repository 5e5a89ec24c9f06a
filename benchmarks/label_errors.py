"""Labels that are swapped at random: how many of them are among the first mistakes of the report?

    python -m benchmarks label_errors --photos PHOTOS --weights WEIGHTS

Links the labelled photos into a new folder, some of them under another label, each other label being equally
likely. Then `fovsfe train` runs on them as on any photos, and the first thirty mistakes of its report are
compared with what was swapped. Takes the minutes for each seed.
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

from benchmarks.paths import RESULTS, SCRATCH
from benchmarks.results import markdown_table, write_result
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.photos.layouts import find_photos

FIRST = 30  # mistakes of a report that a person may be expected to look at


def main(argv: Sequence[str]) -> None:
    """Prints, for each seed, how many swapped labels were found, and writes results/label_errors.json."""
    options = _parse_options(argv)
    results = []
    for seed in options.seeds:
        folder = SCRATCH / "label_errors" / f"{options.photos.resolve().name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        swapped = swap_labels(options.photos, options.swapped, seed, folder / "photos")
        print(f"seed {seed}: {len(swapped)} labels swapped, {options.minutes:g} minutes ...", flush=True)
        run = folder / "run"
        command = [Path(sys.executable).with_name("fovsfe"), "train", folder / "photos", "--out", run]
        command += ["--recipe", options.recipe, "--weights", options.weights]
        command += ["--minutes", f"{options.minutes:g}"]
        subprocess.run([str(part) for part in command], check=True)
        listed = listed_label_errors((run / "report.html").read_text("utf-8"))
        ranks = [rank for rank, path in enumerate(listed, 1) if path in swapped]
        accuracy = read_json(run / "metrics.json")["selected"]["accuracy"]
        results.append({"seed": seed, "found": len(ranks), "listed": len(listed), "accuracy": accuracy})
        print(f"{len(ranks)} of {len(swapped)} among the first {len(listed)}, at {ranks}", flush=True)
    header = ("seed", "swapped", "of them found", "listed", "accuracy on the changed labels")
    rows = [
        (
            f"{result['seed']}",
            f"{options.swapped}",
            f"{result['found']}",
            f"{result['listed']}",
            f"{result['accuracy']:.3f}",
        )
        for result in results
    ]
    print(markdown_table(header, rows))
    facts = {"photos": options.photos.resolve().name, "recipe": options.recipe, "minutes": options.minutes}
    facts |= {"swapped": options.swapped, "seeds": results}
    write_result(RESULTS / "label_errors.json", facts)


def _parse_options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks label_errors", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--swapped", type=int, default=20, metavar="LABELS")
    return parser.parse_args(argv)


def swap_labels(source: Path, count: int, seed: int, folder: Path) -> set[str]:
    """Links the labelled photos of `source` into `folder`, `count` of them under another label.

    Returns the paths of these, relative to `folder`.

    Raises:
        FovsfeError: the photos are in an archive, which has nothing to link to.
    """
    listing = find_photos(source)
    table = listing.table[listing.table["split"] == "train"].reset_index(drop=True)
    random = Random(seed)
    rows_to_swap = set(random.sample(range(len(table)), count))
    swapped = set()
    for row, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        target = (listing.root / path).resolve()
        if not target.is_file():
            raise FovsfeError(f"{listing.root / path} is in an archive; unpack it for the benchmark")
        if row in rows_to_swap:
            label = random.choice([other for other in listing.class_names if other != label])
        link_path = f"train/{listing.label_ids[label]}/{row}{target.suffix}"
        if row in rows_to_swap:
            swapped.add(link_path)
        link = folder / link_path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        categories = ((listing.label_ids[label], label) for label in listing.class_names)
        csv.writer(file, lineterminator="\n").writerows([("Category", "Name"), *categories])
    return swapped


def listed_label_errors(report: str) -> list[str]:
    """Returns the paths of the first mistakes, in the report's order: the most surprising ones.

    Raises ValueError if the report has no section on mistakes.
    """
    before, _, section = report.partition('<section id="mistakes">')
    if before == report:
        raise ValueError("the report has no section on mistakes")
    captions = re.findall("<figcaption>(.*?)</figcaption>", section.partition("</section>")[0], re.S)
    return [unescape(path) for path in captions[:FIRST]]
