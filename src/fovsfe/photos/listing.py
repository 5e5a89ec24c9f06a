"""The photos that were found, as a table: what every layout comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos.names import Part, first_few, natural
from fovsfe.photos.passed_over import PassedOver
from fovsfe.storage.locations import AnyPath
from fovsfe.wording import counted

COLUMNS = ["id", "path", "split", "label", "given_fold", "together"]


class NoLabels(FovsfeError):
    """There are photos, but not labels to tell apart."""


@dataclass(frozen=True)
class PhotoListing:
    """The photos of a folder: their names and labels, without pixels.

    `table` has one row per photo, in a fixed order; all columns are str of dtype object:

    - `id`: unique; of a test photo its name in the sample submission, of a labelled photo its path in its
      part, after the folder of that part if there are several;
    - `path`: under `root`; "" if the sample submission names a photo that is not there;
    - `split`: "train" for labelled photos, or "test";
    - `label`: "" for test photos;
    - `given_fold`: the number of the fold in which the photo validates, if a validation part or folds are
      given; else "";
    - `together`: photos with the same text stay on one side of every split; "" for those that stand alone.
    """

    root: AnyPath
    layout: str
    """one of "parts", "folders", "list" and "shards" """
    table: pd.DataFrame
    class_names: tuple[str, ...]
    """the labels that have photos, in the order of classes.csv, else in natural order"""
    label_ids: dict[str, str]
    """label -> what a submission writes for it"""
    sample: pd.DataFrame | None
    """the sample submission as it was read; None if there is none"""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """what is in the folder, or in a list, and is not in the table"""
    reading: tuple[str, ...] = ()
    """in plain lines, how the folder was read, and how to have it read otherwise"""


@dataclass
class FoundPhoto:
    """A photo on the way into the table."""

    path: str
    """under the root; "" if it is not there"""
    part: Part
    id: str = ""
    label: str = ""
    """or the category that stands for it"""
    fold: str = ""
    group: str = ""
    top: str = ""
    """the folder of its part"""


def describe(listing: PhotoListing) -> str:
    """Returns in one line what was found and how it was read."""
    count = Counter(listing.table["split"])
    labels, tests = counted(len(listing.class_names), "label"), counted(count["test"], "test photo")
    found = f"{counted(count['train'], 'labelled photo')} of {labels}, {tests}"
    return "; ".join([found, *listing.reading])


def listing_table(
    root: AnyPath, photos: Sequence[FoundPhoto], names: Mapping[str, str]
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, str]]:
    """Checks what every layout must have; returns the table, the class names and the ids of labels.

    Args:
        root: what messages name.
        photos: those with labels, and test photos.
        names: category -> label, of classes.csv; empty without one.

    Raises FovsfeError if there are too few labels or photos, or if names or labels contradict each other;
    NoLabels if there is only one label.
    """
    labelled = [photo for photo in photos if photo.part != "test"]
    ids = {name: category for category, name in names.items()}
    counts: Counter[str] = Counter()
    trained: set[str] = set()
    for photo in labelled:
        if names and photo.label not in names and photo.label not in ids:
            raise FovsfeError(
                f'{root / "classes.csv"}: lacks the category "{photo.label}" (of {photo.path}); add it'
            )
        photo.label = names.get(photo.label, photo.label)
        counts[photo.label] += 1
        if photo.part != "val":
            trained.add(photo.label)
    class_names = tuple(name for name in ids if name in counts) or tuple(sorted(counts, key=natural))
    if len(class_names) == 1:
        raise NoLabels(
            f'{root}: only one label, "{class_names[0]}", with {counted(counts[class_names[0]], "photo")}; '
            "at least two are needed, each a folder directly under the one that you give, or named by a list"
        )
    untrained = [label for label in class_names if label not in trained]
    if untrained:
        raise FovsfeError(
            f"{root}: the validation part has {first_few(untrained)}, of which there is no photo to "
            "train on; add photos or remove the label"
        )
    single = [label for label in class_names if counts[label] == 1]
    if single and all(photo.part != "val" and not photo.fold for photo in labelled):
        raise FovsfeError(
            f"{root}: a single photo of {first_few(single)}, which cannot be both trained on and validated; "
            "add photos or remove the label"
        )
    rows = []
    for photo in sorted(photos, key=lambda photo: (photo.part == "test", natural(photo.id))):
        split, fold = "test" if photo.part == "test" else "train", "0" if photo.part == "val" else photo.fold
        rows.append((photo.id, photo.path, split, photo.label, fold, photo.group))
    _check_names(root, rows)
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS), dtype=object)
    return table, class_names, {label: ids.get(label, label) for label in class_names}


def _check_names(root: AnyPath, rows: Sequence[tuple[str, ...]]) -> None:
    for row in rows:
        for text in row:
            try:
                text.encode()
            except UnicodeEncodeError:
                shown = ascii(text).strip("'")
                raise FovsfeError(
                    f"{root}: {shown} has bytes that are no text; correct it, or rename the file"
                ) from None
    twice = [photo for photo, count in Counter(row[0] for row in rows).items() if count > 1]
    if twice:
        raise FovsfeError(f"{root}: several photos are named {first_few(twice)}; give each its own name")
