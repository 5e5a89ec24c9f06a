"""What lists say of photos: which photo each row means, and whether lists and folders agree."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos.lists import Columns, Row, read_rows
from fovsfe.photos.names import Part, PhotoNames, case_folded, first_few, plain_path
from fovsfe.photos.passed_over import LEADS_OUT, PassedOver
from fovsfe.photos.places import Placed
from fovsfe.photos.reader import leads_out, local_path
from fovsfe.storage.locations import AnyPath, is_file, is_url


@dataclass(frozen=True)
class PhotoList:
    """A list of photos among the tables of a folder."""

    path: str
    table: pd.DataFrame
    columns: Columns
    part: Part | None
    """the part whose photos it lists, by its name or the folder that it lies in"""

    @property
    def has_uploads(self) -> bool:
        """Whether Label Studio wrote it, which names photos by where it serves them."""
        return self.columns.label == ("choice",)


class Lists:
    """Gives photos what lists say of them.

    Args:
        root: the folder that paths are relative to.
        photos: those of the folder; photos of lists that are elsewhere, or not there, are added.
        follow_links: whether lists may name photos outside of the folder.
        are_links_refused: whether photos that links lead out of the folder are outside as well.
        passed_over: is told of photos outside.
    """

    def __init__(
        self,
        root: AnyPath,
        photos: list[Placed],
        follow_links: bool,
        are_links_refused: bool,
        passed_over: PassedOver,
    ) -> None:
        self._root, self._photos, self._passed_over = root, photos, passed_over
        self._follow_links, self._are_links_refused = follow_links, are_links_refused
        self._by_path = {photo.path: photo for photo in photos}
        self.found = 0
        """the rows whose photo is there"""

    def apply(self, each: PhotoList) -> None:
        """Gives photos the rows of a list.

        A list of a part is of the photos of that part, and of those in no part; a list of all is of the test
        photos only if there are no others.

        Raises FovsfeError if a row means several photos, or a photo has two labels.
        """
        file = str(self._root / each.path)
        rows = read_rows(file, each.table, each.columns, self._passed_over)
        for part, of_part in groupby(sorted(rows, key=lambda row: row.part or ""), lambda row: row.part):
            chosen = list(of_part)
            names = PhotoNames(photo.path for photo in self._scope(part, each.part))
            near = [row.written for row in chosen if not self._is_elsewhere(row.written, each)]
            found = names.find_all(near)
            for row in chosen:
                paths = self._in_folder_of_label(found.get(row.written, ()), row)
                if len(paths) > 1:
                    raise FovsfeError(
                        f'{file}: row {row.line}: "{row.written}" may be {first_few(paths)}; write its path'
                    )
                path = paths[0] if paths else _path_under(self._root, row.written)
                self._put(path, row, each)

    def _scope(self, of_row: Part | None, of_list: Part | None) -> Sequence[Placed]:
        part = of_row or of_list
        if part is None:
            return [photo for photo in self._photos if photo.part != "test"] or self._photos
        inside = [photo for photo in self._photos if photo.part in (part, None)]
        # A column says more than folders do, which may be of another division.
        return self._photos if of_row and not inside else inside

    def _in_folder_of_label(self, paths: tuple[str, ...], row: Row) -> tuple[str, ...]:
        labelled = [path for path in paths if case_folded(row.label) in case_folded(path).split("/")[:-1]]
        return tuple(labelled) if len(paths) > 1 and len(labelled) == 1 else paths

    def _is_elsewhere(self, written: str, each: PhotoList) -> bool:
        """Returns whether a name is that of a file which the search has not found, or of a URL."""
        name = plain_path(written)
        if is_url(name):
            return not each.has_uploads
        path = _path_under(self._root, name)
        is_here = local_path(self._root) is not None
        return path not in self._by_path and is_here and is_file(self._root / path)

    def _put(self, path: str, row: Row, each: PhotoList) -> None:
        part = row.part or each.part
        photo = self._by_path.get(path)
        is_there = photo is not None and bool(photo.path)
        if self._is_outside(path, is_there) and (
            not self._follow_links or is_url(path) or local_path(self._root) is None
        ):
            self._passed_over.add(LEADS_OUT, row.written)
            return
        if photo is None:
            is_file_here = local_path(self._root) is not None and is_file(self._root / path)
            self.found += is_file_here
            is_gone = part == "test" and not is_file_here
            photo = Placed("" if is_gone else path, row.written if is_gone else path, "", part)
            self._by_path[path] = photo
            self._photos.append(photo)
        elif photo.row is None:
            self.found += 1
        if photo.row is not None and photo.row.label and row.label and photo.row.label != row.label:
            raise FovsfeError(
                f'{self._root / each.path}: {path} has two labels, "{photo.row.label}" and "{row.label}"; '
                "keep one"
            )
        if photo.row is None or row.label:
            photo.row, photo.list_path = row, each.path
        photo.part = part or photo.part

    def _is_outside(self, path: str, is_there: bool) -> bool:
        if leads_out(path):
            return True
        return (self._are_links_refused or not is_there) and is_linked_out(self._root, path)


def folders_are_labels(root: AnyPath, photos: Sequence[Placed], names: Mapping[str, str]) -> bool:
    """Returns whether the folders are labels, too, where a list has some: if they say the same.

    Args:
        root: what messages name.
        photos: those that a list has, with their folders.
        names: category -> label; both may be written.

    Raises FovsfeError if a list and the folders agree about some photos, and not about others.
    """
    agree, contradiction = False, None
    for photo in photos:
        if photo.row is None or not photo.row.label or not photo.folder:
            continue
        if names.get(photo.row.label, photo.row.label) == names.get(photo.folder, photo.folder):
            agree = True
        else:
            contradiction = photo
    if agree and contradiction is not None and contradiction.row is not None:
        raise FovsfeError(
            f'{root / contradiction.list_path}: says "{contradiction.row.label}" for {contradiction.path}, '
            f'which is in "{contradiction.folder}"; correct one, or take --layout list or folders'
        )
    return agree


def _path_under(root: AnyPath, written: str) -> str:
    """Returns a path of a list as one under `root` if it leads there, and else as an absolute one."""
    name = plain_path(written)
    if (here := local_path(root)) is None or is_url(name):
        return name if is_url(name) else os.path.normpath(name)
    path = os.path.normpath(here / name)
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else path


def is_linked_out(root: AnyPath, path: str) -> bool:
    """Returns whether links on the way lead a path out of its folder. At a URL there are none."""
    here = local_path(root)
    return here is not None and not (here / path).resolve().is_relative_to(here.resolve())
