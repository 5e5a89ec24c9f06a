"""Holds out a test split of labelled photos, so that contenders are scored on labels they do not see."""

import csv
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fovsfe.errors import FovsfeError
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.splits import assign_folds


@dataclass(frozen=True)
class PeersSplit:
    """Labelled photos, some of which have become test photos."""

    photos: Path
    """a data set in the competition's layout"""
    y_true: dict[str, str]
    """id of a test photo -> its true category"""


def make_peers_split(source: Path, seed: int, fraction: float, folder: Path) -> PeersSplit:
    """Splits the labelled photos of `source` by links in `folder`, or reads the split that is there.

    The split is stratified, and near-duplicates stay on one side. Test photos get new names that tell nothing
    of their labels, and the true labels are written beside the data set, not into it.

    Args:
        source: any photos that `find_photos` finds.
        seed: the same seed gives the same split.
        fraction: the part of each label, 0 to 1, that becomes test photos.
        folder: where the data set goes.

    Raises:
        FovsfeError: the photos are in an archive, which has nothing to link to.
    """
    labels_file = folder / "y_true.csv"
    if labels_file.exists():
        with labels_file.open(encoding="utf-8", newline="") as file:
            return PeersSplit(folder / "photos", dict(csv.reader(file)))
    listing = find_photos(source)
    table = audit_photos(listing).table
    table = table[(table["split"] == "train") & (table["fault"] == "")].reset_index(drop=True)
    test_rows = list(table.index[assign_folds(table, fraction, 0, seed) == 0])
    Random(seed).shuffle(test_rows)
    test_numbers = {row: 100_000 + i for i, row in enumerate(test_rows)}
    y_true = {}
    for row, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        target, category = (listing.root / path).resolve(), listing.label_ids[label]
        if not target.is_file():
            raise FovsfeError(f"{listing.root / path} is in an archive; unpack it for the benchmark")
        link = folder / "photos" / "train" / category / f"{row}{target.suffix}"
        if row in test_numbers:
            link = folder / "photos" / "test_upload" / f"{test_numbers[row]}{target.suffix}"
            y_true[link.name] = category
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    ids = sorted(y_true)
    categories = [(listing.label_ids[label], label) for label in listing.class_names]
    sample = [(photo, categories[0][0]) for photo in ids]
    _write_csv(folder / "photos" / "classes.csv", [("Category", "Name"), *categories])
    _write_csv(folder / "photos" / "sample-submission.csv", [("Id", "Category"), *sample])
    _write_csv(labels_file, [(photo, y_true[photo]) for photo in ids])
    return PeersSplit(folder / "photos", {photo: y_true[photo] for photo in ids})


def _write_csv(file: Path, rows: list[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)
