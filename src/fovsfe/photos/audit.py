"""Inspects every photo once: which ones cannot be read, are duplicates, or have two labels."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from fovsfe import machine
from fovsfe.arrays import Ints
from fovsfe.callbacks import Progress, no_progress
from fovsfe.photos import shards
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.names import case_folded, first_few
from fovsfe.photos.near_duplicates import merged, near_duplicates, signature
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import read_bytes
from fovsfe.storage.locations import AnyPath
from fovsfe.wording import counted

TINY = 64  # pixels of the shorter side, under which small features cannot be made out

DECODE_SIZE = (128, 128)  # the hash needs 64x64: JPEGs are decoded at a reduced scale

NO_FAULT = ""
DAMAGED_SHARD = "damaged shard"
BALANCE = "class balance"
MISSING = {  # split -> what a missing photo means there
    "train": "the file does not exist: the photo is left out of the training",
    "test": "the file does not exist: the submission gives it the most frequent label",
}


@dataclass(frozen=True)
class Finding:
    """Something to know about the photos `ids`. `dataclasses.asdict` makes it ready for JSON."""

    kind: str  # "unreadable", "missing", "exact duplicates", "near duplicates", "two labels", ...
    severity: str  # "error", "warning" or "info"
    ids: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class AuditResult:
    """What an audit has found.

    `table` is the listing's, with the columns width and height (of the upright photo; 0 if unreadable),
    bytes (of the encoded photo; 0 in shards, whose audit does not tell), sha256, phash (64 hex digits), fault
    (why a photo cannot be used, or "") and group (duplicates, near-duplicates and photos that belong together
    share a number).
    """

    table: pd.DataFrame
    findings: list[Finding]


@dataclass(frozen=True)
class _Inspection:
    fault: str
    width: int = 0
    height: int = 0
    size: int = 0  # bytes
    sha256: str = ""
    phash: bytes = b""
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()


def audit_photos(
    listing: PhotoListing,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = no_progress,
) -> AuditResult:
    """Reads and decodes every photo, one thread per core, and compares them all.

    Of each photo only 250 bytes of hashes are kept. Shards carry the audit of the photos they were packed
    from: only their checksums are verified.

    Args:
        listing: what `layouts.find_photos` has found.
        max_pixels: photos with more pixels count as unreadable.
        progress: called after each photo.

    Raises:
        FovsfeError: a URL cannot be reached or refuses access.
    """
    if listing.layout == "shards":
        return _audit_shards(listing, max_pixels, progress)
    inspections = []
    for inspection in _inspect_all(listing.root, listing.table["path"], max_pixels):
        inspections.append(inspection)
        progress(len(inspections), len(listing.table))
    table = listing.table.copy()
    table["width"] = np.array([inspection.width for inspection in inspections], np.int64)
    table["height"] = np.array([inspection.height for inspection in inspections], np.int64)
    table["bytes"] = np.array([inspection.size for inspection in inspections], np.int64)
    table["sha256"] = pd.Series([inspection.sha256 for inspection in inspections], table.index, dtype=object)
    table["phash"] = pd.Series(
        ["" if inspection.fault else inspection.phash.hex() for inspection in inspections],
        table.index,
        dtype=object,
    )
    table["fault"] = pd.Series([inspection.fault for inspection in inspections], table.index, dtype=object)
    table["group"] = _groups(inspections)
    findings = [*_faults(table), *_duplicates(table)]
    table["group"] = merge_groups(table["group"].to_numpy(np.int64), list(table["together"]))
    findings += [
        *_across_parts(table),
        *_possible_groups(table),
        *_tiny(table),
        *_notes(table, inspections),
        *_passed_over(listing.passed_over),
        *_labels_alike(listing.class_names),
        *_balance(table, listing.class_names),
    ]
    return AuditResult(table, findings)


def _audit_shards(listing: PhotoListing, max_pixels: int, progress: Progress) -> AuditResult:
    """Returns the audit that the shards carry, with faults added for damaged shards and too large photos."""
    index, table = shards.read_shards(listing.root)
    now = listing.table.set_index("id")  # without what fixes remove, and with the labels that they give
    table = table.set_index("id", drop=False).loc[now.index].reset_index(drop=True).assign(bytes=0)
    for column in ("split", "label"):
        table[column] = pd.Series(list(now[column]), table.index, dtype=object)
    table["group"] = merge_groups(table["group"].to_numpy(np.int64), list(now["together"]))
    findings = [
        finding
        for row in shards.read_findings(listing.root)
        if (finding := _after_fixes(Finding(**{**row, "ids": tuple(row["ids"])}), now)) is not None
    ]
    archives = table["path"].str.partition("/")[0]
    for name, fault in shards.find_damaged_shards(listing.root, index, progress).items():
        lost = (archives == name) & (table["fault"] == NO_FAULT)
        table.loc[lost, "fault"] = f"in shard {name}, which {fault}"
        findings.append(Finding(DAMAGED_SHARD, "error", tuple(table["id"][lost]), f"{name} {fault}"))
    large = (table["width"] * table["height"] > max_pixels) & (table["fault"] == NO_FAULT)
    for row in table.index[large]:  # of a JPEG, fewer pixels may be decoded
        table.loc[row, "fault"] = _inspect(listing.root, max_pixels, table["path"][row]).fault
    findings.extend(_faults(table[large]))
    findings.extend([*_passed_over(listing.passed_over), *_balance(table, listing.class_names)])
    return AuditResult(table, findings)


def _after_fixes(finding: Finding, now: pd.DataFrame) -> Finding | None:
    """Returns what is left of a finding of packed photos, by their listing `now`; None if nothing."""
    if finding.kind == BALANCE:  # of other labels
        return None
    ids = tuple(photo for photo in finding.ids if photo in now.index)
    is_of_several = finding.kind in ("exact duplicates", "near duplicates", "two labels", "in both splits")
    if len(ids) < min(len(finding.ids), 2 if is_of_several else 1):
        return None
    if finding.kind == "two labels" and now["label"].loc[list(ids)].nunique() == 1:
        return None
    return replace(finding, ids=ids)


def find_new_photos(
    root: AnyPath, paths: Sequence[str], known_root: AnyPath, known: pd.DataFrame, max_pixels: int
) -> pd.DataFrame:
    """Reads photos, and returns those that are no near-duplicates of known ones, nor of one another.

    Args:
        root: where they are.
        paths: under `root`.
        known_root: where the known photos are.
        known: their manifest.
        max_pixels: photos with more pixels count as unreadable.

    Returns:
        A table with the columns path, width, height, bytes and sha256, in the order of `paths`.

    Raises:
        FovsfeError: a URL cannot be reached or refuses access.
    """
    inspections = [
        *_inspect_all(known_root, known["path"], max_pixels),
        *_inspect_all(root, paths, max_pixels),
    ]
    _, first = np.unique(_groups(inspections), return_index=True)
    is_new = np.zeros(len(inspections), np.bool_)
    is_new[first] = True
    return pd.DataFrame(
        [
            (path, each.width, each.height, each.size, each.sha256)
            for path, each, new in zip(paths, inspections[len(known) :], is_new[len(known) :], strict=True)
            if new and each.fault == NO_FAULT
        ],
        columns=["path", "width", "height", "bytes", "sha256"],
    )


def _inspect_all(root: AnyPath, paths: Iterable[str], max_pixels: int) -> Iterator[_Inspection]:
    # Threads are enough: decoding has its processes, reading and hashing release the interpreter lock.
    with ThreadPoolExecutor(machine.cores()) as pool:
        yield from pool.map(partial(_inspect, root, max_pixels), paths)


def _inspect(root: AnyPath, max_pixels: int, path: str) -> _Inspection:
    try:
        data = read_bytes(root, path)
    except OSError as error:
        return _Inspection(_fault_of(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        photo = shared_pool().decode(data, DECODE_SIZE, max_pixels)
    except BadPhoto as error:
        return _Inspection(str(error), size=len(data), sha256=digest)
    return _Inspection(
        NO_FAULT,
        photo.header.width,
        photo.header.height,
        len(data),
        digest,
        *signature(photo.pixels[0]),
        photo.header.notes,
    )


def _fault_of(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return error.strerror or str(error)


# ---- duplicates


def _groups(inspections: list[_Inspection]) -> Ints:
    """Returns a number for every photo, shared by those that exact or near duplicates connect: int64 (n,)."""
    first: dict[str, int] = {}  # sha256 -> the first photo with it, so that copies are compared once
    same = np.arange(len(inspections))
    for i, inspection in enumerate(inspections):
        if inspection.fault == NO_FAULT:
            same[i] = first.setdefault(inspection.sha256, i)
    rows = np.array(list(first.values()), np.int64)
    if len(rows):
        hashes = np.frombuffer(b"".join(inspections[i].phash for i in rows), np.uint64).reshape(len(rows), -1)
        thumbnails = np.frombuffer(b"".join(inspections[i].thumbnail for i in rows), np.uint8)
        near = rows[near_duplicates(hashes, thumbnails.reshape(len(rows), -1))]
        leads = dict(zip(rows.tolist(), near.tolist(), strict=True))
        same = np.array([leads.get(int(i), int(i)) for i in same])
    return np.unique(same, return_inverse=True)[1].astype(np.int64)


def merge_groups(groups: Ints, together: Sequence[str]) -> Ints:
    """Returns a number for every photo, shared by those that a group or the same text connects: int64 (n,).

    Args:
        groups: of duplicates, int64 (n,).
        together: the n texts; "" connects nothing.
    """
    first: dict[str, int] = {}
    pairs = [(first.setdefault(text, row), row) for row, text in enumerate(together) if text]
    if not pairs:
        return groups
    # The lowest row of a group leads it, and that of two leads both.
    leader = np.full(groups.max() + 1, len(groups))
    np.minimum.at(leader, groups, np.arange(len(groups)))
    one, other = np.array(pairs, np.int64).T
    return np.unique(merged(leader[groups], one, other), return_inverse=True)[1].astype(np.int64)


# ---- findings


def _faults(table: pd.DataFrame) -> Iterator[Finding]:
    for reason, rows in table[table["fault"] != NO_FAULT].groupby("fault", sort=False):
        if reason != "missing":
            yield Finding("unreadable", "error", tuple(rows["id"]), str(reason))
            continue
        for split, listed in rows.groupby("split", sort=False):
            yield Finding("missing", "warning", tuple(listed["id"]), MISSING[str(split)])


def _duplicates(table: pd.DataFrame) -> Iterator[Finding]:
    good = table[table["fault"] == NO_FAULT]
    for _, rows in good[good.duplicated("group", keep=False)].groupby("group", sort=False):
        for _, copies in rows[rows.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
            yield Finding("exact duplicates", "warning", tuple(copies["id"]), "the same file")
        exact = rows["sha256"].nunique() == 1
        if not exact:
            yield Finding("near duplicates", "warning", tuple(rows["id"]), "look alike; kept in one fold")
        relation = "the same file" if exact else "one photo or near copies"
        class_names = list(dict.fromkeys(rows["label"][rows["split"] == "train"]))
        if len(class_names) > 1:
            named = ", ".join(f'"{label}"' for label in class_names)
            labelled = tuple(rows["id"][rows["split"] == "train"])
            yield Finding("two labels", "error", labelled, f"{relation} under {named}")
        if rows["split"].nunique() > 1:
            detail = f"{relation}, both labelled and in the test split"
            yield Finding("in both splits", "error", tuple(rows["id"]), detail)


def _across_parts(table: pd.DataFrame) -> Iterator[Finding]:
    """Yields the photos to train on of which there are copies, or others of their group, that validate."""
    usable = table[(table["split"] == "train") & (table["fault"] == NO_FAULT)]
    if (usable["given_fold"] == "").any():
        validating = set(usable["group"][usable["given_fold"] != ""])
        moved = usable[(usable["given_fold"] == "") & usable["group"].isin(validating)]
        if len(moved):
            detail = "copies, or of a group, of photos in the validation part: they validate, too"
            yield Finding("across parts", "warning", tuple(moved["id"]), detail)


# A number or code, then one or two more digits, a single letter, or a side of what the photo shows.
_ONE_OF_SEVERAL = re.compile(
    r"(?:^|/)([^/]*\d[^/]*?)[ _.-]?(?:[ _.-](?:front|rear|back|side|left|right|top|bottom|inside|outside|"
    r"interior|exterior|[a-z]|\d{1,2})|\(\d{1,2}\))\.[^./]*$",
    re.IGNORECASE,
)


def _possible_groups(table: pd.DataFrame) -> Iterator[Finding]:
    """Yields a hint if most names look like "123_front" and "123_rear", and no groups were given.

    Numbers that only count the photos of a label, as in "rose_1", are no groups: there must be several groups
    for each label, and most photos in groups of several.
    """
    labelled = table[(table["split"] == "train") & (table["fault"] != "missing")]
    if (labelled["together"] != "").any():
        return
    keys = [match[1] if (match := _ONE_OF_SEVERAL.search(path)) else "" for path in labelled["path"]]
    counts = Counter(key for key in keys if key)
    shared = {key for key, count in counts.items() if count > 1}
    inside = sum(counts[key] for key in shared)
    if len(shared) >= 3 * labelled["label"].nunique() and inside > len(labelled) / 2:
        rows = labelled[[key == next(key for key in keys if key in shared) for key in keys]]
        detail = (
            f"the names of {inside} photos look like {len(shared)} things with several photos each, "
            "which should not be trained on and validated at once: --group-by "
            "'([^/]*\\d[^/]*?)[ _.(-]+[^/ _.(-]+\\.[^./]*$' keeps them together"
        )
        yield Finding("possible groups", "warning", tuple(rows["id"]), detail)


def _passed_over(passed_over: PassedOver) -> Iterator[Finding]:
    for reason, detail in passed_over.described():
        yield Finding(reason.kind, reason.severity, (), detail)


def _tiny(table: pd.DataFrame) -> Iterator[Finding]:
    tiny = (table["fault"] == NO_FAULT) & (table[["width", "height"]].min(axis=1) < TINY)
    if tiny.any():
        detail = f"the shorter side is under {TINY} pixels"
        yield Finding("tiny", "warning", tuple(table["id"][tiny]), detail)


def _labels_alike(class_names: tuple[str, ...]) -> Iterator[Finding]:
    """Yields the labels that only capitals, blanks, hyphens or the like tell apart."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(re.sub(r"[\W_]", "", case_folded(name)) or name, []).append(name)
    for names in alike.values():
        if len(names) > 1:
            detail = f"{first_few(names)} are different labels; if they are the same, give them one name"
            yield Finding("labels alike", "warning", (), detail)


def _balance(table: pd.DataFrame, class_names: tuple[str, ...]) -> Iterator[Finding]:
    usable = table[(table["split"] == "train") & (table["fault"] == NO_FAULT)]
    counts = Counter(usable["label"])
    fewest = min(class_names, key=lambda name: counts[name])
    most = max(class_names, key=lambda name: counts[name])
    photos = counted(len(usable), "readable labelled photo")
    detail = (
        f"{photos} of {counted(len(class_names), 'label')}, from {counts[fewest]} "
        f'("{fewest}") to {counts[most]} ("{most}")'
    )
    yield Finding(BALANCE, "info", (), detail)


def _notes(table: pd.DataFrame, inspections: list[_Inspection]) -> Iterator[Finding]:
    for note in sorted({note for inspection in inspections for note in inspection.notes}):
        having = [note in inspection.notes for inspection in inspections]
        yield Finding("read as", "info", tuple(table["id"][having]), f"{note}: can be read all the same")
