"""Fixes of photos, as data: a table of what somebody decided of each photo. The photos stay as they are.

A fix is of a photo's id and content: of a photo that has changed since, it says nothing any more.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.lists import read_table
from fovsfe.photos.names import first_few, natural, nfc
from fovsfe.photos.passed_over import PassedOver, Reason
from fovsfe.photos.reader import read_bytes
from fovsfe.storage.locations import as_path
from fovsfe.tables import plain_texts, write_csv
from fovsfe.wording import counted

Action = Literal["keep", "relabel", "remove", "group", "undo"]


def _not_applied(one: str, many: str) -> Reason:
    return Reason(one, many, "not applied", "warning", "fixes", examples=sys.maxsize)


NOT_THERE = _not_applied("fix of a photo that is not there", "fixes of photos that are not there")
CHANGED = _not_applied("fix of a photo that has changed since", "fixes of photos that have changed since")
NO_SUCH_LABEL = _not_applied("fix with a label that no photo has", "fixes with a label that no photo has")
ASKED_FOR = _not_applied(
    "fix of a test photo that the sample submission asks for",
    "fixes of test photos that the sample submission asks for",
)
CONFLICT = _not_applied(
    "photo of which two files of fixes say something else",
    "photos of which two files of fixes say something else",
)


@dataclass(frozen=True)
class Fix:
    """What somebody decided of a photo: a row of fixes.csv, whose columns are these fields."""

    id: str
    """of the photo, as in the manifest"""
    sha256: str
    """of the content that was looked at, in hexadecimal"""
    action: Action
    """"keep": its label is right; "relabel"; "remove": it is left out; "group": it stays on one side of every
    split with all photos of its group; "undo": takes back what earlier rows say of it"""
    label: str = ""
    """the new label, if it is relabelled"""
    group: str = ""
    """what the photos of its group share, if it is grouped"""
    who: str = ""
    when: str = ""
    """in ISO 8601"""
    why: str = ""

    @property
    def decision(self) -> tuple[str, ...]:
        """What is decided, whoever decided it."""
        return (self.action, self.label, self.group)

    def described(self) -> str:
        """Returns the decision in words."""
        return " ".join(filter(None, (self.action, self.label, self.group)))


COLUMNS = tuple(field.name for field in fields(Fix))
_NEEDED = ("id", "sha256", "action")


@dataclass(frozen=True)
class Fixes:
    """What files of fixes come to, merged."""

    fixes: tuple[Fix, ...] = ()
    """one for each photo and content"""
    conflicts: tuple[str, ...] = ()
    """in words, the photos of which files say something else; no fix of theirs is among `fixes`"""


def is_fixes(columns: Iterable[object]) -> bool:
    """Returns whether a table with these columns is one of fixes, and not a list of photos and labels."""
    return set(_NEEDED) <= set(columns)


def read_rows(file: str) -> list[Fix]:
    """Returns the rows of a file of fixes, a path or URL, in its order.

    Raises FovsfeError, which names the row, if the file cannot be read or says what is no fix.
    """
    location = as_path(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of cells that would be lost
            table = plain_texts(read_table(location.parent, location.name, "", PassedOver()))
    except pd.errors.ParserWarning as error:
        raise FovsfeError(
            f"{file}: a row has more cells than there are columns; put texts with a separator into quotes"
        ) from error
    if missing := [column for column in _NEEDED if column not in table]:
        raise FovsfeError(
            f"{file}: has no column {missing[0]}; fixes have the columns {', '.join(COLUMNS)} (docs/files.md)"
        )
    table = table.reindex(columns=list(COLUMNS), fill_value="")
    rows = []
    for at, cells in zip(table.index, table.itertuples(index=False), strict=True):
        if not any(cells):  # as spreadsheets leave at the end
            continue
        fix = Fix(*cells)
        fix = replace(fix, sha256=fix.sha256.lower(), label=nfc(fix.label))
        if fault := _fault(fix):
            raise FovsfeError(f"{file}: row {int(at) + 2} {fault}; correct it, or delete the row")
        rows.append(fix)
    return rows


def _fault(fix: Fix) -> str:
    """Returns what is wrong with a row, in words; "" if nothing is."""
    if not fix.id:
        return "has no id of a photo"
    if not re.fullmatch("[0-9a-f]{64}", fix.sha256):
        return f'has "{fix.sha256[:80]}" for a SHA-256, which has 64 hexadecimal digits'
    if fix.action not in get_args(Action):
        return f'has the action "{fix.action[:80]}"; it can be {", ".join(get_args(Action))}'
    if fix.action == "relabel" and not fix.label:
        return "relabels a photo, but has no label"
    if fix.action == "group" and not fix.group:
        return "groups a photo, but has no group"
    return ""


def decisions(rows: Iterable[Fix]) -> dict[tuple[str, str], Fix]:
    """Returns what the rows of one file come to, by id and SHA-256: of several rows of a photo, the last one
    counts."""
    last: dict[tuple[str, str], Fix] = {}
    for fix in rows:
        key = fix.id, fix.sha256
        last.pop(key, None)  # so that it stands where it was last decided
        if fix.action != "undo":
            last[key] = fix
    return last


def read_fixes(files: Sequence[str]) -> Fixes:
    """Reads files of fixes, paths or URLs, and merges them.

    Raises FovsfeError as `read_rows` does.
    """
    return merge_fixes({file: read_rows(file) for file in files})


def merge_fixes(rows_of: Mapping[str, Sequence[Fix]]) -> Fixes:
    """Merges the rows of files, by their names. Where two of them decide differently, neither counts."""
    said: dict[tuple[str, str], dict[str, Fix]] = {}
    for file, rows in rows_of.items():
        for key, fix in decisions(rows).items():
            said.setdefault(key, {})[file] = fix
    fixes, conflicts = [], []
    for (photo, _), by_file in said.items():
        if len({fix.decision for fix in by_file.values()}) == 1:
            fixes.append(next(iter(by_file.values())))
            continue
        words = [f"{Path(file).name}: {fix.described()}" for file, fix in by_file.items()]
        conflicts.append(f"{photo}: {', '.join(words)}")
    return Fixes(tuple(fixes), tuple(conflicts))


def write_fixes(file: Path, fixes: Iterable[Fix]) -> None:
    """Writes fixes.csv, whole or not at all. Raises FovsfeError if it cannot be written."""
    write_csv(file, pd.DataFrame(map(astuple, fixes), columns=pd.Index(COLUMNS), dtype=object), True)


def signed(fix: Fix) -> Fix:
    """Returns a fix with who decides it and the time, which is now."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        who = ""
    return replace(fix, who=who, when=datetime.now(UTC).isoformat(timespec="seconds"))


def apply_fixes(listing: PhotoListing, fixes: Fixes) -> PhotoListing:
    """Returns the listing with the fixes applied. What is not applied is told to its `passed_over`.

    A test photo that gets a label is a labelled photo from then on, unless a sample submission asks for it.

    Raises FovsfeError if no photo of a label is left, or a URL cannot be reached.
    """
    told = listing.passed_over
    for conflict in fixes.conflicts:
        told.add(CONFLICT, conflict)
    table = listing.table.copy()
    row_of = {photo: row for row, photo in enumerate(table["id"])}
    removed, count = [], Counter[str]()
    for photo, fix in _valid(listing, fixes.fixes):
        row = row_of[photo]
        is_asked_for = table["split"].iat[row] == "test" and listing.sample is not None
        if fix.action in ("relabel", "remove") and is_asked_for:
            told.add(ASKED_FOR, photo)
            continue
        if fix.action == "relabel" and fix.label not in listing.class_names:
            told.add(NO_SUCH_LABEL, f"{photo}: {fix.label}")
            continue
        if fix.action == "relabel":
            table.loc[table.index[row], ["split", "label"]] = ["train", fix.label]
        elif fix.action == "remove":
            removed.append(table.index[row])
        elif fix.action == "group":
            table.loc[table.index[row], "together"] = fix.group
        count[fix.action] += 1
    table = table.drop(index=removed)
    order = sorted(range(len(table)), key=lambda at: table["split"].iat[at] == "test")  # stable
    table = table.iloc[order].reset_index(drop=True)
    there = set(table["label"][table["split"] == "train"])
    if lost := [name for name in listing.class_names if name not in there]:
        raise FovsfeError(
            f"{listing.root}: the fixes leave no photo of {first_few(sorted(lost, key=natural))}; take one"
            " back, or move the label's photos away"
        )
    words = {"keep": "kept", "relabel": "relabelled", "remove": "removed", "group": "grouped"}
    applied = [f"{count[action]} {word}" for action, word in words.items() if count[action]]
    reading = listing.reading
    if fixes.fixes:
        reading = (*reading, f"fixes: {counted(count.total(), 'photo')} ({', '.join(applied) or 'none'})")
    return replace(listing, table=table, reading=reading)


def _valid(listing: PhotoListing, fixes: Iterable[Fix]) -> Iterator[tuple[str, Fix]]:
    """Yields the fixes of photos that are as they were, with the photos' ids; the others are told."""
    paths = dict(zip(listing.table["id"], listing.table["path"], strict=True))
    of_photo: dict[str, list[Fix]] = {}
    for fix in fixes:
        of_photo.setdefault(fix.id, []).append(fix)
    for photo, candidates in of_photo.items():
        if not paths.get(photo):
            listing.passed_over.add(NOT_THERE, photo)
            continue
        try:
            now = hashlib.sha256(read_bytes(listing.root, paths[photo])).hexdigest()
        except OSError:
            listing.passed_over.add(NOT_THERE, photo)
            continue
        if fitting := [fix for fix in candidates if fix.sha256 == now]:
            yield photo, fitting[0]
        else:
            listing.passed_over.add(CHANGED, photo)


def propose_fixes(table: pd.DataFrame) -> list[Fix]:
    """Returns fixes for what an audit alone can tell, for somebody to look at.

    Labelled photos that cannot be read are removed. Of one file under several labels, the copies under the
    label that most have are kept, and the others removed; all are if there is no such label.

    Args:
        table: that of the audit.
    """
    labelled = table[(table["split"] == "train") & (table["sha256"] != "")]
    unreadable = labelled[labelled["fault"] != ""]
    proposed = [
        Fix(photo, sha256, "remove", why=f"cannot be read: {fault}")
        for photo, sha256, fault in unreadable[["id", "sha256", "fault"]].itertuples(index=False)
    ]
    readable = labelled[labelled["fault"] == ""]
    for _, copies in readable[readable.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        (likeliest, most), *others = Counter(copies["label"]).most_common()
        if not others:
            continue
        kept = likeliest if most > others[0][1] else None
        why = f"the same file under {first_few(sorted(set(copies['label']), key=natural))}"
        proposed += [
            Fix(photo, sha256, "remove", why=why)
            for photo, sha256, label in copies[["id", "sha256", "label"]].itertuples(index=False)
            if label != kept
        ]
    return [signed(fix) for fix in proposed]
