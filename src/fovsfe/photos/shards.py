"""Photos packed into tars of about a thousand, as WebDataset has them, with what the audit found.

Source of the format: A. Aizman et al., High Performance I/O For Large Scale Deep Learning, 2020.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from fovsfe.errors import FovsfeError
from fovsfe.photos.reader import local_copy, read_file
from fovsfe.storage.locations import AnyPath

FORMAT = 1
INDEX = "shards.json"
TABLE = "photos.csv"
FINDINGS = "audit.json"
COLUMNS = ["id", "path", "part", "label", "group", "fault", "width", "height", "sha256", "phash"]
_TEXTS = ("id", "path", "part", "label", "fault", "sha256", "phash")

Progress = Callable[[int, int], None]


class Shard(BaseModel):
    """One tar."""

    name: str
    photos: int
    bytes: int
    sha256: str
    content: str
    """the SHA-256 of the list of its photos: their ids, labels and own SHA-256"""


class ShardIndex(BaseModel):
    """shards.json, which is written last: with it, the shards are complete."""

    format: int
    layout: str
    """of the folder that they were made of"""
    class_names: list[str]
    label_ids: dict[str, str]
    photos_of_label: dict[str, int]
    shards: list[Shard]


def read_shards(root: AnyPath) -> tuple[ShardIndex, pd.DataFrame]:
    """The index and the table (COLUMNS, a row a photo) of the shards at `root`.

    Raises FovsfeError where they are damaged or of another version.
    """
    try:
        index = ShardIndex.model_validate_json(read_file(root / INDEX))
        if index.format != FORMAT:
            raise FovsfeError(f"{root / INDEX}: format {index.format}, not {FORMAT}: make the shards anew")
        text = io.BytesIO(read_file(root / TABLE))
        table = pd.read_csv(text, dtype=dict.fromkeys(_TEXTS, object), keep_default_na=False)
        return index, table[COLUMNS]
    except (OSError, ValidationError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"{root}: its {INDEX} or {TABLE} is damaged ({reason}); copy it again") from error


def read_findings(root: AnyPath) -> list[dict[str, Any]]:
    """What the audit found before the photos were packed. Raises FovsfeError."""
    try:
        findings: list[dict[str, Any]] = json.loads(read_file(root / FINDINGS))
        return findings
    except (OSError, ValueError) as error:
        raise FovsfeError(f"{root / FINDINGS}: cannot be read ({error}); copy it again") from error


def find_damaged_shards(root: AnyPath, index: ShardIndex, tick: Progress) -> dict[str, str]:
    """Which shards are not as they were written, and why. Reads each once; `tick(done, of)` counts photos."""

    def look(shard: Shard) -> str:
        try:
            with local_copy(root / shard.name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return "" if digest == shard.sha256 else "is damaged: its SHA-256 is another"

    faults, done, every = {}, 0, sum(shard.photos for shard in index.shards)
    with ThreadPoolExecutor(4) as threads:
        for shard, fault in zip(index.shards, threads.map(look, index.shards), strict=True):
            done += shard.photos
            tick(done, every)
            if fault:
                faults[shard.name] = fault
    return faults
