"""Looks at every photo once: what cannot be read, what is there twice, what is labelled in two ways."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from fovsfe import machine
from fovsfe.photos import shards
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto, decode, read_header
from fovsfe.photos.layouts import DataSet
from fovsfe.photos.reader import read_bytes
from fovsfe.storage.locations import AnyPath

TINY = 64  # pixels of the shorter side, under which a car's badge or lights cannot be made out

# Two photos are near-duplicates when their 256-bit perceptual hashes differ in at most NEAR bits and their
# thumbnails in at most NEAR_COLOUR levels on average. On 3,316 photos of Stanford Cars a copy that was
# recompressed, resized or brightened differs in under 20 bits (99 of 100), one that lost 2 % at each edge or
# got a watermark in 28 to 40 (the median); of different photos, the closest two in 56. The five pairs found
# up to 40 are each one photo. The thumbnail is for plain pictures, whose hash says nothing.
NEAR = 40
NEAR_COLOUR = 24
HASH_SIDE = 16
LOOK_AT = (128, 128)  # the hash needs 64x64: JPEGs are decoded at a reduced scale

NO_FAULT = ""
DAMAGED_SHARD = "damaged shard"


@dataclass(frozen=True)
class Finding:
    """Something to know about some photos; `ids` are those of the table. dataclasses.asdict gives JSON."""

    kind: str  # "unreadable", "missing", "exact duplicates", "near duplicates", "two labels", ...
    severity: str  # "error", "warning" or "info"
    ids: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class AuditResult:
    """`table`: that of the photos with width, height (0 where unreadable; upright), sha256, phash (64 hex
    digits), fault ("" or the reason) and group (photos that are the same or nearly so share one number)."""

    table: pd.DataFrame
    findings: list[Finding]


@dataclass(frozen=True)
class _Inspection:
    fault: str
    width: int = 0
    height: int = 0
    sha256: str = ""
    phash: bytes = bytes(HASH_SIDE * HASH_SIDE // 8)
    thumbnail: bytes = bytes(8 * 8 * 3)
    notes: tuple[str, ...] = ()


def audit_photos(
    photos: DataSet,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> AuditResult:
    """Reads and decodes every photo in as many threads as there are cores, and compares them all.

    `progress(done, of)` is called after each photo. Nothing of a photo is kept but 250 bytes of hashes. With
    shards travels what was found before they were packed: of them only the checksums are looked at.
    """
    if photos.layout == "shards":
        return _travelled(photos, max_pixels, progress)
    looks = []
    for look in _inspect_all(photos, max_pixels):
        looks.append(look)
        progress(len(looks), len(photos.table))
    table = photos.table.copy()
    table["width"] = np.array([look.width for look in looks], np.int64)
    table["height"] = np.array([look.height for look in looks], np.int64)
    table["sha256"] = pd.Series([look.sha256 for look in looks], table.index, dtype=object)
    table["phash"] = pd.Series(
        [NO_FAULT if look.fault else look.phash.hex() for look in looks], table.index, dtype=object
    )
    table["fault"] = pd.Series([look.fault for look in looks], table.index, dtype=object)
    table["group"] = _groups(looks)
    findings = [
        *_faults(table),
        *_duplicates(table),
        *_tiny(table),
        *_notes(table, looks),
        *_balance(table, photos.class_names),
    ]
    return AuditResult(table, findings)


def _travelled(photos: DataSet, max_pixels: int, progress: Callable[[int, int], None]) -> AuditResult:
    """The audit of shards, less the photos of those that are damaged, and what is larger than it may be."""
    index, table = shards.read_shards(photos.root)
    findings = [Finding(**{**each, "ids": tuple(each["ids"])}) for each in shards.read_findings(photos.root)]
    archives = table["path"].str.partition("/")[0]
    for name, fault in shards.find_damaged_shards(photos.root, index, progress).items():
        lost = (archives == name) & (table["fault"] == NO_FAULT)
        table.loc[lost, "fault"] = f"in shard {name}, which {fault}"
        findings.append(Finding(DAMAGED_SHARD, "error", tuple(table["id"][lost]), f"{name} {fault}"))
    large = (table["width"] * table["height"] > max_pixels) & (table["fault"] == NO_FAULT)
    if large.any():
        detail = f"more than {max_pixels} pixels"
        table.loc[large, "fault"] = detail
        findings.append(Finding("unreadable", "error", tuple(table["id"][large]), detail))
    return AuditResult(table, findings)


def _inspect_all(photos: DataSet, max_pixels: int) -> Iterator[_Inspection]:
    # Threads, because reading, hashing, decoding and resizing all release the lock of the interpreter.
    with ThreadPoolExecutor(machine.cores()) as pool:
        yield from pool.map(partial(_inspect, photos.root, max_pixels), photos.table["path"])


def _inspect(root: AnyPath, max_pixels: int, path: str) -> _Inspection:
    try:
        data = read_bytes(root, path)
    except OSError as error:
        return _Inspection(_why_unread(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        head = read_header(data, max_pixels)
        image = Image.fromarray(decode(data, LOOK_AT, max_pixels))
    except BadPhoto as error:
        return _Inspection(str(error), sha256=digest)
    bits = imagehash.phash(image, hash_size=HASH_SIDE).hash
    thumbnail = image.resize((8, 8), Image.Resampling.BOX)
    return _Inspection(
        NO_FAULT,
        head.width,
        head.height,
        digest,
        np.packbits(bits).tobytes(),
        thumbnail.tobytes(),
        head.notes,
    )


def _why_unread(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return error.strerror or str(error)


# ---- which photos are the same


def _groups(looks: list[_Inspection]) -> npt.NDArray[np.int64]:
    """A number for every photo, shared by those that are connected through exact or near duplicates."""
    first: dict[str, int] = {}  # of each file's content, so that copies are compared once
    same = np.arange(len(looks))
    for i, look in enumerate(looks):
        if look.fault == NO_FAULT:
            same[i] = first.setdefault(look.sha256, i)
    rows = np.array(list(first.values()), np.int64)
    if len(rows):
        hashes = np.frombuffer(b"".join(looks[i].phash for i in rows), np.uint64).reshape(len(rows), -1)
        thumbnails = np.frombuffer(b"".join(looks[i].thumbnail for i in rows), np.uint8)
        near = rows[_connected(hashes, thumbnails.reshape(len(rows), -1).astype(np.int16))]
        leads = dict(zip(rows.tolist(), near.tolist(), strict=True))
        same = np.array([leads.get(int(i), int(i)) for i in same])
    return np.unique(same, return_inverse=True)[1].astype(np.int64)


def _connected(hashes: npt.NDArray[np.uint64], thumbnails: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """For each of n different files the lowest row of its component of near-duplicates: int64 (n,).

    Compares all with all, block by block, and folds each block's pairs into the components so far: memory
    stays at a few megabytes a block, also where all photos look alike.
    """
    count = len(hashes)
    leader = np.arange(count)
    block = max(1, 2_000_000 // count)
    for start in range(0, count, block):
        some = hashes[start : start + block]
        bits = np.zeros((len(some), count - start), np.uint16)
        for word in range(hashes.shape[1]):
            bits += np.bitwise_count(some[:, word, None] ^ hashes[None, start:, word])
        one, other = np.nonzero(bits <= NEAR)
        one, other = one + start, other + start
        one, other = one[one < other], other[one < other]
        for at in range(0, len(one), 20_000):
            some_one, some_other = one[at : at + 20_000], other[at : at + 20_000]
            apart = leader[some_one] != leader[some_other]
            some_one, some_other = some_one[apart], some_other[apart]
            colour = np.abs(thumbnails[some_one] - thumbnails[some_other]).mean(axis=1)
            alike = colour <= NEAR_COLOUR
            leader = _joined(leader, some_one[alike], some_other[alike])
    return leader


def _joined(
    leader: npt.NDArray[np.int64], one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Components after more pairs: of two joined ones, the higher leader follows the lower, to the end."""
    leader = leader.copy()
    while not np.array_equal(leader[one], leader[other]):
        low, high = np.minimum(leader[one], leader[other]), np.maximum(leader[one], leader[other])
        np.minimum.at(leader, high, low)
        while not np.array_equal(leader, leader[leader]):
            leader = leader[leader]
    return leader


# ---- what there is to say about them


def _faults(table: pd.DataFrame) -> Iterator[Finding]:
    for reason, rows in table[table["fault"] != NO_FAULT].groupby("fault", sort=False):
        if reason == "missing":
            detail = "named, but not there: gets the most frequent class in a submission"
            yield Finding("missing", "warning", tuple(rows["id"]), detail)
        else:
            yield Finding("unreadable", "error", tuple(rows["id"]), str(reason))


def _duplicates(table: pd.DataFrame) -> Iterator[Finding]:
    good = table[table["fault"] == NO_FAULT]
    for _, rows in good[good.duplicated("group", keep=False)].groupby("group", sort=False):
        for _, copies in rows[rows.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
            yield Finding("exact duplicates", "warning", tuple(copies["id"]), "the same file")
        exact = rows["sha256"].nunique() == 1
        if not exact:
            yield Finding("near duplicates", "warning", tuple(rows["id"]), "look alike; kept in one fold")
        how = "the same file" if exact else "one photo or near copies"
        class_names = list(dict.fromkeys(rows["label"][rows["part"] == "train"]))
        if len(class_names) > 1:
            named = ", ".join(f'"{label}"' for label in class_names)
            labelled = tuple(rows["id"][rows["part"] == "train"])
            yield Finding("two labels", "error", labelled, f"{how} under {named}")
        if rows["part"].nunique() > 1:
            yield Finding(
                "in both parts", "error", tuple(rows["id"]), f"{how}, both labelled and in the test part"
            )


def _tiny(table: pd.DataFrame) -> Iterator[Finding]:
    tiny = (table["fault"] == NO_FAULT) & (table[["width", "height"]].min(axis=1) < TINY)
    if tiny.any():
        detail = f"the shorter side is under {TINY} pixels"
        yield Finding("tiny", "warning", tuple(table["id"][tiny]), detail)


def _balance(table: pd.DataFrame, class_names: tuple[str, ...]) -> Iterator[Finding]:
    usable = table[(table["part"] == "train") & (table["fault"] == NO_FAULT)]
    counts = Counter(usable["label"])
    fewest, most = (
        min(class_names, key=lambda name: counts[name]),
        max(class_names, key=lambda name: counts[name]),
    )
    detail = (
        f"{len(usable)} readable labelled photos of {len(class_names)} labels, from {counts[fewest]} "
        f'("{fewest}") to {counts[most]} ("{most}")'
    )
    yield Finding("class balance", "info", (), detail)


def _notes(table: pd.DataFrame, looks: list[_Inspection]) -> Iterator[Finding]:
    for note in sorted({note for look in looks for note in look.notes}):
        ids = tuple(name for name, look in zip(table["id"], looks, strict=True) if note in look.notes)
        yield Finding("read as", "info", ids, f"{note}: read all the same")
