"""What has changed in a run's photos since it began, found without reading those that look as they did."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.manifest import ListingFacts, readable_photos
from fovsfe.photos.reader import local_path, photo_stamp, read_unchanged
from fovsfe.storage.locations import AnyPath
from fovsfe.wording import counted

NAMED = 3  # of the photos of a kind of change


@dataclass(frozen=True)
class PhotoChanges:
    """What differs from what a run remembers, in words; empty if nothing does."""

    lost: str
    """photos that the run is trained on or predicts, and that are gone or have another content"""
    other: str
    """what the run does not need: it has its photos, labels and sample submission of its own"""


def find_changes(
    find: Callable[[], PhotoListing], facts: ListingFacts, manifest: pd.DataFrame, written: int
) -> PhotoChanges:
    """Compares photos with what a run remembers of them.

    A photo of this machine is compared by its size, and by its SHA-256 if it was written after the manifest;
    the photos of shards by the SHA-256 in their index; those at a URL by their names. Whatever this does not
    notice is noticed where the photo is decoded: only its own content is accepted.

    Args:
        find: calls `find_photos` as `train` did.
        facts: dataset.json.
        manifest: photos.csv.
        written: when photos.csv was written, in nanoseconds since 1970.
    """
    readable = readable_photos(manifest)
    gone, changed = [], []
    if local_path(facts.location) is not None:
        for path, size, sha256 in readable[["path", "bytes", "sha256"]].itertuples(index=False):
            try:
                if not _is_as_it_was(facts.location, path, size, sha256, written):
                    changed.append(path)
            except FileNotFoundError:
                gone.append(path)
            except OSError:
                changed.append(path)
    try:
        listing = find()
    except FovsfeError as error:  # a run with all of its photos can do without the rest of the folder
        return PhotoChanges(_lost(gone, changed), str(error))
    if local_path(facts.location) is None:
        there = set(listing.table["path"])
        gone = [path for path in readable["path"] if path not in there]
    return PhotoChanges(_lost(gone, changed), "; ".join(_others(listing, facts, manifest)))


def _is_as_it_was(root: AnyPath, path: str, size: int, sha256: str, written: int) -> bool:
    modified, now = photo_stamp(root, path)
    if size and now != size:  # shards do not tell the sizes
        return False
    if modified > written:
        read_unchanged(root, path, sha256)
    return True


def _lost(gone: list[str], changed: list[str]) -> str:
    return ", ".join(
        f"{counted(len(paths), 'photo')} {words} ({_first_few(paths)})"
        for paths, words in ((gone, "gone"), (changed, "changed"))
        if paths
    )


def _others(listing: PhotoListing, facts: ListingFacts, manifest: pd.DataFrame) -> Iterator[str]:
    """Yields what differs between a listing and what a run remembers, but for lost photos."""
    now = ListingFacts.of(listing)
    if now.root != facts.root or now.layout != facts.layout:
        yield f"they are found as {now.layout} in {now.root}, no longer as {facts.layout} in {facts.root}"
        return
    labels = dict(zip(manifest["path"], manifest["label"], strict=True))
    new = [path for path in listing.table["path"] if path and path not in labels]
    if new:
        yield f"{counted(len(new), 'photo')} new ({_first_few(new)})"
    pairs = zip(listing.table["path"], listing.table["label"], strict=True)
    if relabelled := [
        f"{path}: {labels[path]} -> {label}" for path, label in pairs if labels.get(path, label) != label
    ]:
        yield f"{counted(len(relabelled), 'photo')} with another label ({_first_few(relabelled)})"
    if set(now.class_names) != set(facts.class_names):
        different = sorted(set(now.class_names) ^ set(facts.class_names))
        yield f"the labels are others ({_first_few(different)})"
    elif now.class_names != facts.class_names:
        yield "the labels are in another order"
    elif now.label_ids != facts.label_ids:
        yield "the labels have other names in a submission"
    if (now.sample_columns, now.sample_rows) != (facts.sample_columns, facts.sample_rows):
        yield "the sample submission is another"


def _first_few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")
