"""Packing photos into shards, with what the audit found: what an interrupted call has packed stays."""

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
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from fovsfe.errors import FovsfeError
from fovsfe.photos.layouts import DataSet
from fovsfe.photos.reader import read_bytes, read_file
from fovsfe.photos.shards import COLUMNS, FINDINGS, FORMAT, INDEX, TABLE, Progress, Shard, ShardIndex
from fovsfe.storage.locations import AnyPath, exists
from fovsfe.storage.retry import retry
from fovsfe.storage.transfer import upload


def pack_shards(
    photos: DataSet,
    table: pd.DataFrame,
    findings: Sequence[dict[str, Any]],
    shard_of: npt.NDArray[np.int64],
    out: AnyPath,
    tick: Progress,
) -> ShardIndex:
    """Packs photos into shards at `out`, a folder or a URL; what an interrupted call has packed stays.

    `table` and `findings` are those of the audit, `shard_of` (n,) the shard of every row. An entry is
    NUMBER.SUFFIX, the photo as it is, and NUMBER.json, its id and label; NUMBER is its row in the table.

    Raises FovsfeError where there are shards already, a photo has changed since the audit, or `out` cannot be
    written or reached.
    """
    if exists(out / INDEX):
        raise FovsfeError(f"{out} holds shards already; choose another --out")
    table = table.reset_index(drop=True)
    paths, made = [""] * len(table), []
    rows_of: dict[int, list[int]] = {}
    for row, number in enumerate(shard_of):
        rows_of.setdefault(int(number), []).append(row)
    count: Counter[str] = Counter()
    for done, number in enumerate(sorted(rows_of)):
        rows = rows_of[number]
        part = str(table["part"].iloc[rows[0]])
        name = f"{part}-{count[part]:06d}.tar"
        count[part] += 1
        made.append(_shard(photos.root, table, rows, out, name, paths))
        tick(done + 1, len(rows_of))
    labelled = Counter(table["label"][table["part"] == "train"])
    index = ShardIndex(
        format=FORMAT,
        layout=photos.layout,
        class_names=list(photos.class_names),
        label_ids=photos.label_ids,
        photos_of_label={label: labelled[label] for label in photos.class_names},
        shards=made,
    )
    packed = table.assign(path=np.array(paths, object))[COLUMNS]
    _put_text(out, TABLE, packed.to_csv(index=False, lineterminator="\n"))
    _put_text(out, FINDINGS, json.dumps(list(findings), ensure_ascii=False, indent=1) + "\n")
    if photos.sample is not None:
        _put_text(out, "sample-submission.csv", photos.sample.to_csv(index=False, lineterminator="\n"))
    _put_text(out, INDEX, index.model_dump_json(indent=1) + "\n")
    _tidy(out, {shard.name for shard in made})
    return index


def _tidy(out: AnyPath, names: set[str]) -> None:
    """Removes the notes, and tars that an interrupted call with other photos or sizes has left."""
    there: list[AnyPath] = retry(lambda: list(out.iterdir()), str(out))
    for file in there:
        stem, _, suffix = file.name.rpartition(".")
        if re.fullmatch(r"(train|test)-[0-9]{6}", stem) and (suffix == "json" or file.name not in names):
            retry(partial(file.unlink, missing_ok=True), str(file))


def _noted(out: AnyPath, name: str) -> Shard | None:
    """What an interrupted call has noted of a shard that it made; None where it made none."""
    try:
        note = Shard.model_validate_json(read_file(out / _note(name)))
    except (OSError, ValidationError):
        return None
    return note if exists(out / name) else None


def _shard(
    root: AnyPath, table: pd.DataFrame, rows: Sequence[int], out: AnyPath, name: str, paths: list[str]
) -> Shard:
    """One shard, made unless it is there, and its entries' places, which go into `paths`."""
    some = table.iloc[list(rows)]
    listed = some[["id", "label", "sha256"]].to_csv(header=False, lineterminator="\n")
    content = hashlib.sha256(listed.encode()).hexdigest()
    for row, path, fault in zip(rows, some["path"], some["fault"], strict=True):
        if fault != "missing":
            paths[row] = f"{name}/{row:09d}{PurePosixPath(path).suffix.lower()}"
    if (there := _noted(out, name)) and there.content == content:
        return there
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
        file = Path(folder) / name
        with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
            for entry, data in _entries(root, some, paths):
                about = tarfile.TarInfo(entry)
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        shard = Shard(name=name, photos=len(rows), bytes=file.stat().st_size, sha256=digest, content=content)
        upload(file, out / name)
    _put_text(out, _note(name), shard.model_dump_json() + "\n")
    return shard


def _entries(root: AnyPath, some: pd.DataFrame, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for row, photo in zip(some.index, some.to_dict("records"), strict=True):
        if not paths[row]:
            continue
        try:
            data = read_bytes(root, photo["path"])
        except OSError as error:
            if photo["fault"]:  # it could not be read before, either
                data = b""
            else:
                raise FovsfeError(f"{root / photo['path']}: {error}; put it back") from error
        if photo["sha256"] and hashlib.sha256(data).hexdigest() != photo["sha256"]:
            raise FovsfeError(f"{root / photo['path']}: has changed since it was looked at; call this again")
        entry = paths[row].partition("/")[2]
        yield entry, data
        about = {"id": photo["id"], "label": photo["label"]}
        yield f"{PurePosixPath(entry).stem}.json", json.dumps(about, ensure_ascii=False).encode()


def _note(name: str) -> str:
    """What is written beside a shard until all are there, so that an interrupted call goes on."""
    return f"{name.removesuffix('.tar')}.json"


def _put_text(out: AnyPath, name: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fovsfe-") as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8", newline="")
        upload(file, out / name)
