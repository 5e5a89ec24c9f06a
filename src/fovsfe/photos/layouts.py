"""Layouts of photos: finds the photos of a folder or a bucket, in whichever usual layout they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.photos import passed_over as reasons
from fovsfe.photos import shards
from fovsfe.photos.fixes import is_fixes
from fovsfe.photos.labels import Lists, PhotoList, folders_are_labels, is_linked_out
from fovsfe.photos.listing import COLUMNS, FoundPhoto, NoLabels, PhotoListing, listing_table
from fovsfe.photos.lists import (
    NO_ROW,
    Columns,
    find_columns,
    is_probabilities,
    is_sample_name,
    other_labels,
    probability_columns,
    read_class_names,
    read_table,
    usual_columns,
)
from fovsfe.photos.names import Part, PhotoNames, first_few, look_like_parts, natural, nfc, part_of
from fovsfe.photos.passed_over import PassedOver, Reason
from fovsfe.photos.places import Placed, parts_among, place, stem_of, treat_train_as_label
from fovsfe.photos.reader import is_archive_name, leads_out, local_path, open_archive
from fovsfe.photos.walk import Entry, is_hidden, is_table_name, list_folder, photos_of_archive, walk_photos
from fovsfe.storage.locations import AnyPath, exists, is_dir, is_file
from fovsfe.wording import counted

LAYOUTS = ("parts", "folders", "list")
KNOWN_LAYOUTS = (
    "train/CLASS/PHOTO (or train.zip) with test/ and a sample submission, train/, valid/ and test/, "
    "CLASS/PHOTO, or a list (CSV) of photos and labels"
)
_LABEL_IN_NAME = re.compile(r"(.*[^\W\d_])[ ._-]*\(?\d+\)?$")  # "cat.0", "Abyssinian_1", "rose (3)"
_OTHER_LISTS = (".xlsx", ".xls", ".ods", ".txt", ".xml", ".mat", ".parquet")
MAX_TABLES = 20  # of a folder, that are looked into: some programs write one for each photo


def find_photos(
    root: AnyPath,
    follow_links: bool = False,
    layout: str | None = None,
    group_by: str | None = None,
    encoding: str = "",
) -> PhotoListing:
    """Finds the photos under `root`: a folder, an archive, or a list of photos; here or at a URL.

    Args:
        root: what holds the photos.
        follow_links: whether a list, or shards, may name what is not in their folder: by an absolute path,
            by "..", or by a symbolic link. Otherwise such photos are passed over. The links of a folder that
            is searched are followed in any case.
        layout: one of LAYOUTS, to take that reading; None for the likeliest. "parts": folders such as train
            and test are parts, and the folders in them are labels; "folders": each folder is a label,
            whatever its name; "list": labels are those of a list, whatever the folders are called.
        group_by: a regular expression for paths under `root`, with "/" between folders; photos with the same
            text in its first group belong together. None for the column "group" of a list.
        encoding: that of lists; "" to detect it.

    Raises FovsfeError, with what was found and what to do, if no layout fits, or names are ambiguous.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"--layout {layout}: it can be {', '.join(LAYOUTS)}")
    if not exists(root):
        raise FovsfeError(f"{root}: there is no such file or folder; give the folder that holds the photos")
    pattern = _compiled(group_by)
    if not is_file(root):
        names = [entry.name for entry in _entries(root)]
        if shards.INDEX in names:
            if layout or group_by:
                raise UsageError(f"{root}: shards have their layout and groups already; leave the option out")
            return _from_shards(root, follow_links)
        folder = _Folder(root, root, encoding)
        folder.search()
    elif is_archive_name(root.name):
        folder = _Folder(root.parent, root, encoding)
        tables: list[str] = []
        found = photos_of_archive(root, folder.passed_over, tables)
        folder.photos = [f"{root.name}/{name}" for name in found]
        folder.tables = [f"{root.name}/{name}" for name in tables]
    elif is_table_name(root.name):
        folder = _Folder(root.parent, root, encoding, given_list=root.name)
        folder.photos = sorted(walk_photos(root.parent, folder.passed_over, tables=folder.tables))
    else:
        raise FovsfeError(
            f"{root} is not a folder; give the folder of the photos, a zip or tar, or a CSV of them"
        )
    builder = None
    try:
        builder = _ListingBuilder(folder, layout, follow_links)
        return builder.listing(pattern)
    except UsageError:
        raise
    except FovsfeError as error:
        lost = dict(folder.passed_over.described()).get(reasons.UNREADABLE_TABLES)
        hints = [lost] if lost else []
        if isinstance(error, NoLabels):
            if builder and (parts := builder.parts_in_words()):
                hints.append(f"read as parts: {parts}; --layout folders takes each folder for a label")
            hints += folder.hints_at_labels()
        raise FovsfeError("; ".join([str(error), *hints])) from error


@dataclass
class _Folder:
    """What is in the folder: photos and tables, by their paths under `root`."""

    root: AnyPath
    shown: AnyPath
    """what was given, for messages"""
    encoding: str
    given_list: str | None = None
    """the list that was given instead of a folder"""
    photos: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)
    unreadable: set[str] = field(default_factory=set)
    """the tables that could not be read"""
    _read: dict[str, pd.DataFrame | None] = field(default_factory=dict)

    @cached_property
    def names(self) -> PhotoNames:
        """The names of all photos."""
        return PhotoNames(self.photos)

    def hints_at_labels(self) -> list[str]:
        """Returns where labels may be that nothing here reads."""
        hints = []
        tables = [path for path in self.tables if path not in self.unreadable and not is_sample_name(path)]
        if tables and self.given_list is None:
            hints.append(f"not taken for a list, with the columns path and label: {first_few(tables)}")
        others = self.passed_over.examples.get(reasons.NOT_PHOTOS, [])
        if named := [name for name in others if PurePosixPath(name).suffix.lower() in _OTHER_LISTS]:
            hints.append(
                f"if labels are in {first_few(named)}: save them as CSV with the columns path and label"
            )
        stems = [PurePosixPath(path).stem for path in self.photos]
        labels = Counter(match[1] for stem in stems if (match := _LABEL_IN_NAME.match(stem)))
        if len(labels) > 1 and min(labels.values()) > 1 and 2 * labels.total() >= len(stems):
            hints.append(
                f"labels in the names of photos, such as {first_few(labels)}, are not read: put each label's "
                "photos into a folder of its own, or write a list (CSV) with the columns path and label"
            )
        return hints

    def search(self) -> None:
        """Walks the folder. Archives beside what was unpacked from them are not opened."""
        skip = self._archives_to_skip()
        self._walk(skip)
        if skip and not self.photos:
            self._walk({})
        elif skip:
            for name, reason in skip.items():
                self.passed_over.add(reason, name)

    def _walk(self, skip: Mapping[str, Reason]) -> None:
        self.passed_over, self.tables = PassedOver(), []
        self.photos = sorted(walk_photos(self.root, self.passed_over, skip, self.tables))
        for path in self.photos:
            if "/" not in path and is_archive_name(path) and is_file(self.root / path):
                open_archive(self.root / path)  # is damaged: this says why

    def _archives_to_skip(self) -> dict[str, Reason]:
        entries = _entries(self.root)
        folders = {entry.name for entry in entries if entry.kind == "folder"}
        archives = [
            entry.name
            for entry in entries
            if entry.kind == "file" and is_archive_name(entry.name) and not _is_packed_table(entry.name)
        ]
        stems = {name: stem_of(name) for name in archives}
        if any(part_of(name) == "train" for name in (*folders, *stems.values())):
            parts = {stem for stem in stems.values() if part_of(stem)} - folders
            return {
                name: reasons.BESIDE_FOLDERS if stem in folders else reasons.BESIDE_PARTS
                for name, stem in stems.items()
                if stem not in parts
            }
        return dict.fromkeys(archives, reasons.BESIDE_FOLDERS) if folders else {}

    def table(self, path: str) -> pd.DataFrame | None:
        """Returns a table; None if it cannot be read, which is told. Raises FovsfeError for a list given."""
        if path not in self._read:
            try:
                self._read[path] = read_table(self.root, path, self.encoding, self.passed_over)
            except FovsfeError as error:
                if path == self.given_list or PurePosixPath(path).name.lower() == "classes.csv":
                    raise
                self.passed_over.add(reasons.UNREADABLE_TABLES, str(error).removeprefix(f"{self.root}/"))
                self.unreadable.add(path)
                self._read[path] = None
        return self._read[path]


class _ListingBuilder:
    """Makes the table of photos of a folder, from where they lie and what lists say of them."""

    def __init__(self, folder: _Folder, layout: str | None, follow_links: bool) -> None:
        self._folder, self._layout, self._follow_links = folder, layout, follow_links
        self._root, self._shown, self._passed_over = folder.root, folder.shown, folder.passed_over
        self._used: set[str] = set()
        self._prefix = "" if folder.given_list else self._beginning()
        self._names = self._class_names()
        may_have_parts = folder.given_list is None and layout != "folders"
        self._photos = place(folder.photos, self._prefix, may_have_parts)
        self._sample_file = ""
        self._labelled_tops = {photo.top for photo in self._photos}
        """the parts in which folders are labels"""

    def listing(self, group_by: re.Pattern[str] | None) -> PhotoListing:
        """Returns the listing. Raises FovsfeError if no layout fits."""
        lists = self._lists()
        applied = Lists(self._root, self._photos, self._follow_links, not self._tops(), self._passed_over)
        for each in lists:
            applied.apply(each)
            self._used.add(each.path)
        if self._folder.given_list and not applied.found:
            raise self._nothing_listed(self._folder.given_list)
        if self._layout is None:
            treat_train_as_label(self._photos)
        self._drop_what_is_beside()
        photos, unlabelled = self._labelled()
        tested, sample = self._tested(unlabelled, {photo.label for photo in photos})
        unlabelled = [photo for photo in unlabelled if photo.part != "test"]
        self._tell_unlabelled(unlabelled, bool(lists))
        if not photos and lists:
            raise self._nothing_listed(lists[-1].path)
        if not photos:
            raise NoLabels(
                f"{self._shown}: no labelled photos; {_inventory(self._shown)}; "
                f"known layouts: {KNOWN_LAYOUTS}"
            )
        self._give_ids(photos, tested)
        photos += tested
        self._group(photos, group_by)
        root = self._moved_root(photos)
        table, class_names, label_ids = listing_table(self._shown, photos, self._names)
        if sample is not None:
            self._check_sample(sample, label_ids)
        if self._folder.given_list is None:
            for path in self._folder.tables:
                if path not in self._used and path not in self._folder.unreadable:
                    self._passed_over.add(reasons.UNUSED_TABLES, path)
        layout = "parts" if self._tops() else "list" if lists else "folders"
        reading = tuple(self._described(layout, lists, table, sample))
        return PhotoListing(root, layout, table, class_names, label_ids, sample, self._passed_over, reading)

    # ---- where the photos lie

    def _beginning(self) -> str:
        """Returns the folder under the root in which the layout begins, with "/" at its end, or ""."""
        prefix = "" if self._shown == self._root else f"{self._shown.name}/"  # an archive was given
        photos = [path[len(prefix) :] for path in self._folder.photos]
        while len(tops := {path.partition("/")[0] for path in photos}) == 1:
            top = tops.pop()
            inside = [path.partition("/")[2] for path in photos]
            if not all(inside) or (self._layout != "folders" and part_of(stem_of(top))):
                break
            is_deep = all("/" in path for path in inside)
            if self._layout != "folders" and any(map(self._is_list, self._tables_in(prefix))):
                # A list may lie above the parts; otherwise, the folders below may be anything.
                is_above_parts = is_deep and bool(parts_among(path.partition("/")[0] for path in inside))
                if not is_above_parts:
                    break
            there = f"{prefix}{top}/"
            if not is_deep and not any(map(self._is_list, self._tables_in(there))):
                break
            prefix, photos = there, inside
        return prefix

    @cached_property
    def _levels(self) -> list[str]:
        """The folder in which the layout begins, and those above it."""
        above = self._prefix.rstrip("/").split("/")
        return ["/".join(above[:count]) for count in range(len(above), 0, -1)] + [""] * bool(self._prefix)

    def _tops(self) -> dict[str, Part]:
        """Returns the folders of parts: name -> part."""
        return {photo.top: photo.part for photo in self._photos if photo.top and photo.part}

    def _drop_what_is_beside(self) -> None:
        """Passes over photos that are in no part although there are parts, and archives beside folders."""
        if any(photo.part == "train" and photo.top for photo in self._photos):
            reason, beside = reasons.BESIDE_PARTS, [p for p in self._photos if not p.top and not p.row]
        else:
            free = [p for p in self._photos if not p.top and not p.row and "/" in p.name]
            packed = [photo for photo in free if self._is_packed(photo)]
            # As they were downloaded: their photos are in the folders, too.
            reason, beside = reasons.BESIDE_FOLDERS, packed if len(packed) < len(free) else []
        for photo in beside:
            self._passed_over.add(reason, photo.path)
        left_out = set(map(id, beside))
        self._photos[:] = [photo for photo in self._photos if id(photo) not in left_out]

    def _is_packed(self, photo: Placed) -> bool:
        top = photo.name.partition("/")[0]
        return is_archive_name(top) and not is_dir(self._root / f"{self._prefix}{top}")

    # ---- tables

    def _class_names(self) -> dict[str, str]:
        """Returns category -> label from classes.csv; empty if there is none."""
        for path in [path for folder in self._levels for path in self._tables_in(folder)]:
            if PurePosixPath(path).name.lower() == "classes.csv":
                self._used.add(path)
                table = self._folder.table(path)
                return {} if table is None else read_class_names(self._root / path, table)
        return {}

    def _tables_in(self, folder: str) -> list[str]:
        """Returns the tables directly in a folder, those with telling names first, at most MAX_TABLES."""
        inside = [path for path in self._folder.tables if _folder_of_table(path) == folder.rstrip("/")]

        def is_unnamed(path: str) -> bool:
            name = PurePosixPath(path).name
            return not (part_of(PurePosixPath(name).stem) or is_sample_name(name) or "class" in name.lower())

        return sorted(inside, key=lambda path: (is_unnamed(path), natural(path)))[:MAX_TABLES]

    def _is_list(self, path: str) -> bool:
        columns = self._columns(path, False)
        return columns is not None and bool(columns.label)

    def _columns(self, path: str, has_labels: bool) -> Columns | None:
        """Returns what a table says of the photos; None if it is no list of them."""
        name = PurePosixPath(path).name
        if is_sample_name(name) or name.lower() == "classes.csv":
            return None
        table = self._folder.table(path)
        if table is None or is_fixes(table.columns):
            return None
        return find_columns(table, self._folder.names, has_labels)

    def _lists(self) -> list[PhotoList]:
        """Returns the tables that say something of the photos.

        Raises FovsfeError if it is not clear which, or if the list that was given does not.
        """
        if self._layout == "folders":
            return []
        if given := self._folder.given_list:
            table = self._folder.table(given)
            assert table is not None
            columns = find_columns(table, self._folder.names) or usual_columns(table)
            if columns is None or not columns.label:
                raise FovsfeError(
                    f"{self._root / given}: columns {', '.join(map(str, table.columns))}; one must hold the "
                    "path (path, file, image, id, ...) and another the label (label, class, category, ...)"
                )
            return [PhotoList(given, table, columns, None)]
        tops = self._tops()
        folders = {*self._levels, *(f"{self._prefix}{top}" for top in tops)}
        folders |= {p.path.rpartition("/")[0] for p in self._photos if p.top and "/" not in p.name}
        has_labels = len({photo.folder for photo in self._photos if photo.part != "test"} - {""}) > 1
        if not has_labels:
            folders |= self._folders_of_tables()
        found = []
        for path in dict.fromkeys(path for each in sorted(folders) for path in self._tables_in(each)):
            table, columns = self._folder.table(path), self._columns(path, has_labels)
            top = path[len(self._prefix) :].partition("/")[0]
            part = part_of(PurePosixPath(path).stem) or tops.get(top)
            if table is not None and columns is not None and (columns.label or part):
                found.append(PhotoList(path, table, columns, part))
        return self._chosen(found, has_labels)

    def _folders_of_tables(self) -> set[str]:
        """Returns the folders beside those of the photos that have nothing but tables, such as "meta"."""
        beside = {_folder_of_table(path) for path in self._folder.tables}
        beside = {folder for folder in beside if folder.startswith(self._prefix) and folder}
        return {each for each in beside if not any(p.path.startswith(f"{each}/") for p in self._photos)}

    def _chosen(self, found: list[PhotoList], has_labels: bool) -> list[PhotoList]:
        of_parts = [each for each in found if each.part]
        of_all = [each for each in found if not each.part and each.columns.label]
        if self._layout == "parts" and has_labels:
            return [each for each in of_parts if not each.columns.label]
        if any(each.part == "train" and each.columns.label for each in of_parts):
            return of_parts
        if len(of_all) > 1:
            names = first_few(each.path for each in of_all)
            raise FovsfeError(f"{self._shown}: several lists of photos ({names}); give the path of one")
        return [*of_parts, *of_all]

    def _nothing_listed(self, path: str) -> FovsfeError:
        listed = [photo.path for photo in self._photos if photo.row]
        elsewhere = self._passed_over.counts[reasons.LEADS_OUT]
        first = (listed or self._passed_over.examples.get(reasons.LEADS_OUT) or [""])[0]
        hint = "; --follow-links reads those elsewhere" if elsewhere else ""
        count = counted(len(listed) + elsewhere, "photo")
        return FovsfeError(
            f"{self._root / path}: names {count}, of which none is under {self._root}; first: {first}{hint}"
        )

    # ---- labels, test photos and groups

    def _labelled(self) -> tuple[list[FoundPhoto], list[Placed]]:
        """Returns the labelled photos, and those without a label that are no test photos."""
        listed = [photo for photo in self._photos if photo.row and photo.row.label and photo.part != "test"]
        is_given = self._layout is not None or self._folder.given_list is not None
        if is_given:
            use_folders = self._layout in ("folders", "parts")
        else:
            use_folders = not listed or folders_are_labels(self._root, listed, self._names)
        if not use_folders:  # a list of one part says nothing of the folders of another
            self._labelled_tops -= {photo.top for photo in self._photos if is_given or photo.row}
        photos, unlabelled = [], []
        for photo in self._photos:
            if photo.part == "test":
                continue
            row, part = photo.row or NO_ROW, photo.part or "train"
            if label := row.label or (photo.folder if photo.top in self._labelled_tops else ""):
                found = FoundPhoto(photo.path, part, photo.name, label, row.fold, row.group, photo.top)
                photos.append(found)
            else:
                unlabelled.append(photo)
        return photos, unlabelled

    def _tested(
        self, unlabelled: list[Placed], labels: set[str]
    ) -> tuple[list[FoundPhoto], pd.DataFrame | None]:
        """Returns the test photos, with the ids that the sample submission gives them, and the sample."""
        given = [photo for photo in self._photos if photo.part == "test"]
        tested = given or unlabelled
        sample, found = self._sample(tested)
        if not given:
            tested = [
                photo for photo in tested if photo.path in {p for paths in found.values() for p in paths}
            ]
            for photo in tested:
                photo.part = "test"
        bases = Counter(PurePosixPath(photo.name).name for photo in tested)
        several = len({photo.top for photo in tested}) > 1
        spelling = {paths[0]: name for name, paths in reversed(list(found.items())) if paths}
        result = []
        for photo in tested:
            row = photo.row or NO_ROW
            if row.label or photo.folder in labels:
                self._passed_over.add(reasons.TEST_LABELS, photo.path)
            base = PurePosixPath(photo.name).name
            own = base if bases[base] == 1 else f"{photo.top}/{photo.name}" if several else photo.name
            name = spelling.get(photo.path) if photo.path else photo.name
            result.append(FoundPhoto(photo.path, "test", name or own, group=row.group))
        there = {photo.id for photo in result}
        missing = [name for name, paths in found.items() if not paths and name not in there]
        return result + [FoundPhoto("", "test", name) for name in missing if given or tested], sample

    def _sample(self, photos: list[Placed]) -> tuple[pd.DataFrame | None, Mapping[str, tuple[str, ...]]]:
        """Returns the sample submission that fits best, and name in it -> photo.

        Raises FovsfeError if there is a test part, and the sample names none of its photos, or names one
        ambiguously.
        """
        names = PhotoNames(photo.path for photo in photos if photo.path)
        best_sample: tuple[int, str, pd.DataFrame, Mapping[str, tuple[str, ...]]] | None = None
        for path in [path for folder in self._levels for path in self._tables_in(folder)]:
            if not is_sample_name(PurePosixPath(path).name) or (table := self._folder.table(path)) is None:
                continue
            found = names.find_all([name for name in table.iloc[:, 0] if name.strip()])
            count = sum(map(bool, found.values()))
            if best_sample is None or count > best_sample[0]:
                best_sample = count, path, table, found
        is_test_part = any(photo.part == "test" for photo in photos)
        if best_sample is None or (not best_sample[0] and not is_test_part):
            return None, {}
        count, path, table, found = best_sample
        file = self._root / path
        self._used.add(path)
        self._sample_file = path
        if len(table.columns) < 2:
            raise FovsfeError(f"{file}: must have two columns, the photo and its category")
        if len(table) and not count:
            raise FovsfeError(
                f"{file}: names {counted(len(found), 'photo')}, of which none is there "
                f"(found {counted(len(photos), 'test photo')}); "
                "put the test photos into test/ beside it, or move the file away"
            )
        for name, paths in found.items():
            if len(paths) > 1:
                raise FovsfeError(f'{file}: "{name}" may be {first_few(paths)}; rename all but one of them')
        return table, found

    def _check_sample(self, sample: pd.DataFrame, label_ids: dict[str, str]) -> None:
        file = self._root / self._sample_file
        columns = [str(column) for column in sample.columns]
        try:
            found = probability_columns(columns, label_ids)
        except FovsfeError as error:
            raise FovsfeError(f"{file}: {error}") from error
        if found is None and len(columns) > 2 and is_probabilities(sample):
            raise FovsfeError(
                f"{file}: has a column for each of {first_few(columns[1:])}, but the labels are "
                f"{first_few(label_ids)}; name them alike, or give the names in classes.csv"
            )

    def _tell_unlabelled(self, photos: list[Placed], are_listed: bool) -> None:
        if are_listed:
            for photo in photos:
                self._passed_over.add(reasons.NO_LABEL if photo.row else reasons.NOT_LISTED, photo.path)
            return
        if not photos:
            return
        file = self._root / photos[0].path
        if self._tops():
            raise NoLabels(
                f"{file}: is in no class folder, and no list such as train.csv names it; "
                "move it into its class folder or away"
            )
        if len(photos) == len(self._photos):
            raise NoLabels(
                f"{self._shown}: {counted(len(photos), 'photo')} without labels; "
                f"known layouts: {KNOWN_LAYOUTS}"
            )
        raise NoLabels(f"{file}: is beside the class folders, in none of them; move it into one or away")

    def _give_ids(self, photos: list[FoundPhoto], tested: list[FoundPhoto]) -> None:
        """Puts the folder of its part before an id, if there are several, or a test photo has that id."""
        taken = {photo.id for photo in tested}
        if len({photo.top for photo in photos}) > 1 or any(photo.id in taken for photo in photos):
            for photo in photos:
                photo.id = f"{photo.top or 'train'}/{photo.id}"

    def _group(self, photos: list[FoundPhoto], pattern: re.Pattern[str] | None) -> None:
        if pattern is None:
            return
        for photo in photos:
            match = pattern.search(nfc(photo.path))
            photo.group = (match[1] or "") if match else ""
            if not photo.group and photo.path and photo.part != "test":
                self._passed_over.add(reasons.UNGROUPED, photo.path)
        if not any(photo.group for photo in photos):
            raise UsageError(f"--group-by {pattern.pattern}: matches no photo, such as {photos[0].path}")

    def _moved_root(self, photos: list[FoundPhoto]) -> AnyPath:
        """Returns a folder that has photos elsewhere as well, under which paths lead down only."""
        outside = [photo.path for photo in photos if leads_out(photo.path)]
        here = local_path(self._root)
        if not outside or here is None:
            return self._root
        root = Path(os.path.commonpath([here, *outside]))
        for photo in photos:
            if photo.path:
                photo.path = os.path.relpath(here / photo.path, root)
        return root

    # ---- in words

    def parts_in_words(self) -> str:
        """Returns which folder is which part; "" if none is."""
        tops = sorted(self._tops().items(), key=lambda each: ("train", "val", "test").index(each[1]))
        return ", ".join(f"{folder}/ is {part}" for folder, part in tops)

    def _described(
        self, layout: str, lists: list[PhotoList], table: pd.DataFrame, sample: pd.DataFrame | None
    ) -> Iterator[str]:
        """Yields how the folder was read, line by line."""
        where = f" in {self._prefix}" if self._prefix else ""
        parts = self.parts_in_words()
        yield f"layout: {layout}{where}" + (f" ({parts})" if parts else "")
        listed = [f"{each.path} ({each.columns.described()})" for each in lists if each.columns.label]
        has_folders = any(
            p.folder and not p.row and p.part != "test" and p.top in self._labelled_tops for p in self._photos
        )
        sources = [*listed, *(["the names of folders"] if has_folders else [])]
        yield f"labels: from {' and '.join(sources)}"
        labelled = table[table["split"] == "train"]
        if (validating := int((labelled["given_fold"] != "").sum())) and validating < len(labelled):
            yield (
                f"validation: {counted(validating, 'photo is', 'photos are')} given, and held out; "
                "--set split.given=pool divides all labelled photos instead"
            )
        elif validating:
            count = labelled["given_fold"].nunique()
            yield f"validation: {count} folds are given by the list; --set split.given=pool makes new ones"
        if sample is not None:
            yield f"sample submission: {self._sample_file}, {counted(len(sample), 'row')}"
        if (groups := labelled.loc[labelled["together"] != "", "together"]).size:
            yield f"groups: {groups.nunique()}, each on one side of every split"
        folders = {photo.folder for photo in self._photos if photo.part != "test"} - {""}
        if self._layout is None and len(folders) > 1 and (layout == "parts" or listed):
            yield "other reading: --layout folders takes each folder for a label"
        for each in lists:
            if len(each.columns.label) == 1 and (others := other_labels(each.table, each.columns)):
                yield f'{each.path} also has {first_few(others)}; a column called "label" is taken first'
        if layout == "folders" and self._layout is None:
            yield from self._doubts()

    def _doubts(self) -> Iterator[str]:
        """Yields why the folders that are taken for labels may be something else."""
        inside: dict[str, set[str]] = {}
        for photo in self._photos:
            first, _, rest = photo.name.partition("/")
            inside.setdefault(first, set()).add(rest.rpartition("/")[0].partition("/")[0])
        folders, deeper = list(inside), list(inside.values())
        if look_like_parts(folders):
            yield (
                f"doubt: {first_few(folders)} are taken for labels; if they are parts, give each label a "
                "folder in train, valid and test"
            )
        elif all(each == deeper[0] for each in deeper) and len(deeper[0]) > 1 and "" not in deeper[0]:
            yield (
                f"doubt: each of these folders has {first_few(sorted(deeper[0]))}; if those are the labels, "
                "call the folders around them train, valid and test"
            )
        elif any(len(each) > 1 for each in deeper):
            label = next(folder for folder, each in inside.items() if len(each) > 1)
            within = first_few(sorted(inside[label] - {""}))
            yield f"folders in those of labels, such as {within} in {label}/, are no labels of their own"


def _from_shards(root: AnyPath, follow_links: bool) -> PhotoListing:
    index, table = shards.read_shards(root)
    if not follow_links and any(is_linked_out(root, shard.name) for shard in index.shards):
        raise FovsfeError(f"{root}: shards are links that lead out of the folder; --follow-links reads them")
    file = root / shards.SAMPLE
    sample = read_table(root, shards.SAMPLE, "utf-8", PassedOver()) if exists(file) else None
    return PhotoListing(
        root,
        "shards",
        table.assign(together=pd.Series("", table.index, dtype=object))[COLUMNS],
        tuple(index.class_names),
        index.label_ids,
        sample,
        reading=(f"layout: shards, packed from {index.layout}",),
    )


def _compiled(group_by: str | None) -> re.Pattern[str] | None:
    if group_by is None:
        return None
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(f"--group-by {group_by}: no regular expression ({error})") from error
    if not pattern.groups:
        raise UsageError(f"--group-by {group_by}: has no group; put what photos share into parentheses")
    return pattern


def _is_packed_table(name: str) -> bool:
    """Returns whether a name is that of an archive of one table, such as "train.csv.zip"."""
    return is_archive_name(name) and is_table_name(stem_of(name))


def _folder_of_table(path: str) -> str:
    """Returns the folder that a table is in; the archive of one table is none."""
    folder = path.rpartition("/")[0]
    above, _, last = folder.rpartition("/")
    return above if _is_packed_table(last) else folder


def _entries(folder: AnyPath) -> list[Entry]:
    return [entry for entry in list_folder(folder) if not is_hidden(entry.name)]


def _inventory(root: AnyPath) -> str:
    if not is_dir(root):
        return "found nothing else"
    entries = _entries(root)
    suffixes = Counter(PurePosixPath(e.name).suffix or e.name for e in entries if e.kind == "file")
    folders = [entry.name for entry in entries if entry.kind == "folder"]
    files = [f"{count} {suffix}" for suffix, count in suffixes.most_common(3)]
    return f"found folders {first_few(folders) if folders else 'none'}, files {', '.join(files) or 'none'}"
