"""What a run keeps of its photos: one row per photo in photos.csv, and facts about all in dataset.json.

Both are written once, when a run starts. Training, a resumed run, export and report read these and never list
the photos again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from fovsfe.arrays import Ints
from fovsfe.errors import FovsfeError
from fovsfe.files import write_text
from fovsfe.photos.listing import PhotoListing
from fovsfe.storage.locations import AnyPath, as_path
from fovsfe.tables import plain_texts, write_csv

COLUMNS = ["id", "path", "split", "label", "group", "fold", "fault", "width", "height", "bytes", "sha256"]
_TEXTS = ("id", "path", "split", "label", "fault", "sha256")


class ListingFacts(BaseModel):
    """dataset.json: what holds for all photos of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    """the path or URL that the manifest's paths are relative to"""
    layout: str
    """as `layouts.PhotoListing.layout`"""
    class_names: tuple[str, ...]
    """the labels, in the order of every column of probabilities"""
    label_ids: dict[str, str]
    """label -> what a submission writes for it"""
    sample_columns: tuple[str, ...] | None
    """the columns of the sample submission; None if there is none"""
    sample_rows: tuple[tuple[str, ...], ...]
    """the rows of the sample submission, in its order"""

    @classmethod
    def of(cls, listing: PhotoListing) -> ListingFacts:
        """Returns the facts of photos that were found."""
        sample = listing.sample
        return cls(
            root=str(listing.root),
            layout=listing.layout,
            class_names=listing.class_names,
            label_ids=listing.label_ids,
            sample_columns=None if sample is None else tuple(map(str, sample.columns)),
            sample_rows=() if sample is None else tuple(map(tuple, sample.to_numpy(str).tolist())),
        )

    @property
    def location(self) -> AnyPath:
        """`root` as a path or URL."""
        return as_path(self.root)

    def label_positions(self, labels: Iterable[str]) -> Ints:
        """Returns each label's position in the class names, (n,). Raises KeyError if one is not there."""
        position = {label: i for i, label in enumerate(self.class_names)}
        return np.array([position[label] for label in labels], np.int64)

    @property
    def sample(self) -> pd.DataFrame | None:
        """The sample submission as text, as it was read; None if there is none."""
        if self.sample_columns is None:
            return None
        return pd.DataFrame(list(self.sample_rows), columns=pd.Index(self.sample_columns), dtype=object)


def readable_photos(manifest: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the manifest without a fault, numbered from 0."""
    return manifest[manifest["fault"] == ""].reset_index(drop=True)


def write_facts(file: Path, facts: ListingFacts) -> None:
    """Writes dataset.json. Raises FovsfeError if it cannot be written."""
    write_text(file, facts.model_dump_json(indent=1) + "\n")


def read_facts(file: Path) -> ListingFacts:
    """Reads dataset.json. Raises FovsfeError if it is missing or damaged."""
    try:
        return ListingFacts.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"cannot read {file}: {reason}; it is written when a run starts") from error


def write_manifest(file: Path, manifest: pd.DataFrame) -> None:
    """Writes photos.csv with the COLUMNS of a manifest. Raises FovsfeError if it cannot be written."""
    write_csv(file, manifest[COLUMNS], for_people=True)


def read_manifest(file: Path) -> pd.DataFrame:
    """Returns the manifest of a run, its COLUMNS; ids and labels stay text even if they look like numbers.

    Raises FovsfeError if the file cannot be read or has other columns.
    """
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FovsfeError(f"cannot read {file}: {error}") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise FovsfeError(f"cannot read {file}: it has no column {missing[0]}; the run is of another fovsfe")
    return plain_texts(table[COLUMNS])
