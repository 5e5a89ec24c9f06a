"""The outer split: a part of the labelled photos becomes a test part whose labels nobody is shown."""

import csv
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fovsfe.errors import FovsfeError
from fovsfe.photos import layouts
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.splits import assign_folds


@dataclass(frozen=True)
class Outer:
    """`photos` is in the competition's layout; `y_true` has the category of every test photo by its id."""

    photos: Path
    y_true: dict[str, str]


def outer(source: Path, seed: int, share: float, folder: Path) -> Outer:
    """Splits the labelled photos of `source` by links in `folder`; the true labels are beside, not in it.

    Stratified, and near-duplicates stay on one side. Test photos get new names that tell nothing.

    Raises:
        FovsfeError: the photos are in an archive, which has nothing to link to.
    """
    truth_file = folder / "y_true.csv"
    if truth_file.exists():
        with truth_file.open(encoding="utf-8", newline="") as file:
            return Outer(folder / "photos", dict(csv.reader(file)))
    found = layouts.find_photos(source)
    table = audit_photos(found).table
    table = table[(table["part"] == "train") & (table["fault"] == "")].reset_index(drop=True)
    held_out = list(table.index[assign_folds(table, share, 0, seed) == 0])
    Random(seed).shuffle(held_out)
    numbers = {row: 100_000 + i for i, row in enumerate(held_out)}
    y_true = {}
    for row, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        target, category = (found.root / path).resolve(), found.label_ids[label]
        if not target.is_file():
            raise FovsfeError(f"{found.root / path} is in an archive; unpack it for the benchmark")
        link = folder / "photos" / "train" / category / f"{row}{target.suffix}"
        if row in numbers:
            link = folder / "photos" / "test_upload" / f"{numbers[row]}{target.suffix}"
            y_true[link.name] = category
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    ids = sorted(y_true)
    names = [(found.label_ids[label], label) for label in found.class_names]
    _write(folder / "photos" / "classes.csv", [("Category", "Name"), *names])
    _write(
        folder / "photos" / "sample-submission.csv", [("Id", "Category"), *((i, names[0][0]) for i in ids)]
    )
    _write(truth_file, [(i, y_true[i]) for i in ids])
    return Outer(folder / "photos", {i: y_true[i] for i in ids})


def _write(file: Path, rows: list[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)
