"""What the place of each photo says: the part of the data set that it is in, and the folder of its label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fovsfe.photos.lists import Row
from fovsfe.photos.names import Part, is_generic_folder, nfc, part_of, parts_of_subject
from fovsfe.photos.reader import ARCHIVES


@dataclass
class Placed:
    """A photo, what its place says of it and, later, what a list says."""

    path: str
    """under the root; "" if it is not there"""
    name: str
    """its path in its part"""
    top: str = ""
    """the folder or archive of its part; "" if it is in none"""
    part: Part | None = None
    row: Row | None = None
    list_path: str = ""
    """the list that has the row; "" if none has"""

    @property
    def folder(self) -> str:
        """The first folder in its part, which may be its label; "" if it is in none."""
        first, slash, _ = self.name.partition("/")
        return nfc(stem_of(first)) if slash else ""


def place(paths: Iterable[str], prefix: str, may_have_parts: bool) -> list[Placed]:
    """Returns each photo with its part.

    Args:
        paths: of the photos, under the root.
        prefix: the folder in which the layout begins, with "/" at its end, or "".
        may_have_parts: whether folders such as train and test are parts; else all folders may be labels.
    """
    photos = [Placed(path, path[len(prefix) :]) for path in paths]
    if not may_have_parts:
        return photos
    names = [photo.name for photo in photos]
    tops = parts_among(name.partition("/")[0] for name in names if "/" in name)
    inner = _inner_parts(names) if not tops else {}
    for photo in photos:
        first, slash, inside = photo.name.partition("/")
        if slash and first in tops:
            photo.top, photo.part, photo.name = first, tops[first], inside
        elif inner:
            second, _, rest = inside.partition("/")
            photo.top, photo.part, photo.name = second, inner[second], f"{first}/{rest}"
    for top in tops:
        _strip_generic_folders([photo for photo in photos if photo.top == top])
    return photos


def parts_among(folders: Iterable[str]) -> dict[str, Part]:
    """Returns those of the folders and archives that are parts by their names: name -> part."""
    names = sorted(set(folders))
    parts = {folder: part for folder in names if (part := part_of(stem_of(folder)))}
    if not parts:
        of_stem = parts_of_subject(map(stem_of, names))
        parts = {name: of_stem[stem_of(name)] for name in names if stem_of(name) in of_stem}
    # An archive beside the folder of the same name is what that was unpacked from.
    return {name: part for name, part in parts.items() if stem_of(name) == name or stem_of(name) not in parts}


def treat_train_as_label(photos: Sequence[Placed]) -> None:
    """Treats "train" beside "bus" and "car" as a label: photos without labels are in no part of their own."""
    others = {photo.folder for photo in photos if not photo.top and photo.folder}
    trained = [photo for photo in photos if photo.part == "train"]
    if others and not any(photo.folder or photo.row for photo in trained):
        for photo in trained:
            photo.name, photo.top, photo.part = f"{photo.top}/{photo.name}", "", None


def stem_of(name: str) -> str:
    """Returns the name of a folder or archive, without an archive's suffix."""
    return next((name[: -len(suffix)] for suffix in ARCHIVES if name.lower().endswith(suffix)), name)


def _inner_parts(names: Sequence[str]) -> dict[str, Part]:
    """Returns the parts if every label has its own, as in CLASS/train/PHOTO: name -> part."""
    inner = {name.split("/")[1] if name.count("/") > 1 else "" for name in names}
    parts = parts_among(inner)
    return parts if parts.keys() == inner and "train" in parts.values() else {}


def _strip_generic_folders(photos: Sequence[Placed]) -> None:
    """Takes away folders that all photos of a part are in: train/images, or cars_train/cars_train."""
    while len(tops := {photo.name.partition("/")[0] for photo in photos}) == 1:
        inside, top = [photo.name.partition("/")[2] for photo in photos], tops.pop()
        is_no_label = is_generic_folder(top) or top == stem_of(photos[0].top)
        if not all(inside) or not (is_no_label or all("/" in name for name in inside)):
            return
        for photo, name in zip(photos, inside, strict=True):
            photo.name = name
