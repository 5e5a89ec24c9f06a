"""Packs photos and their audit into shards; an interrupted call can be repeated and continues."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fovsfe.arrays import Ints
from fovsfe.callbacks import Progress
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import SUFFIXES
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.reader import read_bytes, read_file
from fovsfe.photos.shards import COLUMNS, FINDINGS, FORMAT, INDEX, MANIFEST, SAMPLE, Shard, ShardIndex
from fovsfe.storage.locations import AnyPath, exists
from fovsfe.storage.retry import retry
from fovsfe.storage.transfer import upload


def pack_shards(
    listing: PhotoListing,
    table: pd.DataFrame,
    findings: Sequence[dict[str, Any]],
    shard_of: Ints,
    out: AnyPath,
    progress: Progress,
) -> ShardIndex:
    """Packs photos into shards; keeps those that an interrupted call has finished.

    A photo becomes two entries of its shard: NUMBER.SUFFIX, its file, and NUMBER.json, its id and label.
    NUMBER is its row in the table.

    Args:
        listing: what `layouts.find_photos` has found.
        table: the table of the audit.
        findings: the findings of the audit.
        shard_of: the shard of every row, int64 (n,).
        out: a folder or a URL.
        progress: counts shards.

    Raises:
        FovsfeError: there are shards already, a photo has changed since the audit, or `out` cannot be
            written or reached.
    """
    if exists(out / INDEX):
        raise FovsfeError(f"{out} has shards already; choose another --out")
    table = table.reset_index(drop=True)
    paths, packed_shards = [""] * len(table), []
    rows_of: dict[int, list[int]] = {}
    for row, shard in enumerate(shard_of):
        rows_of.setdefault(int(shard), []).append(row)
    count: Counter[str] = Counter()
    for done, shard in enumerate(sorted(rows_of)):
        rows = rows_of[shard]
        split = str(table["split"].iloc[rows[0]])
        name = f"{split}-{count[split]:06d}.tar"
        count[split] += 1
        packed_shards.append(_pack_shard(listing.root, table, rows, out, name, paths))
        progress(done + 1, len(rows_of))
    labelled = Counter(table["label"][table["split"] == "train"])
    index = ShardIndex(
        format=FORMAT,
        layout=listing.layout,
        class_names=list(listing.class_names),
        label_ids=listing.label_ids,
        photos_of_label={label: labelled[label] for label in listing.class_names},
        shards=packed_shards,
    )
    manifest = table.assign(path=np.array(paths, object))[COLUMNS]
    _put_text(out, MANIFEST, manifest.to_csv(index=False, lineterminator="\n"))
    _put_text(out, FINDINGS, json.dumps(list(findings), ensure_ascii=False, indent=1) + "\n")
    if listing.sample is not None:
        _put_text(out, SAMPLE, listing.sample.to_csv(index=False, lineterminator="\n"))
    _put_text(out, INDEX, index.model_dump_json(indent=1) + "\n")
    _remove_leftovers(out, {shard.name for shard in packed_shards})
    return index


def _remove_leftovers(out: AnyPath, names: set[str]) -> None:
    """Removes the notes, and shards that an interrupted call with other photos or sizes has left."""
    files: list[AnyPath] = retry(lambda: list(out.iterdir()), str(out))
    for file in files:
        stem, _, suffix = file.name.rpartition(".")
        if re.fullmatch(r"(train|test)-[0-9]{6}", stem) and (suffix == "json" or file.name not in names):
            retry(partial(file.unlink, missing_ok=True), str(file))


def _finished_shard(out: AnyPath, name: str) -> Shard | None:
    """Returns a shard that an interrupted call has finished, or None."""
    try:
        note = Shard.model_validate_json(read_file(out / _note_name(name)))
    except (OSError, ValidationError):
        return None
    return note if exists(out / name) else None


def _pack_shard(
    root: AnyPath, table: pd.DataFrame, rows: Sequence[int], out: AnyPath, name: str, paths: list[str]
) -> Shard:
    """Packs one shard, unless it is finished already; writes the new paths of its photos into `paths`."""
    packed = table.iloc[list(rows)]
    listed = packed[["id", "label", "sha256"]].to_csv(header=False, lineterminator="\n")
    content = hashlib.sha256(listed.encode()).hexdigest()
    for row, path, fault in zip(rows, packed["path"], packed["fault"], strict=True):
        if fault != "missing":
            suffix = PurePosixPath(path).suffix.lower()
            # Programs tell by the suffix what an entry is: a photo that was told by its content needs one.
            paths[row] = f"{name}/{row:09d}{suffix if suffix in SUFFIXES else '.img'}"
    if (finished := _finished_shard(out, name)) and finished.content == content:
        return finished
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
        file = Path(folder) / name
        with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
            for entry, data in _entries(root, packed, paths):
                header = tarfile.TarInfo(entry)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        shard = Shard(name=name, photos=len(rows), bytes=file.stat().st_size, sha256=digest, content=content)
        upload(file, out / name)
    _put_text(out, _note_name(name), shard.model_dump_json() + "\n")
    return shard


def _entries(root: AnyPath, packed: pd.DataFrame, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yields the entries of a shard: names and contents."""
    for row, photo in zip(packed.index, packed.to_dict("records"), strict=True):
        if not paths[row]:
            continue
        try:
            data = read_bytes(root, photo["path"])
        except OSError as error:
            if not photo["fault"]:
                raise FovsfeError(f"{root / photo['path']}: {error}; put it back") from error
            data = b""  # the audit could not read it either
        if photo["sha256"] and hashlib.sha256(data).hexdigest() != photo["sha256"]:
            raise FovsfeError(f"{root / photo['path']}: has changed since the audit; run the command again")
        entry = paths[row].partition("/")[2]
        yield entry, data
        facts = {"id": photo["id"], "label": photo["label"]}
        yield f"{PurePosixPath(entry).stem}.json", json.dumps(facts, ensure_ascii=False).encode()


def _note_name(name: str) -> str:
    """Returns the name of the note beside a finished shard, which is removed once all shards are finished."""
    return f"{name.removesuffix('.tar')}.json"


def _put_text(out: AnyPath, name: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8", newline="")
        upload(file, out / name)
