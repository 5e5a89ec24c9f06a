"""Reads shards: photos packed into tars of about a thousand, in WebDataset's format, with their audit.

Source of the format: A. Aizman et al., High Performance I/O For Large Scale Deep Learning, 2020.
"""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from fovsfe.callbacks import Progress
from fovsfe.errors import FovsfeError
from fovsfe.files import open_regular
from fovsfe.photos.reader import leads_out, local_copy, read_file
from fovsfe.storage.locations import AnyPath

FORMAT = 2
INDEX = "shards.json"
MANIFEST = "photos.csv"
FINDINGS = "audit.json"
SAMPLE = "sample-submission.csv"
COLUMNS = [
    "id", "path", "split", "label", "given_fold", "group", "fault", "width", "height", "sha256", "phash",
]  # fmt: skip
_TEXTS = ("id", "path", "split", "label", "given_fold", "fault", "sha256", "phash")


class Shard(BaseModel):
    """One tar of photos."""

    name: str
    photos: int
    bytes: int
    sha256: str
    content: str
    """the SHA-256 of the list of its photos: their ids, labels and SHA-256"""


class ShardIndex(BaseModel):
    """shards.json. It is written last: if it is there, the shards are complete."""

    format: int
    layout: str
    """of the folder that was packed, as in `layouts.PhotoListing`"""
    class_names: list[str]
    label_ids: dict[str, str]
    photos_of_label: dict[str, int]
    shards: list[Shard]


def read_shards(root: AnyPath) -> tuple[ShardIndex, pd.DataFrame]:
    """Returns the index and the table of photos (COLUMNS) of the shards at `root`.

    Raises FovsfeError if they are damaged, have another format, or name files outside of their folder.
    """
    try:
        index = ShardIndex.model_validate_json(read_file(root / INDEX))
        if index.format != FORMAT:
            raise FovsfeError(
                f"{root / INDEX}: format {index.format}, but {FORMAT} is needed; run `fovsfe shard` again"
            )
        text = io.BytesIO(read_file(root / MANIFEST))
        table = pd.read_csv(text, dtype=dict.fromkeys(_TEXTS, object), keep_default_na=False)
        table = table[COLUMNS]
    except (OSError, ValidationError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(
            f"{root}: its {INDEX} or {MANIFEST} is damaged ({reason}); copy it again"
        ) from error
    for path in (*(shard.name for shard in index.shards), *table["path"]):
        if leads_out(path):
            raise FovsfeError(f"{root}: {path} leads out of the folder; do not trust these shards")
    return index, table


def read_findings(root: AnyPath) -> list[dict[str, Any]]:
    """Returns the findings of the audit before the photos were packed. Raises FovsfeError if damaged."""
    try:
        findings: list[dict[str, Any]] = json.loads(read_file(root / FINDINGS))
        return findings
    except (OSError, ValueError) as error:
        raise FovsfeError(f"{root / FINDINGS}: cannot be read ({error}); copy it again") from error


def find_damaged_shards(root: AnyPath, index: ShardIndex, progress: Progress) -> dict[str, str]:
    """Reads every shard once and returns those that have changed since they were written: name -> fault.

    `progress` counts photos.
    """

    def fault_of(shard: Shard) -> str:
        try:
            with open_regular(local_copy(root / shard.name)) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return "" if digest == shard.sha256 else "is damaged: its SHA-256 has changed"

    faults, done, total = {}, 0, sum(shard.photos for shard in index.shards)
    with ThreadPoolExecutor(4) as threads:
        for shard, fault in zip(index.shards, threads.map(fault_of, index.shards), strict=True):
            done += shard.photos
            progress(done, total)
            if fault:
                faults[shard.name] = fault
    return faults
